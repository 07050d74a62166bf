//! Whoever changes rules, for as long as nobody else may.

use std::{
    ops::{Deref, DerefMut},
    sync::{MutexGuard, PoisonError},
    thread,
};

use super::{Engine, Writer, shared::Shared};
use crate::{KernelError, kernel::Held};

/// The writer, and the lock of the pins if there are any.
#[derive(Debug)]
pub(crate) struct Changing<'a> {
    /// Let go of before the writer: the next one in this process has to take it anew.
    _held: Option<Held<'a>>,
    writer: MutexGuard<'a, Writer>,
    shared: Option<&'a Shared>,
}

impl Engine {
    /// Who changes rules holds this.
    ///
    /// If others have changed rules since, what is known of them is found out anew: that is a walk over all places.
    pub(crate) fn writer(&self) -> Result<Changing<'_>, KernelError> {
        let mut writer = self.own_writer();
        let Some(shared) = &self.memory.shared else {
            return Ok(Changing { _held: None, writer, shared: None });
        };
        let held = shared.lock()?;
        if writer.sharing.seen != Some(shared.generation()) {
            self.catch_up(&mut writer, shared);
        }
        Ok(Changing { _held: Some(held), writer, shared: Some(shared) })
    }

    /// Who looks at rules that must not change meanwhile holds this. Less than [`Engine::writer`] if others have changed them:
    /// only what somebody has left half done is put right.
    pub(crate) fn reader(&self) -> Changing<'_> {
        let mut writer = self.own_writer();
        let Some(shared) = &self.memory.shared else { return Changing { _held: None, writer, shared: None } };
        let held = match shared.lock() {
            Ok(held) => Some(held),
            Err(error) => {
                tracing::warn!(%error, "rules are read while another process may change them");
                None
            }
        };
        if held.is_some() && shared.generation() % 2 == 1 {
            self.catch_up(&mut writer, shared);
        }
        writer.set_retired(shared.retired());
        Changing { _held: held, writer, shared: Some(shared) }
    }

    fn own_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the rules as they are, and puts right what is half done.
    fn catch_up(&self, writer: &mut Writer, shared: &Shared) {
        let generation = shared.generation();
        let (adopted, repaired) = writer.adopt(&self.memory, shared.policy());
        *writer = adopted;
        writer.sharing.caught_up = true;
        writer.set_retired(shared.retired());
        if generation % 2 == 1 || repaired {
            tracing::info!(repaired, "a process has died, or memory was damaged, while rules were changed");
            self.set_policy(writer.policy());
            writer.sharing.seen = Some(shared.finish(writer));
        } else {
            writer.sharing.seen = Some(generation);
        }
    }
}

impl Deref for Changing<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // Whoever panics may leave something half done: the next one looks.
        if let Some(shared) = self.shared
            && self.writer.sharing.is_changing
            && !thread::panicking()
        {
            self.writer.sharing.is_changing = false;
            self.writer.sharing.seen = Some(shared.finish(&self.writer));
        }
    }
}
