//! Loading the programs and creating their maps.

use std::{
    fmt, io,
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, Map, MapData, PerCpuArray},
    programs::SocketFilter,
};
use ebpf_prog::{
    Malformed as MalformedReason,
    format::Parameters,
    layout::{Policy, TABLES, maps, programs},
    object,
    rule::Seed,
    sightings::Sighting,
    table::Table,
};
use zerocopy::FromBytes;

use super::{
    diagnosis::{self, Facts, other},
    pinned::Opened,
    sys::Mapping,
};
use crate::{
    KernelError, Kind, PinError, Program, Unavailable,
    engine::{self as memory, Lens, Memory, Shared},
    sizes::Sizes,
};

/// The programs of one filter, and what they need besides the memory of the rules.
///
/// Dropping this closes their descriptors. A socket keeps its program, and a program its maps, until it is closed
/// or gets another filter.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    malformed: PerCpuArray<MapData, u64>,
    /// None if user space writes the policy into memory that it shares with the programs.
    policy: Option<Mutex<PolicyMap>>,
}

struct PolicyMap {
    map: Array<MapData, [u8; size_of::<Policy>()]>,
    value: Policy,
}

impl Kernel {
    /// Loads the programs, and maps the memory of the rules.
    pub(crate) fn load(
        sizes: Sizes,
        seed: [u64; 2],
        payload_offset: u32,
    ) -> Result<(Self, Memory), Unavailable> {
        possible(sizes)?;
        let constants = Constants::of(sizes, seed, payload_offset);
        let mut ebpf = load_object(&mut constants.loader())?;
        let memory = constants.memory(&mut ebpf)?;
        let policy = PolicyMap {
            map: take(&mut ebpf, maps::POLICY)?
                .try_into()
                .map_err(|error| other("open the map of the policy", error))?,
            value: Policy::default(),
        };
        Ok((Self::new(ebpf, Some(policy))?, memory))
    }

    /// Loads the programs with maps that are pinned, which are created if there are none.
    pub(crate) fn load_pinned(
        directory: &Path,
        sizes: Sizes,
        seed: [u64; 2],
        payload_offset: u32,
    ) -> Result<(Self, Memory), PinError> {
        let unavailable = |reason| PinError::Unavailable {
            action: "load programs for the pins in",
            path: directory.to_owned(),
            source: Arc::new(reason),
        };
        possible(sizes).map_err(unavailable)?;
        let parameters = Parameters { seed, maxima: Kind::ALL.map(|kind| sizes.of(kind)), payload_offset };
        let opened = Opened::open(directory, &Lens::of(sizes), &parameters)?;
        match Self::load_with(&opened, sizes, payload_offset) {
            Ok((kernel, mut memory)) => {
                let (format, policy, lock) = opened.release()?;
                let (format, policy) = (memory::Array::Shared(format), memory::Array::Shared(policy));
                memory.shared = Some(Shared { format, policy, lock });
                Ok((kernel, memory))
            }
            Err(reason) => {
                opened.remove_if_new();
                Err(unavailable(reason))
            }
        }
    }

    fn load_with(opened: &Opened, sizes: Sizes, payload_offset: u32) -> Result<(Self, Memory), Unavailable> {
        let constants = Constants::of(sizes, opened.format[0].parameters().seed, payload_offset);
        // The loader writes to the map of this variable although others read it, so it must write what is there.
        let policy = opened.policy[0].load(Ordering::Acquire);
        let mut loader = constants.loader();
        loader.override_global(programs::POLICY, &policy, true);
        for (map, path) in opened.paths() {
            loader.map_pin_path(map, path);
        }
        let mut ebpf = load_object(&mut loader)?;
        let id_of = |name: &str| {
            let map = ebpf.map(name)?;
            let (Map::Array(data) | Map::PerCpuArray(data)) = map else { return None };
            Some(data.info().ok()?.id())
        };
        if !opened.are(id_of) {
            return Err(other("use the pins", "somebody has replaced them meanwhile"));
        }
        let memory = constants.memory(&mut ebpf)?;
        Ok((Self::new(ebpf, None)?, memory))
    }

