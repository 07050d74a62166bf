//! What a filter must do, stated plainly; and rules, packets and changes to try it with.
//!
//! The statement shares nothing with `ebpf-prog` but the public types of rules: it goes over all rules for every packet,
//! and over names label by label. The property tests, the fuzz targets and the replay of their corpora compare the
//! library with it, in user space and in the kernel.
//!
//! | module | what it is for |
//! |---|---|
//! | [`what`] | what rules match, and in which order they are asked |
//! | [`question`] | reading the question of a message |
//! | [`rules`] | the rules in force: changing them, and deciding by them |
//! | [`bytes`] | choices that are made of bytes: at random, by a fuzzer, or of a file |
//! | [`names`], [`sources`] | few of them, and close to each other, so that rules and packets meet |
//! | [`packets`], [`steps`] | messages, and changes of rules |
//! | [`frame`] | packets as `BPF_PROG_TEST_RUN` takes them |
//! | [`trial`] | takes filters through such steps, and compares them with the statement |
//! | [`fuzz`] | what the fuzz targets make of an input |

pub mod bytes;
pub mod frame;
pub mod fuzz;
pub mod names;
pub mod packets;
pub mod question;
pub mod rules;
pub mod sources;
pub mod steps;
pub mod trial;
pub mod what;
