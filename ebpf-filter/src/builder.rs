//! Building a filter.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use ebpf_prog::rule::Seed;

use crate::{
    BpfFilter, BuildError, KernelError, Unavailable,
    engine::{Engine, Memory, OutOfMemory},
    kernel::Kernel,
    sizes::Sizes,
};

/// At a UDP socket, the data that a program sees starts with the UDP header.
const UDP_HEADER: u32 = 8;

/// Who enforces the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The kernel, or it is an error.
    Require,
    /// The kernel if it can, else user space; [`BpfFilter::status`] says which, and why.
    #[default]
    Prefer,
    /// User space.
    Off,
}

/// What happens to a DNS message over UDP that is no well-formed query: its question cannot be read, or it is a response. It is counted either way, per
/// [`MalformedReason`](crate::MalformedReason), wherever messages are read at all: while there are rules for names, or
/// if such messages are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The server gets it, and answers FORMERR, say. A response whose question can be read is decided by the rules for names
    /// like a query: a bit in the header is no way around them.
    #[default]
    Pass,
    /// It is dropped. Every message is read then, even if there are no rules for names.
    Drop,
}

/// Builds a [`BpfFilter`]: [`BpfFilter::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is built before `build` is called"]
pub struct BpfFilterBuilder {
    pub(crate) sizes: Sizes,
    mode: Mode,
    malformed: Malformed,
    payload_offset: u32,
}

impl BpfFilterBuilder {
    pub(crate) const fn new() -> Self {
        Self {
            sizes: Sizes {
                ipv4: 1024,
                ipv6: 1024,
                ranges4: 1024,
                ranges6: 1024,
                qnames: 1024,
                suffixes: 1024,
            },
            mode: Mode::Prefer,
            malformed: Malformed::Pass,
            payload_offset: UDP_HEADER,
        }
    }

    /// Where the DNS header is in the data that the program sees: for [`BpfFilter::run_in_kernel`] alone.
    #[doc(hidden)]
    pub const fn payload_offset(mut self, bytes: u32) -> Self {
        self.payload_offset = bytes;
        self
    }

    /// The most rules for IPv4 sources; 0: none can be added. 1024 unless set. The memory for all of them is taken at once:
    /// 32 bytes each, for a number that is rounded up to a power of two.
    pub const fn ipv4_max(mut self, rules: u32) -> Self {
        self.sizes.ipv4 = rules;
        self
    }

    /// The most rules for IPv6 sources; 0: none can be added. 1024 unless set. The memory for all of them is taken at once:
    /// 48 bytes each, for a number that is rounded up to a power of two.
    pub const fn ipv6_max(mut self, rules: u32) -> Self {
        self.sizes.ipv6 = rules;
        self
    }

    /// The most rules for ranges of IPv4 sources, likewise.
    pub const fn ranges4_max(mut self, rules: u32) -> Self {
        self.sizes.ranges4 = rules;
        self
    }

    /// The most rules for ranges of IPv6 sources, likewise.
    pub const fn ranges6_max(mut self, rules: u32) -> Self {
        self.sizes.ranges6 = rules;
        self
    }

    /// The most rules for names; 0: none can be added. 1024 unless set. The memory for all of them is taken at once, for
    /// this and [`BpfFilterBuilder::suffixes_max`] together: 64 bytes each, for a number that is rounded up to a power of
    /// two; 32 bytes each for the ends of names longer than 24 bytes, and 320 for the first 4096 of them, so that these may
    /// have any length; and 2 to 4 bytes each for a bitmap. This process takes half a byte a bit of that in addition.
    pub const fn qnames_max(mut self, rules: u32) -> Self {
        self.sizes.qnames = rules;
        self
    }

    /// The most rules for names and all names below them; see [`BpfFilterBuilder::qnames_max`].
    pub const fn suffixes_max(mut self, rules: u32) -> Self {
        self.sizes.suffixes = rules;
        self
    }

    /// Who enforces the rules. [`Mode::Prefer`] unless set.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// What happens to messages that cannot be read. [`Malformed::Pass`] unless set.
    pub const fn malformed(mut self, policy: Malformed) -> Self {
        self.malformed = policy;
        self
    }

    /// Loads the programs into the kernel and creates their maps, as the mode says. No socket is touched: that is
    /// [`BpfFilter::attach`].
    ///
    /// # Errors
    ///
    /// [`BuildError::Kernel`] in [`Mode::Require`], if the kernel cannot enforce the rules; [`BuildError::Memory`] if user space
    /// is to do so, and there is not enough memory for so many.
    pub fn build(self) -> Result<BpfFilter, BuildError> {
        let Self { sizes, mode, malformed, payload_offset } = self;
        let drop_malformed = malformed == Malformed::Drop;
        let random = RandomState::new();
        let seed = [random.hash_one(0), random.hash_one(1)];
        let loaded = match mode {
            Mode::Off => Err(Unavailable::Off),
            Mode::Prefer | Mode::Require => Kernel::load(sizes, seed, payload_offset),
        };
        let (kernel, memory) = match (loaded, mode) {
            (Ok((kernel, memory)), _) => (Ok(kernel), memory),
            (Err(reason), Mode::Require) => return Err(BuildError::Kernel(Arc::new(reason))),
            (Err(reason), Mode::Prefer | Mode::Off) => {
                let memory = Memory::own(sizes.at_most_max(), Seed::new(seed[0], seed[1]))
                    .map_err(|OutOfMemory| BuildError::Memory)?;
                (Err(Arc::new(reason)), memory)
            }
        };
        let engine = Engine::new(memory, sizes.at_most_max(), drop_malformed);
        BpfFilter::new(sizes, mode, kernel, engine)
            .map_err(|reason| BuildError::Kernel(Arc::new(other("write the policy", reason))))
    }
}

fn other(action: &'static str, source: KernelError) -> Unavailable {
    Unavailable::Other { action, source: source.into() }
}
