//! What an error of the kernel means for the operator.

use std::{fs, io};

use aya::{EbpfError, maps::MapError, programs::ProgramError, util::KernelVersion};
use caps::{CapSet, Capability};

use crate::Unavailable;

/// How much of the verifier's log is worth showing: its end says what is wrong.
const LOG_TAIL: usize = 600;

/// Since this version maps are charged to the memory control group instead of `RLIMIT_MEMLOCK` (see bpf(2)).
const MEMORY_CGROUP: KernelVersion = KernelVersion::new(5, 11, 0);

/// Where `CAP_BPF` comes from (see capabilities(7)).
const CAP_BPF: KernelVersion = KernelVersion::new(5, 8, 0);

/// What may explain a refusal.
#[derive(Debug)]
pub(super) struct Facts {
    kernel: Option<KernelVersion>,
    capable: bool,
    unprivileged_bpf_disabled: Option<u32>,
    memlock: Option<u64>,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
        Self {
            kernel: KernelVersion::current().ok(),
            capable: has(Capability::CAP_BPF) || has(Capability::CAP_SYS_ADMIN),
            unprivileged_bpf_disabled: number_in("/proc/sys/kernel/unprivileged_bpf_disabled"),
            memlock: memlock(),
        }
    }

    /// Says what this thread lacks to load anything at all.
    pub(super) fn missing_capability(&self) -> Option<Unavailable> {
        (!self.capable).then(|| self.refusal(io::Error::from_raw_os_error(libc::EPERM)))
    }

    fn before(&self, version: KernelVersion) -> bool {
        self.kernel.is_some_and(|kernel| kernel < version)
    }

    /// Why the kernel says `EPERM`.
    pub(super) fn refusal(&self, source: io::Error) -> Unavailable {
        if !self.capable {
            return Unavailable::MissingCapability {
                capability: if self.before(CAP_BPF) { "CAP_SYS_ADMIN" } else { "CAP_BPF" },
                unprivileged_bpf_disabled: self.unprivileged_bpf_disabled,
                source,
            };
        }
        match self.memlock {
            Some(limit) if self.before(MEMORY_CGROUP) => Unavailable::LockedMemory { limit, source },
            _ => Unavailable::Refused { source },
        }
    }
}

/// Why the object cannot be loaded: its maps cannot be created, mostly.
pub(super) fn of_object(error: EbpfError, facts: &Facts) -> Unavailable {
    if let EbpfError::MapError(MapError::CreateError { name, io_error }) = error {
        of_map(name, io_error, facts)
    } else {
        other("load the object", error)
    }
}

pub(super) fn of_map(map: String, source: io::Error, facts: &Facts) -> Unavailable {
    match source.raw_os_error() {
        Some(libc::EPERM) => facts.refusal(source),
        _ => Unavailable::MapTooLarge { map, source },
    }
}

/// Why a program cannot be loaded.
pub(super) fn of_program(program: &'static str, error: ProgramError, facts: &Facts) -> Unavailable {
    let ProgramError::LoadError { io_error: source, verifier_log } = error else {
        return other("load a program", error);
    };
    if source.raw_os_error() == Some(libc::EPERM) {
        return facts.refusal(source);
    }
    let log = verifier_log.to_string();
    let tail = log.char_indices().rev().nth(LOG_TAIL).map_or(0, |(at, _)| at);
    Unavailable::Verifier { program, log: log[tail..].trim().to_owned(), source }
}

/// Anything that says enough by itself.
pub(super) fn other(
    action: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Unavailable {
    Unavailable::Other { action, source: source.into() }
}

fn number_in(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The soft limit on locked memory, from the line `Max locked memory  8388608  8388608  bytes` of `proc_pid_limits(5)`.
fn memlock() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kernel: KernelVersion, capable: bool) -> Facts {
        Facts { kernel: Some(kernel), capable, unprivileged_bpf_disabled: Some(2), memlock: Some(65536) }
    }

    fn refused() -> io::Error {
        io::Error::from_raw_os_error(libc::EPERM)
    }

    #[test]
    fn a_missing_capability_is_named_with_the_sysctl_and_the_remedy() {
        let error = of_map("IPV4".into(), refused(), &facts(KernelVersion::new(6, 18, 0), false));
        let text = error.to_string();
        assert!(matches!(error, Unavailable::MissingCapability { capability: "CAP_BPF", .. }), "{text}");
        assert!(text.contains("kernel.unprivileged_bpf_disabled = 2"), "{text}");
        assert!(text.contains("setcap cap_bpf=ep"), "{text}");
    }

    #[test]
    fn before_linux_5_8_the_capability_is_sys_admin() {
        let error = facts(KernelVersion::new(5, 4, 0), false).refusal(refused());
        assert!(matches!(error, Unavailable::MissingCapability { capability: "CAP_SYS_ADMIN", .. }));
    }

    #[test]
    fn before_linux_5_11_locked_memory_is_the_suspect() {
        let error = facts(KernelVersion::new(5, 10, 0), true).refusal(refused());
        assert!(matches!(error, Unavailable::LockedMemory { limit: 65536, .. }));
        assert!(error.to_string().contains("LimitMEMLOCK"));
    }

    #[test]
    fn a_capable_process_that_is_refused_is_sent_to_the_security_modules() {
        let error = facts(KernelVersion::new(6, 18, 0), true).refusal(refused());
        assert!(matches!(error, Unavailable::Refused { .. }));
    }

    #[test]
    fn a_map_that_is_too_large_is_named() {
        let too_big = io::Error::from_raw_os_error(libc::E2BIG);
        let error = of_map("QNAMES".into(), too_big, &facts(KernelVersion::new(6, 18, 0), true));
        assert!(error.to_string().contains("QNAMES"));
    }
}
