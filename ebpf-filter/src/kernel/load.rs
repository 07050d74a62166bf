//! Loading the programs and creating their maps.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, PerCpuArray},
    programs::SocketFilter,
};
use ebpf_prog::{
    Malformed as MalformedReason,
    layout::{AddressRule, Config, Ipv4Key, Ipv6Key, Kinds, Policy, QnameKey, QnameRule, maps, programs},
    object,
    shape::Shapes,
};
use zerocopy::IntoBytes as _;

use super::{
    diagnosis::{self, Facts, other},
    map::{Entry, RuleMap},
    shapes::ShapeCounts,
};
use crate::{KernelError, Program, Unavailable, builder::Sizes};

const CONFIG_SIZE: usize = size_of::<Config>();

/// The programs and maps of one filter.
///
/// Dropping this closes their descriptors. A socket keeps its program, and a program its maps, until it is closed
/// or gets another filter.
pub(crate) struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) sizes: Sizes,
    pub(super) seed: [u64; 2],
    pub(super) ipv4: RuleMap<Ipv4Key, AddressRule>,
    pub(super) ipv6: RuleMap<Ipv6Key, AddressRule>,
    pub(super) qnames: RuleMap<QnameKey, QnameRule>,
    malformed: PerCpuArray<MapData, u64>,
    config: Mutex<ConfigMap>,
    pub(super) shapes: Mutex<ShapeCounts>,
}

struct ConfigMap {
    map: Array<MapData, [u8; CONFIG_SIZE]>,
    value: Config,
}

impl ConfigMap {
    fn write(&mut self, value: &Config) -> Result<(), KernelError> {
        let mut bytes = [0; CONFIG_SIZE];
        bytes.copy_from_slice(value.as_bytes());
        self.map.set(0, bytes, 0).map_err(|error| map_error("write to", maps::CONFIG, error))?;
        self.value = *value;
        Ok(())
    }
}

impl Kernel {
    pub(crate) fn load(sizes: Sizes, drop_malformed: bool) -> Result<Self, Unavailable> {
        // aya finds out once a process what the kernel can. A thread that may not even ask must not be the one to ask.
        if let Some(reason) = Facts::gather().missing_capability() {
            return Err(reason);
        }
        // A map cannot have no entries at all, and the programs refer to every map: unused kinds get the smallest one.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .map_max_entries(maps::IPV4, sizes.ipv4.max(1))
            .map_max_entries(maps::IPV6, sizes.ipv6.max(1))
            .map_max_entries(maps::QNAMES, sizes.qnames.max(1))
            .load(object::SOCKET_FILTER)
            .map_err(|error| diagnosis::of_object(error, &Facts::gather()))?;
        for name in [programs::FULL, programs::ADDRESS_ONLY] {
            load_program(&mut ebpf, name)?;
        }
        let seed = [RandomState::new().hash_one(0), RandomState::new().hash_one(1)];
        let policy = Policy { kinds: Kinds::NONE, drop_malformed: drop_malformed.into() };
        let value = Config { policy, seed, shapes: Shapes::NONE };
        let mut config = ConfigMap {
            map: take(&mut ebpf, maps::CONFIG)?
                .try_into()
                .map_err(|error| other("open the map of the configuration", error))?,
            value,
        };
        config.write(&value).map_err(|error| other("write the configuration", error))?;
        Ok(Self {
            sizes,
            seed,
            ipv4: rule_map(&mut ebpf, maps::IPV4)?,
            ipv6: rule_map(&mut ebpf, maps::IPV6)?,
            qnames: rule_map(&mut ebpf, maps::QNAMES)?,
            malformed: take(&mut ebpf, maps::MALFORMED)?
                .try_into()
                .map_err(|error| other("open the map of counters", error))?,
            config: Mutex::new(config),
            shapes: Mutex::new(ShapeCounts::new()),
            ebpf,
        })
    }

    pub(crate) fn programs(&self) -> Vec<Program> {
        [programs::FULL, programs::ADDRESS_ONLY]
            .into_iter()
            .filter_map(|name| {
                let info = self.program(name)?.info().ok()?;
                Some(Program {
                    name,
                    id: info.id(),
                    verified_instructions: info.verified_instruction_count(),
                })
            })
            .collect()
    }

    pub(super) fn program(&self, name: &str) -> Option<&SocketFilter> {
        self.ebpf.program(name)?.try_into().ok()
    }

    /// Says which kinds of rules there are. The programs skip the others.
    pub(crate) fn set_kinds(&self, kinds: Kinds) -> Result<(), KernelError> {
        self.change_config(|config| config.policy.kinds = kinds)
    }

    /// Writes the configuration, if it is another one after `change`.
    pub(super) fn change_config(&self, change: impl FnOnce(&mut Config)) -> Result<(), KernelError> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = config.value;
        change(&mut after);
        if config.value == after { Ok(()) } else { config.write(&after) }
    }

    /// Messages that could not be read, by reason, on all CPUs.
    pub(crate) fn malformed(&self) -> Result<[u64; MalformedReason::ALL.len()], KernelError> {
        let mut totals = [0; MalformedReason::ALL.len()];
        for reason in MalformedReason::ALL {
            let counts = self
                .malformed
                .get(&(reason as u32), 0)
                .map_err(|error| map_error("read", maps::MALFORMED, error))?;
            totals[reason as usize] = counts.iter().sum();
        }
        Ok(totals)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), Unavailable> {
    let program = ebpf.program_mut(name).ok_or_else(|| other("find a program in the object", name))?;
    let program: &mut SocketFilter = program.try_into().map_err(|error| other("use the object", error))?;
    program.load().map_err(|error| diagnosis::of_program(name, error, &Facts::gather()))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, Unavailable> {
    ebpf.take_map(name).ok_or_else(|| other("find a map in the object", name))
}

fn rule_map<K: Entry, V: Entry>(ebpf: &mut Ebpf, name: &'static str) -> Result<RuleMap<K, V>, Unavailable> {
    RuleMap::new(take(ebpf, name)?, name).ok_or_else(|| other("use a map of the object", name))
}

fn map_error(operation: &'static str, map: &'static str, error: aya::maps::MapError) -> KernelError {
    KernelError { operation, map, source: std::io::Error::other(error) }
}
