//! Everything that the kernel and user space must agree on, and the kernel programs themselves.
//!
//! The rule semantics of `ebpf-filter` exist once, here, and are compiled twice: for the kernel (`src/bin/`,
//! target `bpfel-unknown-none`) and for the host, where the user-space engine, the property tests and the fuzz
//! targets call the same functions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`message`] | the part of a DNS message that a decision reads, and its question |
//! | [`name`] | the walk over a name in wire form |
//! | [`canonical`] | names in canonical form, for rules |
//! | [`shape`] | what tells most names without a rule at a glance |
//! | [`table`] | hash tables in memory that both sides share |
//! | [`rule`], [`names`] | the rules in them: what every rule has, sources; names |
//! | [`sightings`] | where malformed messages came from |
//! | [`lengths`] | the lengths of prefixes that ranges have |
//! | [`action`] | what rules do, and what comes of it |
//! | [`layout`] | names of maps and programs, and what a program reads first |
//! | [`format`](mod@format) | what says of maps that outlive a process how they are to be read |
//! | [`decision`] | the decision function, generic over the packet and the rules |
//! | [`object`] | the built programs, ready to be loaded |
//!
//! This crate is an implementation detail of `ebpf-filter`: it has no stable interface of its own.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(
    clippy::inline_always,
    reason = "one function for the verifier: calls cost packets time and hide bounds"
)]

#[cfg(not(target_arch = "bpf"))]
extern crate alloc;

pub mod action;
#[cfg(not(target_arch = "bpf"))]
pub mod canonical;
pub mod decision;
#[cfg(not(target_arch = "bpf"))]
pub mod format;
pub mod layout;
pub mod lengths;
mod malformed;
pub mod message;
pub mod name;
pub mod names;
#[cfg(not(target_arch = "bpf"))]
pub mod object;
pub mod rule;
pub mod shape;
mod shared;
pub mod sightings;
pub mod table;
pub mod turns;
mod words;

pub use malformed::Malformed;
