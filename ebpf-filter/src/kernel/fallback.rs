//! Where there is no such kernel: a type of the same shape that cannot be made.

use std::{
    convert::Infallible,
    io,
    marker::PhantomData,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use ebpf_prog::{Malformed as MalformedReason, layout::Policy};
use zerocopy::FromZeros;

use super::{Update, Updated};
use crate::{
    AttachError, ExternalError, KernelError, Kind, PinError, Program, Unavailable,
    engine::Memory,
    external::{End, EndKey, ExternalMaps, Key, Value},
    sizes::Sizes,
};

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

/// Memory of this process alone.
#[derive(Debug)]
pub(crate) struct Mapping<T>(Box<[T]>);

impl<T: FromZeros> Mapping<T> {
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let elements = <[T]>::new_box_zeroed_with_elems(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Self(elements))
    }
}

impl<T> Deref for Mapping<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

pub(crate) fn prefetch<T>(_line: &T) {}

/// Memory that is not shared needs no lock.
#[derive(Debug)]
pub(crate) struct Lock(Infallible);

#[derive(Debug)]
pub(crate) struct Held<'a>(Infallible, PhantomData<&'a Lock>);

impl Lock {
    pub(crate) fn hold(&self) -> Result<Held<'_>, KernelError> {
        match self.0 {}
    }

    pub(crate) fn directory(&self) -> &Path {
        match self.0 {}
    }

    pub(crate) fn unpin(&self) -> Result<(), PinError> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) struct Kernel(Infallible);

impl Kernel {
    pub(crate) fn load(
        _sizes: Sizes,
        _seed: [u64; 2],
        _payload_offset: u32,
    ) -> Result<(Self, Memory), Unavailable> {
        Err(Unavailable::NotLinux)
    }

    pub(crate) fn load_pinned(
        directory: &Path,
        _sizes: Sizes,
        _seed: [u64; 2],
        _payload_offset: u32,
    ) -> Result<(Self, Memory), PinError> {
        let (action, source) = ("load programs for the pins in", Arc::new(Unavailable::NotLinux));
        Err(PinError::Unavailable { action, path: directory.to_owned(), source })
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

    pub(crate) fn set_policy(&self, _policy: Policy) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub(crate) fn run(&self, _program: &str, _frame: &[u8]) -> Option<u32> {
        match self.0 {}
    }

    pub(crate) fn malformed(&self) -> Result<[u64; MalformedReason::ALL.len()], KernelError> {
        match self.0 {}
    }
}

/// Maps that are shared with programs of others.
#[derive(Debug)]
pub(crate) struct SharedMaps(Infallible);

impl SharedMaps {
    pub(crate) fn open(_paths: &ExternalMaps, _sizes: Sizes) -> Result<Self, ExternalError> {
        Err(ExternalError::Kernel(Arc::new(Unavailable::NotLinux)))
    }

    pub(crate) fn lookup(&self, _key: &Key) -> Result<Option<Value>, KernelError> {
        match self.0 {}
    }

    pub(crate) fn update(&self, _key: &Key, _value: &Value, _how: Update) -> Result<Updated, KernelError> {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _key: &Key) -> Result<bool, KernelError> {
        match self.0 {}
    }

    pub(crate) fn entries(&self, _kind: Kind) -> Result<Vec<(Key, Value)>, KernelError> {
        match self.0 {}
    }

    pub(crate) fn ends(&self) -> Result<Vec<(EndKey, End)>, KernelError> {
        match self.0 {}
    }

    pub(crate) fn set_end(&self, _key: &EndKey, _end: &End) -> Result<Updated, KernelError> {
        match self.0 {}
    }

    pub(crate) fn remove_end(&self, _key: &EndKey) -> Result<bool, KernelError> {
        match self.0 {}
    }
}
