//! What can go wrong, and what to do about it.

use std::{io, sync::Arc};

use crate::{Action, Kind, Match, PinError};

/// Why a filter cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The mode is [`Mode::Require`](crate::Mode::Require), and the kernel cannot enforce the rules. The reason says what
    /// to change; [`Mode::Prefer`](crate::Mode::Prefer) would enforce them in user space instead.
    #[error("the kernel cannot enforce the rules")]
    Kernel(#[source] Arc<Unavailable>),
    /// The directory of [`BpfFilterBuilder::pin_dir`](crate::BpfFilterBuilder::pin_dir) cannot be used: what is pinned there is not what
    /// it should be, say. Nothing was changed. This is an error in [`Mode::Prefer`](crate::Mode::Prefer) as well, because only the
    /// operator knows which rules are the right ones.
    #[error("the pins cannot be used")]
    Pins(#[source] PinError),
    /// There is not as much memory as the rules need.
    #[error("there is not enough memory for so many rules: choose smaller sizes")]
    Memory,
}

/// Why the kernel cannot enforce the rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The mode is [`Mode::Off`](crate::Mode::Off): nothing was tried.
    #[error("kernel enforcement is switched off: choose the mode \"prefer\" or \"require\" to use it")]
    Off,
    /// This is not Linux.
    #[error("kernel enforcement exists on Linux only")]
    NotLinux,
    /// The process lacks a capability. See capabilities(7).
    #[error(
        "missing capability {capability}{}: run as root, set AmbientCapabilities={capability} in the systemd unit, or run \
         `setcap {}=ep` on the program; AppArmor needs the line `capability bpf,`",
        sysctl_clause(*.unprivileged_bpf_disabled),
        .capability.to_lowercase()
    )]
    MissingCapability {
        /// The capability.
        capability: &'static str,
        /// The sysctl `kernel.unprivileged_bpf_disabled`, if it can be read: 0 lets everybody load *simple* programs,
        /// which these are not.
        unprivileged_bpf_disabled: Option<u32>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process has the capability, and something else refuses.
    #[error(
        "the kernel refuses although the process has CAP_BPF: look for an AppArmor or SELinux denial in the kernel log, \
         a seccomp filter without the system call bpf, or lockdown mode"
    )]
    Refused {
        /// What the kernel said.
        source: io::Error,
    },
    /// Locked memory is limited. Kernels before 5.11 charge maps to `RLIMIT_MEMLOCK`, see getrlimit(2).
    #[error(
        "the maps exceed the limit on locked memory, RLIMIT_MEMLOCK = {limit} bytes: set LimitMEMLOCK=infinity in the systemd \
         unit, raise `ulimit -l`, or choose smaller maps"
    )]
    LockedMemory {
        /// The soft limit in bytes.
        limit: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A map cannot be created in the size asked for.
    #[error(
        "cannot create the map {map}: choose a smaller size, or give the machine or the control group more memory"
    )]
    MapTooLarge {
        /// Its name.
        map: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's verifier refuses a program, or the kernel lacks something that it uses.
    #[error(
        "the kernel refuses the program {program}: it may be too old (tested from Linux 6.18 on); its log: {log}"
    )]
    Verifier {
        /// The name of the program.
        program: &'static str,
        /// The end of the verifier's log.
        log: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {action}")]
    Other {
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn sysctl_clause(unprivileged_bpf_disabled: Option<u32>) -> String {
    unprivileged_bpf_disabled
        .map(|value| format!(" (kernel.unprivileged_bpf_disabled = {value})"))
        .unwrap_or_default()
}

/// Why the filter cannot be attached to a socket, or detached from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The descriptor is no socket.
    #[error("cannot read the kind of socket: pass a UDP or TCP socket")]
    NotASocket(#[source] io::Error),
    /// The socket is neither UDP nor TCP over IPv4 or IPv6.
    #[error("cannot filter a socket of this kind ({0}): pass a UDP or TCP socket over IPv4 or IPv6")]
    Unsupported(String),
    /// The kernel may not spend that much memory on the options of a socket.
    #[error(
        "the program does not fit into the memory for socket options: net.core.optmem_max is {}, the program needs {needed} \
         bytes of it; run `sysctl -w net.core.optmem_max=131072`, the default since Linux 6.8",
        .limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string())
    )]
    OptmemMax {
        /// The sysctl `net.core.optmem_max` in this network namespace, in bytes, if it can be read.
        limit: Option<u64>,
        /// The size of the program in bytes.
        needed: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// No filter is attached to the socket.
    #[error("no filter is attached to this socket")]
    NotAttached,
    /// The filter of the socket is locked (`SO_LOCK_FILTER`, see socket(7)).
    #[error("the filter of this socket is locked: only closing the socket removes it")]
    Locked(#[source] io::Error),
    /// Anything else.
    #[error("cannot change the filter of this socket")]
    Other(#[source] io::Error),
}

/// Why a rule cannot be added or removed. The rules are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Rules of this kind have no map.
    #[error(
        "{} rules are not in use: build the filter with {} above 0, and with the path of their map if it is for programs of others",
        .0,
        .0.setting()
    )]
    KindNotUsed(Kind),
    /// There is a rule for the same match.
    #[error("there is a rule for {0} already: remove it first to change it")]
    Duplicate(Match),
    /// There is no rule for this match.
    #[error("there is no rule for {0}")]
    Missing(Match),
    /// The map is full.
    #[error("no room for another {kind} rule: all {max} are in use; remove some, or build the filter with a larger {}", .kind.setting())]
    Full {
        /// The kind of rule.
        kind: Kind,
        /// The size of its map.
        max: u32,
    },
    /// The memory for long names is used up: there is room for 4096 names of any length, and beyond that for 48 bytes each.
    #[error(
        "no room for the name of {of}: the names are too long on average; remove some, or build the filter with a larger {}",
        .of.kind().setting()
    )]
    NamesTooLong {
        /// What the rule was to match.
        of: Match,
    },
    /// [`Action::Slip`](crate::Action::Slip) takes no more than [`Action::MAX_SLIP`](crate::Action::MAX_SLIP).
    #[error(
        "slip {every} of the rule for {of} is too large: the most is {}, and 0 answers none",
        Action::MAX_SLIP
    )]
    SlipTooLarge {
        /// What the rule was to match.
        of: Match,
        /// Every so many-th packet was to be answered.
        every: u8,
    },
    /// The maps of an [`ExternalFilter`](crate::ExternalFilter) have no way to say this.
    #[error(
        "the format for programs of others has no {missing}, so there can be no such rule for {of}: it has the actions pass, drop and \
         truncate for addresses, ranges and names"
    )]
    NotInFormat {
        /// What the rule was to match.
        of: Match,
        /// What there is not.
        missing: String,
    },
    /// The kernel failed.
    #[error("the kernel cannot change its rules")]
    Kernel(#[from] KernelError),
}

/// A system call on a map of the filter failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the map {map}")]
pub struct KernelError {
    /// What was tried.
    pub operation: &'static str,
    /// The name of the map.
    pub map: &'static str,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}
