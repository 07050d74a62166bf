//! Who is measured: sockets with a program, and what the kernel says about the time that the program took.

use std::{
    any::Any,
    net::{IpAddr, UdpSocket},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramInfo, SocketFilter, loaded_programs},
};
use caps::{CapSet, Capability};
use ebpf_filter::{BpfFilter, Enforcement, Kind as RuleKind, Mode, Rule, Selection};
use ebpf_prog::{layout::programs, object};

use crate::{
    cases::Case,
    common::Result,
    dnsdist::Dnsdist,
    sender::{Sender, listener},
};

/// As many entries of each kind as everybody has room for, unless there are more.
pub(crate) const MAX_RULES: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// Ours, loaded without `CAP_PERFMON`: the kernel guards it against speculation.
    OursGuarded,
    Dnsdist,
    /// A map of the kernel in place of ours.
    KernelMap,
    Empty,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursGuarded => "ours, CAP_BPF only",
            Self::Dnsdist => "dnsdist",
            Self::KernelMap => "map of the kernel",
            Self::Empty => "empty program",
        }
    }
}

/// A socket on loopback that nobody reads, and the program on it.
pub(crate) struct Contestant<'a> {
    pub(crate) kind: Kind,
    program: u32,
    /// Ours, to see that the packets met the fate that they should.
    filter: Option<BpfFilter>,
    sender: Sender<'a>,
    /// Whatever has to live on.
    _alive: Box<dyn Any>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn start(kind: Kind, case: &'a Case) -> Result<Self> {
        let Case { sources, payloads, ours: rules, .. } = case;
        match kind {
            Kind::Ours => {
                let filter = ours(rules)?;
                Self::ours(kind, filter, programs::FULL, sources, payloads)
            }
            Kind::OursGuarded => {
                let filter = without_perfmon(|| ours(rules))?;
                Self::ours(kind, filter, programs::FULL, sources, payloads)
            }
            Kind::Dnsdist => {
                let dnsdist = Dnsdist::start(case)?;
                Ok(Self {
                    kind,
                    program: dnsdist.program(),
                    filter: None,
                    sender: Sender::new(sources, dnsdist.address(), payloads)?,
                    _alive: Box::new(dnsdist),
                })
            }
            Kind::Empty | Kind::KernelMap => {
                let ebpf = EbpfLoader::new().btf(None).load(object::BASELINE)?;
                Self::of_baseline(Kind::Empty, ebpf, "baseline", sources, payloads)
            }
        }
    }

    /// A program of ours.
    pub(crate) fn ours(
        kind: Kind,
        filter: BpfFilter,
        name: &str,
        sources: &'a [IpAddr],
        payloads: &'a [Vec<u8>],
    ) -> Result<Self> {
        let socket = receiver(sources)?;
        let enforcement = match name {
            programs::FULL => filter.attach(&socket)?,
            _ => filter.attach_address_only(&socket)?,
        };
        if enforcement != Enforcement::Kernel {
            return Err(format!("the kernel does not enforce: {}", filter.status()).into());
        }
        let program = filter.status().programs.into_iter().find(|program| program.name == name);
        let program = program.ok_or("the status does not list the program")?;
        eprintln!("  {} instructions verified", program.verified_instructions.unwrap_or(0));
        Ok(Self {
            kind,
            program: program.id,
            filter: Some(filter),
            sender: Sender::new(sources, socket.local_addr()?, payloads)?,
            _alive: Box::new(socket),
        })
    }

    /// A program of the object for benchmarks.
    pub(crate) fn of_baseline(
        kind: Kind,
        mut ebpf: Ebpf,
        name: &str,
        sources: &'a [IpAddr],
        payloads: &'a [Vec<u8>],
    ) -> Result<Self> {
        let program = ebpf.program_mut(name).ok_or_else(|| format!("no program `{name}` in the object"))?;
        let program: &mut SocketFilter = program.try_into()?;
        program.load()?;
        let socket = receiver(sources)?;
        program.attach(&socket)?;
        Ok(Self {
            kind,
            program: program.info()?.id(),
            filter: None,
            sender: Sender::new(sources, socket.local_addr()?, payloads)?,
            _alive: Box::new((socket, ebpf)),
        })
    }

    /// Sends packets, and returns the nanoseconds that the program took for one.
    pub(crate) fn measure(&self, packets: usize) -> Result<f64> {
        self.sender.send(packets / 20)?;
        let before = self.info()?;
        self.sender.send(packets)?;
        let after = self.info()?;
        let runs = after.run_count() - before.run_count();
        if runs != packets as u64 {
            return Err(format!("{}: {packets} packets, but {runs} runs", self.kind.name()).into());
        }
        Ok(after.run_time().saturating_sub(before.run_time()).as_nanos() as f64 / packets as f64)
    }

    /// That all packets met a rule of ours, or none did.
    pub(crate) fn verify(&self, dropped: bool) -> Result<()> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let stats = filter.stats_of(&Selection::all().min_hits(1))?;
        let hits: u64 = stats.rules.iter().map(|rule| rule.hits).sum();
        let sent = self.sender.sent() as u64;
        if hits == if dropped { sent } else { 0 } {
            return Ok(());
        }
        Err(format!("{}: {hits} packets of {sent} matched a rule", self.kind.name()).into())
    }

    /// How much there is of the program.
    pub(crate) fn size(&self) -> Result<String> {
        let info = self.info()?;
        Ok(format!(
            "{}: program {}, {} bytes of instructions, {} of machine code",
            self.kind.name(),
            info.id(),
            info.size_translated().unwrap_or(0),
            info.size_jitted(),
        ))
    }

    fn info(&self) -> Result<ProgramInfo> {
        program(self.program).ok_or_else(|| format!("the program of {} is gone", self.kind.name()).into())
    }
}

/// What the kernel says about a program. Others may come and go meanwhile.
pub(crate) fn program(id: u32) -> Option<ProgramInfo> {
    loaded_programs().filter_map(std::result::Result::ok).find(|program| program.id() == id)
}

fn receiver(sources: &[IpAddr]) -> Result<UdpSocket> {
    Ok(UdpSocket::bind((listener(sources[0]), 0))?)
}

/// A filter with these rules, and room for them.
pub(crate) fn ours(rules: &[Rule]) -> Result<BpfFilter> {
    let max = |kind| {
        let rules = rules.iter().filter(|rule| rule.matches.kind() == kind).count();
        u32::try_from(rules).map(|rules| rules.max(MAX_RULES))
    };
    let filter = BpfFilter::builder()
        .ipv4_max(max(RuleKind::Ipv4)?)
        .ipv6_max(max(RuleKind::Ipv6)?)
        .ranges4_max(max(RuleKind::Range4)?)
        .ranges6_max(max(RuleKind::Range6)?)
        .qnames_max(max(RuleKind::Qname)?)
        .suffixes_max(max(RuleKind::Suffix)?)
        .mode(Mode::Require)
        .build()?;
    filter.insert_many(rules.iter().cloned())?;
    Ok(filter)
}

/// Does without the capabilities that make the kernel trust a program, on this thread.
fn without_perfmon<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    const TRUSTED: [Capability; 2] = [Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];
    for capability in TRUSTED {
        caps::drop(None, CapSet::Effective, capability)?;
    }
    let result = action();
    for capability in TRUSTED {
        caps::raise(None, CapSet::Effective, capability)?;
    }
    result
}
