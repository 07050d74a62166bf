//! The harness of the end-to-end tests: real sockets, real packets, the real kernel.
//!
//! | module | what it is for |
//! |---|---|
//! | [`privilege`] | skips a test, loudly, where the machine cannot run it |
//! | [`netns`] | a network namespace for one test, and others beside it |
//! | [`wire`] | a guarded UDP socket and its clients; says which packets arrive, without waiting for those that do not |
//! | [`tcp`] | clients whose connection attempts may go unanswered |
//! | [`packet`], [`headers`] | packets that are made by hand, with headers that few senders use |
//! | [`tun`] | an interface from which such packets come, with or without Ethernet headers |
//! | [`gate`] | guarded sockets behind it |
//! | [`link`] | a link to another namespace: tunnels and VLANs |
//! | [`dns`] | queries and answers, made by hickory-proto, and queries that it would not make |
//! | [`limited`], [`dnsdist`] | servers that block who asks too much, and a client that does |
//! | [`world`] | the same test body against the kernel and against user space |
//! | [`model`] | what a filter must do, stated plainly, and packets and changes to try it with |
//! | [`child`] | a test body in a process with fewer capabilities, or in one that is killed |
//! | [`shared_maps`] | a program in C that reads and writes the pinned maps of an `ExternalFilter` |
//! | [`pins`] | directories for pins, and what is in them |
//! | [`fork`] | copies of a process that are killed in the middle of what they do |
//! | [`programs`] | which programs the kernel holds |
//! | [`socket_option`] | socket options that no crate has |
//!
//! Whatever goes wrong in here fails the test that called it, so most functions panic.

#![allow(clippy::missing_panics_doc, reason = "a panic is how a test fails")]

pub mod child;
pub mod dns;
pub mod dnsdist;
pub mod fork;
pub mod gate;
pub mod headers;
pub mod limited;
pub mod link;
pub mod model;
pub mod netns;
pub mod packet;
pub mod pins;
pub mod privilege;
pub mod programs;
pub mod shared_maps;
pub mod socket_option;
mod sys;
pub mod tcp;
pub mod tun;
pub mod wire;
pub mod world;

use ebpf_filter::{BpfFilter, Match};

/// How many packets the rule for `of` has matched.
#[track_caller]
pub fn hits(filter: &BpfFilter, of: &Match) -> u64 {
    let stats = filter.stats().expect("the kernel counts");
    match stats.rules.iter().find(|entry| entry.rule.matches == *of) {
        Some(entry) => entry.hits,
        None => panic!("no rule for {of} in\n{stats}"),
    }
}
