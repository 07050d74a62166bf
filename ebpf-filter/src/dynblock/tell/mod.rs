//! Who hears of blocks: events, the list, the numbers, the file.

pub(crate) mod counters;
pub(crate) mod notice;
mod state;
pub(crate) mod view;
