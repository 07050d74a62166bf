//! What can be wrong with a place for a pin, or with what is pinned there.

use std::{io, path::PathBuf, sync::Arc};

use crate::Unavailable;

/// Why maps cannot be pinned, or why what is pinned cannot be used. Nothing was changed then: whatever is pinned already is
/// looked at before anything is created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// No pin can have this path.
    #[error("{} cannot be the path of a pin: {reason}", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The path is not in a BPF file system: see "BPF filesystem" in the kernel's documentation of BPF, and mount(8).
    #[error(
        "{} is not in a BPF file system: choose a path below /sys/fs/bpf, and run `mount -t bpf bpf /sys/fs/bpf` if nothing \
         is mounted there",
        .path.display()
    )]
    NotOnBpffs {
        /// The path.
        path: PathBuf,
        /// The directory that was looked at: the last one of the path that exists.
        directory: PathBuf,
    },
    /// A pin, or the directory that it is in, belongs to somebody who could put anything there.
    #[error(
        "{} belongs to the user {found}, not to {expected}{}: run as its owner, run `chown {expected} {0}`, or choose another path",
        .path.display(),
        if *.expected == 0 { "" } else { " or root" }
    )]
    Owner {
        /// The pin or the directory.
        path: PathBuf,
        /// The effective user id of this process. Root is trusted as well.
        expected: u32,
        /// The user id of the owner.
        found: u32,
    },
    /// Everybody may write to a pin, or to the directory that it is in.
    #[error(
        "everybody may write to {} (mode {found:04o}): run `chmod o-w {0}` once it is clear who has written to it",
        .path.display()
    )]
    Writable {
        /// The pin or the directory.
        path: PathBuf,
        /// Its permissions.
        found: u32,
    },
    /// Something else than a map is there.
    #[error("{} is a {found}, not a map: choose another path, or remove it if nobody uses it", .path.display())]
    NotAMap {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The map that is pinned is another one than was asked for.
    #[error(
        "the map pinned at {} has another {property}: {found}, where {expected} is expected; ask for what it has, choose \
         another path, or remove the pin if nobody uses it",
        .path.display()
    )]
    Mismatch {
        /// The pin.
        path: PathBuf,
        /// In what it differs, as bpf(2) and `bpftool map show` have it: `type`, `key_size`, `value_size`, `max_entries` or `map_flags`.
        property: &'static str,
        /// What was asked for.
        expected: String,
        /// What it has.
        found: String,
    },
    /// The maps of a filter were pinned by another version of this library, which reads them in another way.
    #[error(
        "the pins in {} have version {found} of the layout, where {expected} is expected: run `rm -r {0}` to start anew without \
         their rules, or choose another `pin_dir`",
        .directory.display()
    )]
    Version {
        /// The directory of the pins.
        directory: PathBuf,
        /// The version that this library knows.
        expected: u32,
        /// The version that they have.
        found: u32,
    },
    /// Some of the maps of a filter are not there, or the directory is for something else.
    #[error(
        "{} is not the whole of a filter: there is no {}; run `rm -r {0}` to start anew if nobody uses it, or choose another \
         `pin_dir`",
        .directory.display(), .missing.join(", no ")
    )]
    Incomplete {
        /// The directory of the pins.
        directory: PathBuf,
        /// The pins that are not there.
        missing: Vec<&'static str>,
    },
    /// The kernel does not let this process create, pin or open maps.
    #[error("the kernel refuses to {action} {}", .path.display())]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why, and what to do about it.
        source: Arc<Unavailable>,
    },
    /// A system call failed.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
