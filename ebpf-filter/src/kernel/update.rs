//! Writing to a map that others write to as well.

/// What an update does about an entry that there is, or is not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Update {
    /// The entry is new, or nothing is done: `BPF_NOEXIST`.
    Insert,
    /// There is an entry, or nothing is done: `BPF_EXIST`.
    Change,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Updated {
    Done,
    /// There is an entry already.
    Duplicate,
    /// There is no entry.
    Missing,
    /// There is no room for another one.
    Full,
}
