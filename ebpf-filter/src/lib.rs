//! Drop hostile DNS traffic in the kernel: eBPF socket filtering for tokio servers.
//!
//! A DNS server under flood copies every hostile packet to user space only to throw it away. A [`BpfFilter`] hands that
//! work to the kernel: attach it to the sockets of the server, and packets from blocked sources, and queries for
//! blocked names, never wake it up.
//!
//! ```
//! use std::net::IpAddr;
//!
//! use ebpf_filter::{BpfFilter, QName, Qtypes};
//! use tokio::net::UdpSocket;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let filter = BpfFilter::builder().ipv4_max(1024).ipv6_max(1024).qnames_max(1024).build()?;
//! let socket = UdpSocket::bind("127.0.0.1:0").await?;
//! filter.attach(&socket)?;
//! println!("{}", filter.status());
//!
//! let hostile: IpAddr = "2001:db8::42".parse()?;
//! let name: QName = "evildomain.com".parse()?;
//! filter.block(hostile)?;
//! filter.block_qname(&name, Qtypes::All)?;
//! assert_eq!(filter.stats()?.to_string(), "[2001:db8::42]: 0\nevildomain.com. 255: 0\n");
//! filter.unblock(hostile)?;
//! filter.unblock_qname(&name, Qtypes::All)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where rules are enforced
//!
//! In [`Mode::Prefer`], the default, the kernel enforces the rules if this process may load eBPF programs, and user
//! space does if not: [`BpfFilter::status`] says which, and why. [`Mode::Require`] makes the second case an error.
//!
//! The kernel sees the name of a query only in plain DNS over UDP. For TCP, TLS, HTTPS and QUIC, and wherever the
//! kernel does not enforce, the server asks [`BpfFilter::check`] with the decoded query, or
//! [`BpfFilter::check_datagram`] with a datagram as received. With the feature `hickory`, the `RequestHandler` in the
//! module `hickory` does that for a hickory-server.
//!
//! # What user space needs
//!
//! `CAP_BPF` (Linux 5.8 and later) loads and attaches the programs. `CAP_PERFMON` in addition spares the kernel from
//! guarding every memory access of the programs against speculation, which makes name rules a few times faster.
//! Neither is needed any more once the filter is built and attached.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod alarm;
#[doc(hidden)]
pub mod bench_support;
mod builder;
mod clock;
mod default_filter;
pub mod dynblock;
mod engine;
mod error;
mod external;
mod filter;
#[cfg(feature = "hickory")]
pub mod hickory;
mod kernel;
mod pin_error;
mod qname;
mod query;
mod reaper;
mod rule;
mod sizes;
mod stats;
mod status;

pub use builder::{BpfFilterBuilder, Malformed, Mode};
pub use default_filter::{default_filter, set_default_filter};
pub use ebpf_prog::{Malformed as MalformedReason, decision::Verdict, rule::Action};
pub use engine::MalformedPosition;
pub use error::{AttachError, BuildError, KernelError, RuleError, Unavailable};
pub use external::{ExternalError, ExternalFilter, ExternalFilterBuilder, ExternalMaps};
pub use filter::{BpfFilter, Reconciled};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use pin_error::PinError;
pub use qname::{QName, QNameError};
pub use query::Query;
pub use rule::{Kind, Match, Qtypes, Rule};
pub use stats::{Retired, RuleStats, Selection, Stats};
pub use status::{Enforcement, Program, Status};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/DYNBLOCKS.md")]
struct Dynblocks;
