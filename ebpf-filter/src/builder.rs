//! Building a filter.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::Arc,
};

use ebpf_prog::rule::Seed;

use crate::{
    BpfFilter, BuildError, KernelError, PinError, Unavailable,
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
    pin_dir: Option<PathBuf>,
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
            pin_dir: None,
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

    /// Keeps the rules and their hits in maps that are pinned in this directory of a BPF file system: they outlive this process,
    /// and other processes that name the same directory share them. The directory is created, with its parents, for this user
    /// alone, unless it is there. Not set unless this is called.
    ///
    /// A filter that finds pins takes over their rules, whatever the process before was doing when it ended; it has to be built
    /// with the same sizes. Rules that end do so at the same time as if nothing had happened, also while no process runs.
    /// [`BpfFilter::reconcile`] makes the others those of a configuration. What [`BpfFilterBuilder::malformed`] says is
    /// from then on what all who share the pins do. A reboot takes the pins with it.
    ///
    /// In [`Mode::Off`] nothing is pinned or opened. In [`Mode::Prefer`] user space enforces rules of its own if this process lacks the
    /// privileges; pins that do not fit are an error all the same.
    ///
    /// ```no_run
    /// # use ebpf_filter::{BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().ipv4_max(4096).pin_dir("/sys/fs/bpf/resolver").build()?;
    /// let wanted = [Rule::drop(Match::address([192, 0, 2, 1]))];
    /// println!("{:?}", filter.reconcile(wanted)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.pin_dir = Some(directory.into());
        self
    }

    /// Loads the programs into the kernel and creates their maps, as the mode says. No socket is touched: that is
    /// [`BpfFilter::attach`].
    ///
    /// # Errors
    ///
    /// [`BuildError::Kernel`] in [`Mode::Require`], if the kernel cannot enforce the rules; [`BuildError::Pins`] if the directory of the
    /// pins cannot be used, or its pins are not what they should be; [`BuildError::Memory`] if user space
    /// is to do so, and there is not enough memory for so many.
    pub fn build(self) -> Result<BpfFilter, BuildError> {
        let Self { sizes, mode, malformed, payload_offset, pin_dir } = self;
        let drop_malformed = malformed == Malformed::Drop;
        let random = RandomState::new();
        let seed = [random.hash_one(0), random.hash_one(1)];
        let loaded = match (mode, pin_dir) {
            (Mode::Off, _) => Err(Arc::new(Unavailable::Off)),
            (Mode::Prefer | Mode::Require, None) => {
                Kernel::load(sizes, seed, payload_offset).map_err(Arc::new)
            }
            (Mode::Prefer | Mode::Require, Some(directory)) => {
                match Kernel::load_pinned(&directory, sizes, seed, payload_offset) {
                    Ok(loaded) => Ok(loaded),
                    Err(PinError::Unavailable { source, .. }) => Err(source),
                    Err(error) => return Err(BuildError::Pins(error)),
                }
            }
        };
        let (kernel, memory) = match (loaded, mode) {
            (Ok((kernel, memory)), _) => (Ok(kernel), memory),
            (Err(reason), Mode::Require) => return Err(BuildError::Kernel(reason)),
            (Err(reason), Mode::Prefer | Mode::Off) => {
                let memory = Memory::own(sizes.at_most_max(), Seed::new(seed[0], seed[1]))
                    .map_err(|OutOfMemory| BuildError::Memory)?;
                (Err(reason), memory)
            }
        };
        let engine = Engine::new(memory, sizes.at_most_max(), drop_malformed);
        BpfFilter::new(sizes, mode, kernel, engine, drop_malformed)
            .map_err(|reason| BuildError::Kernel(Arc::new(other("write the policy", reason))))
    }
}

fn other(action: &'static str, source: KernelError) -> Unavailable {
    Unavailable::Other { action, source: source.into() }
}
