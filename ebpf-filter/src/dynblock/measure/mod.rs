//! Who exceeds a limit: what is counted, of whom, and how far it is from too much.

pub(super) mod hash;
pub(crate) mod limiter;
pub(crate) mod meter;
pub(crate) mod rate;
pub(crate) mod ratio;
pub(crate) mod rule;
pub(crate) mod slots;
pub(crate) mod suffix_limit;
pub(crate) mod tiers;
