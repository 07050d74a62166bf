//! What follows from an excess: blocks, from their beginning to their end.

pub(crate) mod book;
pub(crate) mod entry;
pub(crate) mod keeper;
pub(crate) mod life;
pub(crate) mod offences;
pub(crate) mod placing;
pub(crate) mod removal;
pub(crate) mod standing;
