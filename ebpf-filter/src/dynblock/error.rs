//! Why a group cannot be built.

use std::{io, path::PathBuf};

use super::{RateError, RatioError};

/// Why a group cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DynBlockError {
    /// A rate that cannot be measured.
    #[error("the limit of rule {number} ({kind}) cannot be used")]
    Rate {
        /// Which rule, counted from 1.
        number: usize,
        /// Its kind.
        kind: &'static str,
        /// What is wrong.
        source: RateError,
    },
    /// A ratio that cannot be measured.
    #[error("the limit of rule {number} ({kind}) cannot be used")]
    Ratio {
        /// Which rule, counted from 1.
        number: usize,
        /// Its kind.
        kind: &'static str,
        /// What is wrong.
        source: RatioError,
    },
    /// A penalty that does nothing, or that cannot be.
    #[error("the penalty of rule {number} ({kind}) cannot be used: {problem}")]
    Penalty {
        /// Which rule, counted from 1.
        number: usize,
        /// Its kind.
        kind: &'static str,
        /// What to change.
        problem: &'static str,
    },
    /// A prefix longer than an address, or none of the limit.
    #[error(
        "no clients can be counted by prefixes of length {len} with {multiple} times the limit: lengths go up to {max}, \
         multiples start at 1"
    )]
    PrefixLength {
        /// The length.
        len: u8,
        /// How many times the limit.
        multiple: u32,
        /// The longest prefix of an address of this kind.
        max: u8,
    },
    /// The same length twice.
    #[error("the prefix length {len} is there twice: remove one")]
    RepeatedPrefixLength {
        /// The length.
        len: u8,
    },
    /// Too many lengths.
    #[error("too many prefix lengths: {max} are possible for each of IPv4 and IPv6")]
    TooManyPrefixLengths {
        /// The most there may be.
        max: usize,
    },
    /// A default action that cannot be.
    #[error("the default action of the group cannot be used: {problem}")]
    DefaultAction {
        /// What to change.
        problem: &'static str,
    },
    /// Ports of whole networks.
    #[error(
        "ports cannot be split by {bits} bits: choose 0 to 16, and more than 0 only if IPv4 clients are counted by prefixes of length 32"
    )]
    PortBits {
        /// The number of bits.
        bits: u8,
    },
    /// Memory for the counters.
    #[error("there is not enough memory for {slots} counters: choose fewer")]
    Memory {
        /// How many were asked for.
        slots: usize,
    },
}

/// Why blocks cannot be saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file cannot be written.
    #[error("cannot save the dynamic blocks to {}: check that the folder exists and may be written to", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the dynamic blocks from {}: check its permissions", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is no file of dynamic blocks that this version can read: remove it", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file was written by another version.
    #[error("{} has version {found} of the format, this program reads version {expected}: remove it", .file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version that this program reads.
        expected: u32,
    },
}

/// Why nobody is blocked by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// There are as many blocks as there may be.
    #[error("there are {max} dynamic blocks already{}: remove some, or build the group with a larger limit", .within.as_ref().map(|net| format!(" in {net}")).unwrap_or_default())]
    Cap {
        /// As many as there may be.
        max: usize,
        /// In this range, or in all.
        within: Option<ipnet::IpNet>,
    },
    /// The client is exempt.
    #[error(
        "{0} is exempt from dynamic blocks: remove it from the exclusions, or the pass rule from the filter"
    )]
    Exempt(super::Subject),
    /// The penalty does nothing, or cannot be.
    #[error("the penalty cannot be used: {problem}")]
    Penalty {
        /// What to change.
        problem: &'static str,
    },
    /// No port is in the range.
    #[error("no port is from {first} to {last}: exchange them")]
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
}
