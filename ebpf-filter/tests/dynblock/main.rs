//! Dynamic blocks, as whoever uses the library sees them.
//!
//! Time is a fake clock that tests advance, and the filter one of user space, so nothing here needs privileges. Numbers of
//! dnsdist's own unit tests (`test-dnsdistdynblocks_hh.cc`) are used where the meaning is the same. It is not everywhere:
//!
//! - dnsdist counts the entries of a ring buffer within a window once a second. Here, every packet is decided on at once, by a
//!   bucket of rate × window that refills evenly. Who sends more than rate × window at once or evenly is blocked by both. But
//!   dnsdist forgets a burst only after the whole window, and the bucket refills meanwhile.
//! - A ratio is taken of what came in about one window, halved twice a window, and not of a window that slides over entries.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod caps;
mod common;
mod events;
mod inputs;
mod ladder;
mod legacy;
mod life;
mod placing;
mod rates;
mod ratios;
mod restart;
mod stress;
mod suffixes;
mod tiers;
mod time;
