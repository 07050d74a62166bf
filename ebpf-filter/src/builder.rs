//! Building a filter.

use std::sync::Arc;

use crate::{BpfFilter, BuildError, Unavailable, kernel::Kernel};

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

/// What happens to a DNS message over UDP whose question cannot be read. It is counted either way, per
/// [`MalformedReason`](crate::MalformedReason), wherever messages are read at all: while there are rules for names, or
/// if such messages are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The server gets it, and answers FORMERR, say.
    #[default]
    Pass,
    /// It is dropped. Every message is read then, even if there are no rules for names.
    Drop,
}

/// The sizes of the maps. 0 means that rules of the kind are not used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) ipv4: u32,
    pub(crate) ipv6: u32,
    pub(crate) qnames: u32,
}

/// Builds a [`BpfFilter`]: [`BpfFilter::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is built before `build` is called"]
pub struct BpfFilterBuilder {
    sizes: Sizes,
    mode: Mode,
    malformed: Malformed,
}

impl BpfFilterBuilder {
    pub(crate) const fn new() -> Self {
        Self {
            sizes: Sizes { ipv4: 1024, ipv6: 1024, qnames: 1024 },
            mode: Mode::Prefer,
            malformed: Malformed::Pass,
        }
    }

    /// The most rules for IPv4 sources; 0: none can be added. 1024 unless set. The memory for all of them, about 95
    /// bytes each, is taken at once.
    pub const fn ipv4_max(mut self, rules: u32) -> Self {
        self.sizes.ipv4 = rules;
        self
    }

    /// The most rules for IPv6 sources; 0: none can be added. 1024 unless set. The memory for all of them, about 100
    /// bytes each, is taken at once.
    pub const fn ipv6_max(mut self, rules: u32) -> Self {
        self.sizes.ipv6 = rules;
        self
    }

    /// The most rules for names; 0: none can be added. 1024 unless set. A rule takes about 530 bytes when it is added.
    pub const fn qnames_max(mut self, rules: u32) -> Self {
        self.sizes.qnames = rules;
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
    /// [`BuildError::Kernel`] in [`Mode::Require`], if the kernel cannot enforce the rules.
    pub fn build(self) -> Result<BpfFilter, BuildError> {
        let Self { sizes, mode, malformed } = self;
        let kernel = match mode {
            Mode::Off => Err(Unavailable::Off),
            Mode::Prefer | Mode::Require => Kernel::load(sizes, malformed == Malformed::Drop),
        };
        let kernel = match (kernel, mode) {
            (Err(reason), Mode::Require) => return Err(BuildError::Kernel(Arc::new(reason))),
            (kernel, Mode::Require | Mode::Prefer | Mode::Off) => kernel.map_err(Arc::new),
        };
        Ok(BpfFilter::new(sizes, mode, malformed, kernel))
    }
}
