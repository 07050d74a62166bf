//! Who is measured: sockets with a program, and what the kernel says about the time that the program took.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use aya::{
    EbpfLoader,
    programs::{ProgramInfo, SocketFilter, loaded_programs},
};
use caps::{CapSet, Capability};
use ebpf_filter::{BpfFilter, Enforcement, Mode, Qtypes};
use ebpf_prog::{layout::programs, object};

use crate::{
    cases::{Case, Rules},
    common::Result,
    dnsdist::Dnsdist,
    sender::Sender,
};

/// As many entries as everybody's maps have room for.
pub(crate) const MAX_RULES: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// Ours, loaded without `CAP_PERFMON`: the kernel guards it against speculation.
    OursGuarded,
    Dnsdist,
    Empty,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursGuarded => "ours, CAP_BPF only",
            Self::Dnsdist => "dnsdist",
            Self::Empty => "empty program",
        }
    }
}

/// A socket on loopback that nobody reads, and the program on it.
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    address: SocketAddr,
    program: u32,
    /// Ours, to see that the packets met the fate that the case says.
    filter: Option<BpfFilter>,
    /// Whatever has to live on.
    _alive: Box<dyn Any>,
}

impl Contestant {
    pub(crate) fn start(kind: Kind, case: &Case) -> Result<Self> {
        match kind {
            Kind::Ours => Self::ours(kind, case, ours(&case.rules)?),
            Kind::OursGuarded => Self::ours(kind, case, without_perfmon(|| ours(&case.rules))?),
            Kind::Dnsdist => {
                let dnsdist = Dnsdist::start(case)?;
                Ok(Self {
                    kind,
                    address: dnsdist.address(),
                    program: dnsdist.program(),
                    filter: None,
                    _alive: Box::new(dnsdist),
                })
            }
            Kind::Empty => Self::empty(case),
        }
    }

    fn ours(kind: Kind, case: &Case, filter: BpfFilter) -> Result<Self> {
        let socket = receiver(case)?;
        if filter.attach(&socket)? != Enforcement::Kernel {
            return Err(format!("the kernel does not enforce: {}", filter.status()).into());
        }
        let program = filter.status().programs.into_iter().find(|program| program.name == programs::FULL);
        let program = program.ok_or("the status does not list the program")?.id;
        Ok(Self {
            kind,
            address: socket.local_addr()?,
            program,
            filter: Some(filter),
            _alive: Box::new(socket),
        })
    }

    fn empty(case: &Case) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().btf(None).load(object::BASELINE)?;
        let program: &mut SocketFilter =
            ebpf.program_mut("baseline").ok_or("no program `baseline` in the object")?.try_into()?;
        program.load()?;
        let socket = receiver(case)?;
        program.attach(&socket)?;
        let id = program.info()?.id();
        Ok(Self {
            kind: Kind::Empty,
            address: socket.local_addr()?,
            program: id,
            filter: None,
            _alive: Box::new((socket, ebpf)),
        })
    }

    /// Sends the packets of the case, and returns the nanoseconds that the program took for one.
    pub(crate) fn measure(&self, case: &Case, packets: usize) -> Result<f64> {
        let sender = Sender::new(case.source, self.address, &case.payloads)?;
        sender.send(packets / 20)?;
        let hits = self.hits()?;
        let before = self.info()?;
        sender.send(packets)?;
        let after = self.info()?;
        let runs = after.run_count() - before.run_count();
        if runs != packets as u64 {
            return Err(format!("{}: {packets} packets, but {runs} runs", self.kind.name()).into());
        }
        let hits = self.hits()? - hits;
        if self.filter.is_some() && hits != if case.dropped { runs } else { 0 } {
            return Err(format!("{}: {hits} packets of {packets} matched a rule", self.kind.name()).into());
        }
        Ok(after.run_time().saturating_sub(before.run_time()).as_nanos() as f64 / packets as f64)
    }

    fn hits(&self) -> Result<u64> {
        let Some(filter) = &self.filter else { return Ok(0) };
        Ok(filter.stats()?.rules.iter().map(|rule| rule.hits).sum())
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

/// The address that receives what is sent from `source`.
pub(crate) const fn listener(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    }
}

fn receiver(case: &Case) -> Result<UdpSocket> {
    Ok(UdpSocket::bind((listener(case.source), 0))?)
}

fn ours(rules: &Rules) -> Result<BpfFilter> {
    let filter = BpfFilter::builder()
        .ipv4_max(MAX_RULES)
        .ipv6_max(MAX_RULES)
        .qnames_max(MAX_RULES)
        .mode(Mode::Require)
        .build()?;
    for address in &rules.addresses {
        filter.block(*address)?;
    }
    for (name, qtype) in &rules.names {
        filter.block_qname(&name.parse()?, qtype.map_or(Qtypes::All, Qtypes::Only))?;
    }
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
