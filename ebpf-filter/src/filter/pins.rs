//! Rules that outlive the process.

use std::{path::PathBuf, sync::PoisonError};

use ebpf_prog::rule::Maker;

use crate::{BpfFilter, Match, PinError};

impl BpfFilter {
    /// Removes the pins, and the directory if nothing else is in it. This filter and all that share its rules by now go on with
    /// them until they are dropped; whoever builds a filter with the same directory after that begins anew. Nothing happens if
    /// the rules are not pinned, or not any more.
    ///
    /// # Errors
    ///
    /// If a pin or the directory cannot be removed.
    pub fn unpin(&self) -> Result<(), PinError> {
        self.inner.engine.memory().shared.as_ref().map_or(Ok(()), |shared| shared.lock.unpin())
    }

    /// Where the rules are pinned.
    pub(super) fn pin_dir(&self) -> Option<PathBuf> {
        let shared = self.inner.engine.memory().shared.as_ref()?;
        Some(shared.lock.directory().to_owned())
    }

    /// Whether the rule for this match is of a dynamic block that another process has left, and nobody has taken it over since.
    /// Whoever is told so has it.
    pub(crate) fn inherit(&self, of: &Match) -> bool {
        let mut inherited = self.inner.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        if !inherited.remove(of) {
            return false;
        }
        drop(inherited);
        let engine = &self.inner.engine;
        engine.reader().maker(engine.memory(), of) == Some(Maker::Block)
    }
}