    fn new(mut ebpf: Ebpf, policy: Option<PolicyMap>) -> Result<Self, Unavailable> {
        Ok(Self {
            malformed: take(&mut ebpf, maps::MALFORMED)?
                .try_into()
                .map_err(|error| other("open the map of counters", error))?,
            policy: policy.map(Mutex::new),
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

    /// Tells the programs which kinds of rules there are, unless they know.
    pub(crate) fn set_policy(&self, policy: Policy) -> Result<(), KernelError> {
        let Some(policy_map) = &self.policy else { return Ok(()) };
        let mut current = policy_map.lock().unwrap_or_else(PoisonError::into_inner);
        let PolicyMap { map, value } = &mut *current;
        if *value != policy {
            let bytes: [u8; size_of::<Policy>()] = zerocopy::transmute!(policy);
            map.set(0, bytes, 0).map_err(|error| map_error("write to", maps::POLICY, error))?;
            *value = policy;
        }
        Ok(())
    }

    /// What a program returns for a frame.
    pub(crate) fn run(&self, program: &str, frame: &[u8]) -> Option<u32> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        Some(self.program(program)?.test_run(options).ok()?.return_value)
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
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

const fn map_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Ipv4 => maps::IPV4,
        Kind::Ipv6 => maps::IPV6,
        Kind::Range4 => maps::RANGES4,
        Kind::Range6 => maps::RANGES6,
        Kind::Qname | Kind::Suffix => maps::NAMES,
    }
}

/// Whether this thread may load such programs at all.
fn possible(sizes: Sizes) -> Result<(), Unavailable> {
    // aya finds out once a process what the kernel can. A thread that may not even ask must not be the one to ask.
    if let Some(reason) = Facts::gather().missing_capability() {
        return Err(reason);
    }
    if let Some(kind) = sizes.too_large() {
        let source = io::Error::from_raw_os_error(libc::E2BIG);
        return Err(Unavailable::MapTooLarge { map: map_of(kind).to_owned(), source });
    }
    Ok(())
}

/// What is set in the programs when they are loaded.
struct Constants {
    lens: Lens,
    shifts: [u32; TABLES.len()],
    sieve_shift: u32,
    seed: [u64; 2],
    payload_offset: u32,
}

impl Constants {
    fn of(sizes: Sizes, seed: [u64; 2], payload_offset: u32) -> Self {
        let lens = Lens::of(sizes);
        let shifts = lens.tables().map(|len| Table::shift_of(len as usize));
        Self { lens, shifts, sieve_shift: lens.sieve_shift(), seed, payload_offset }
    }

    fn loader(&self) -> EbpfLoader<'_> {
        let mut loader = EbpfLoader::new();
        // The programs are not relocated against the types of the kernel.
        loader.btf(None);
        for (name, shift) in programs::SHIFTS.into_iter().zip(&self.shifts) {
            loader.override_global(name, shift, true);
        }
        for (name, len) in TABLES.into_iter().zip(self.lens.tables()) {
            loader.map_max_entries(name, len);
        }
        loader
            .override_global(programs::SIEVE_SHIFT, &self.sieve_shift, true)
            .override_global(programs::SEED[0], &self.seed[0], true)
            .override_global(programs::SEED[1], &self.seed[1], true)
            .override_global(programs::PAYLOAD_OFFSET, &self.payload_offset, true)
            .map_max_entries(maps::BLOCKS, self.lens.blocks)
            .map_max_entries(maps::SIEVE, self.lens.sieve);
        loader
    }

    /// Maps the memory of the rules.
    fn memory(&self, ebpf: &mut Ebpf) -> Result<Memory, Unavailable> {
        let Self { lens, seed, .. } = self;
        Ok(Memory {
            seed: Seed::new(seed[0], seed[1]),
            ipv4: map(ebpf, maps::IPV4, lens.ipv4)?,
            ipv6: map(ebpf, maps::IPV6, lens.ipv6)?,
            ranges4: map(ebpf, maps::RANGES4, lens.ranges4)?,
            ranges6: map(ebpf, maps::RANGES6, lens.ranges6)?,
            names: map(ebpf, maps::NAMES, lens.names)?,
            blocks: map(ebpf, maps::BLOCKS, lens.blocks)?,
            sieve: map(ebpf, maps::SIEVE, lens.sieve)?,
            control: map(ebpf, maps::CONTROL, 1)?,
            sightings: map(ebpf, maps::SIGHTINGS, Sighting::PLACES)?,
            shared: None,
        })
    }
}

fn load_object(loader: &mut EbpfLoader<'_>) -> Result<Ebpf, Unavailable> {
    let mut ebpf =
        loader.load(object::SOCKET_FILTER).map_err(|error| diagnosis::of_object(error, &Facts::gather()))?;
    for name in [programs::FULL, programs::ADDRESS_ONLY] {
        load_program(&mut ebpf, name)?;
    }
    Ok(ebpf)
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), Unavailable> {
    let program = ebpf.program_mut(name).ok_or_else(|| other("find a program in the object", name))?;
    let program: &mut SocketFilter = program.try_into().map_err(|error| other("use the object", error))?;
    program.load().map_err(|error| diagnosis::of_program(name, error, &Facts::gather()))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, Unavailable> {
    ebpf.take_map(name).ok_or_else(|| other("find a map in the object", name))
}

/// Maps the elements of an array into this process.
fn map<T: FromBytes>(ebpf: &mut Ebpf, name: &'static str, len: u32) -> Result<memory::Array<T>, Unavailable> {
    let Map::Array(data) = take(ebpf, name)? else { return Err(other("use a map of the object", name)) };
    let fits = data
        .info()
        .is_ok_and(|info| info.value_size() as usize == size_of::<T>() && info.max_entries() == len);
    if !fits {
        return Err(other("use a map of the object", name));
    }
    Mapping::new(data.fd().as_fd(), len as usize)
        .map(memory::Array::Shared)
        .map_err(|source| Unavailable::MapTooLarge { map: name.to_owned(), source })
}

fn map_error(operation: &'static str, map: &'static str, error: aya::maps::MapError) -> KernelError {
    KernelError { operation, map, source: io::Error::other(error) }
}
