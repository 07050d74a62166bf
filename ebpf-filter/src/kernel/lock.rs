//! Who may change rules that processes share: who holds a lock on the directory of the pins (flock(2)). The kernel takes it back
//! when its holder dies.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::KernelError;

/// The directory.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    directory: PathBuf,
}

/// Nobody else holds it as long as this lives: no other process, and no other [`Lock`].
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Lock);

impl Lock {
    pub(super) const fn new(file: File, directory: PathBuf) -> Self {
        Self { file, directory }
    }

    /// Waits for whoever holds it.
    pub(crate) fn hold(&self) -> Result<Held<'_>, KernelError> {
        flock(&self.file, FlockOperation::LockExclusive).map_err(|source| KernelError {
            operation: "lock",
            map: "directory of the pins",
            source,
        })?;
        Ok(Held(self))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let unlocked = flock(&self.0.file, FlockOperation::Unlock);
        debug_assert!(unlocked.is_ok(), "the descriptor is open");
    }
}

/// flock(2), whatever signals come.
pub(super) fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}
