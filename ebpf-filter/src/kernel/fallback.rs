//! Where there is no such kernel: a type of the same shape that cannot be made.

use std::{
    convert::Infallible,
    os::fd::{AsFd, BorrowedFd},
};

use ebpf_prog::{Malformed as MalformedReason, layout::Kinds};

use crate::{AttachError, KernelError, Match, Program, Rule, RuleError, Unavailable, builder::Sizes};

/// What the socket receives: of no interest where nothing is attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload {
    Opaque,
}

impl Payload {
    #[expect(clippy::unnecessary_wraps, reason = "the signature of the real one")]
    pub(crate) fn of(_socket: BorrowedFd<'_>) -> Result<Self, AttachError> {
        Ok(Self::Opaque)
    }
}

#[derive(Debug)]
pub(crate) struct Kernel(Infallible);

impl Kernel {
    pub(crate) fn load(_sizes: Sizes, _drop_malformed: bool) -> Result<Self, Unavailable> {
        Err(Unavailable::NotLinux)
    }

    pub(crate) fn attach(&self, _socket: BorrowedFd<'_>, _payload: Payload) -> Result<(), AttachError> {
        match self.0 {}
    }

    #[expect(clippy::unnecessary_wraps, reason = "the signature of the real one")]
    pub(crate) fn detach(_socket: impl AsFd) -> Result<(), AttachError> {
        Ok(())
    }

    pub(crate) fn programs(&self) -> Vec<Program> {
        match self.0 {}
    }

    pub(crate) fn insert(&self, _rules: &[Rule]) -> Result<(), RuleError> {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _matches: &[Match]) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub(crate) fn set_kinds(&self, _kinds: Kinds) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub(crate) fn add_hits(&self, _rules: &mut [(Rule, u64)]) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub(crate) fn reset_hits(&self, _rules: &[Rule]) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub(crate) fn malformed(&self) -> Result<[u64; MalformedReason::ALL.len()], KernelError> {
        match self.0 {}
    }
}
