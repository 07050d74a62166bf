//! Rules that other processes have as well: in maps that are pinned.
//!
//! One process at a time changes them, under a lock that the kernel takes back from the dead. A number in the same memory is
//! another one after every change, so whoever has the lock knows whether its own books are still right; it is odd while a
//! change is under way, so whoever finds it odd puts right what somebody has left half done.

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_prog::{format::Format, layout::Policy};

use super::{Array, Writer};
use crate::{
    KernelError, Kind, Retired,
    kernel::{Held, Lock},
};

const _: () = assert!(Format::KINDS == Kind::ALL.len());

/// What goes with the rules.
#[derive(Debug)]
pub(crate) struct Shared {
    /// One.
    pub(crate) format: Array<Format>,
    /// One [`Policy`], which the programs read.
    pub(crate) policy: Array<AtomicU64>,
    pub(crate) lock: Lock,
}

/// What a writer knows of the changes by others.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// The number of the change up to which it knows the rules.
    pub(super) seen: Option<u64>,
    /// Whether rules are being changed, and it is said so in their memory.
    pub(super) is_changing: bool,
    /// Whether everything was found out anew since somebody asked.
    pub(super) caught_up: bool,
}

impl Shared {
    pub(super) fn policy(&self) -> Policy {
        zerocopy::transmute!(self.policy[0].load(Ordering::Acquire))
    }

    pub(super) fn lock(&self) -> Result<Held<'_>, KernelError> {
        self.lock.hold()
    }

    /// Says that a change begins. What follows is not written before.
    pub(super) fn begin(&self) {
        let format = &self.format[0];
        format.set_generation(format.generation() | 1);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Says that a change is done, and returns its number.
    pub(super) fn finish(&self, writer: &Writer) -> u64 {
        let format = &self.format[0];
        format.set_retired(writer.retired().map(|Retired { rules, hits }| [rules, hits]));
        let generation = (format.generation() | 1).wrapping_add(1);
        format.set_generation(generation);
        generation
    }

    pub(super) fn generation(&self) -> u64 {
        self.format[0].generation()
    }

    pub(super) fn retired(&self) -> [Retired; Kind::ALL.len()] {
        self.format[0].retired().map(|[rules, hits]| Retired { rules, hits })
    }
}
