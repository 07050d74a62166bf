//! Where pins may be.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _},
    },
    path::{Component, Path},
};

use rustix::{fs::statfs, process::geteuid};

use super::failed;
use crate::PinError;

/// `BPF_FS_MAGIC` in `linux/magic.h`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
const WRITABLE_BY_OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;
const PERMISSIONS: u32 = 0o7777;

/// Whether a pin may have this path: it is absolute and in a BPF file system, and nobody but this user and root can replace
/// what is there. Changes nothing.
pub(in crate::kernel) fn check(path: &Path) -> Result<(), PinError> {
    let wrong = |reason| Err(PinError::Path { path: path.to_owned(), reason });
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return wrong("it must begin with /");
    }
    if parts.any(|part| !matches!(part, Component::Normal(_))) || path.as_os_str().as_bytes().ends_with(b"/")
    {
        return wrong("it must be the plain path of a file, without `..` and without / at its end");
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return wrong("it has a zero byte");
    }
    let (directory, metadata) = existing_parent(path)?;
    let file_system = statfs(directory).map_err(|error| failed("look at", directory, error.into()))?;
    if !is_bpffs(&file_system) {
        return Err(PinError::NotOnBpffs { path: path.to_owned(), directory: directory.to_owned() });
    }
    if !metadata.is_dir() {
        return wrong("it leads through a pin");
    }
    let new = path.strip_prefix(directory).unwrap_or(path);
    if new.as_os_str().as_bytes().contains(&b'.') {
        return wrong("names in a BPF file system have no dots");
    }
    trusted(directory, &metadata)?;
    // Whoever may add names to a sticky directory may not remove those of others.
    let mode = metadata.mode() & PERMISSIONS;
    if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
        return Err(PinError::Writable { path: directory.to_owned(), found: mode });
    }
    Ok(())
}

/// Whether something is there that may be opened.
pub(super) fn is_pin(path: &Path) -> Result<bool, PinError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("look at", path, error)),
    };
    // The kernel shows pins as regular files.
    let kind = metadata.file_type();
    let other = [(kind.is_dir(), "directory"), (kind.is_socket(), "socket"), (kind.is_fifo(), "pipe")];
    if let Some((_, found)) = other.into_iter().find(|(is, _)| *is) {
        return Err(PinError::NotAMap { path: path.to_owned(), found: found.to_owned() });
    }
    trusted(path, &metadata)?;
    let mode = metadata.mode() & PERMISSIONS;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(PinError::Writable { path: path.to_owned(), found: mode });
    }
    Ok(true)
}

/// Creates the directories that a path needs, for this user alone.
pub(super) fn create_parent(path: &Path) -> Result<(), PinError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|error| failed("create the directory", parent, error))
}

/// The last directory of the path that exists, the file itself aside.
fn existing_parent(path: &Path) -> Result<(&Path, Metadata), PinError> {
    for directory in path.ancestors().skip(1) {
        match fs::metadata(directory) {
            Ok(metadata) => return Ok((directory, metadata)),
            // The last is what a BPF file system says of names with dots.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EPERM)) => {}
            Err(error) => return Err(failed("look at", directory, error)),
        }
    }
    Err(failed("look at", path, io::ErrorKind::NotFound.into()))
}

/// Whether this belongs to somebody who may do anything here anyway.
fn trusted(path: &Path, metadata: &Metadata) -> Result<(), PinError> {
    let (expected, found) = (geteuid().as_raw(), metadata.uid());
    if found == expected || found == 0 {
        return Ok(());
    }
    Err(PinError::Owner { path: path.to_owned(), expected, found })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::allow_attributes,
    reason = "the type of the number differs between architectures"
)]
fn is_bpffs(file_system: &rustix::fs::StatFs) -> bool {
    file_system.f_type as u32 == BPF_FS_MAGIC
}
