//! A hash map in the kernel, with the types of its keys and values.

#![allow(unsafe_code, reason = "vouches for the sizes of keys and values towards the system calls")]

use std::{io, marker::PhantomData, os::fd::AsFd as _};

use aya::maps::{Map, MapData};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys;
use crate::KernelError;

/// How many entries one system call reads.
const BATCH: usize = 4096;

/// What a map is made of: plain bytes to the kernel.
pub(super) trait Entry: IntoBytes + FromBytes + Immutable + Clone {}

impl<T: IntoBytes + FromBytes + Immutable + Clone> Entry for T {}

/// Keys and values are checked to have the sizes of `K` and `V` when this is made.
#[derive(Debug)]
pub(super) struct RuleMap<K, V> {
    data: MapData,
    name: &'static str,
    entries: PhantomData<fn(K) -> V>,
}

impl<K: Entry, V: Entry> RuleMap<K, V> {
    /// `None` if it is another kind of map, or has other sizes.
    pub(super) fn new(map: Map, name: &'static str) -> Option<Self> {
        let Map::HashMap(data) = map else { return None };
        let info = data.info().ok()?;
        let same = info.key_size() as usize == size_of::<K>() && info.value_size() as usize == size_of::<V>();
        same.then_some(Self { data, name, entries: PhantomData })
    }

    /// Adds all of these, none of which exists, or none.
    pub(super) fn add(&self, keys: &[K], values: &[V]) -> Result<(), KernelError> {
        let map = self.data.fd().as_fd();
        let added = match (keys, values) {
            ([], _) | (_, []) => return Ok(()),
            // SAFETY: the sizes were checked.
            ([key], [value]) => unsafe { sys::add(map, key, value) }.map_err(|error| (0, error)),
            // SAFETY: the sizes were checked.
            _ => unsafe { sys::write(map, keys, values) },
        };
        added.map_err(|(added, error)| {
            let undone = self.remove(&keys[..added.min(keys.len())]);
            undone.err().unwrap_or_else(|| self.error("add to", error))
        })
    }

    /// Overwrites these, all of which exist.
    pub(super) fn replace(&self, keys: &[K], values: &[V]) -> Result<(), KernelError> {
        if keys.is_empty() {
            return Ok(());
        }
        // SAFETY: the sizes were checked.
        unsafe { sys::write(self.data.fd().as_fd(), keys, values) }
            .map_err(|(_, error)| self.error("write to", error))
    }

    /// Removes these; what is not there is skipped.
    pub(super) fn remove(&self, mut keys: &[K]) -> Result<(), KernelError> {
        while !keys.is_empty() {
            // SAFETY: the sizes were checked.
            match unsafe { sys::delete(self.data.fd().as_fd(), keys) } {
                Ok(()) => return Ok(()),
                Err((done, error)) if error.raw_os_error() == Some(libc::ENOENT) && done < keys.len() => {
                    keys = &keys[done + 1..];
                }
                Err((_, error)) => return Err(self.error("remove from", error)),
            }
        }
        Ok(())
    }

    /// Hands every entry to `each`.
    pub(super) fn for_each(&self, mut each: impl FnMut(&K, &V)) -> Result<(), KernelError> {
        let mut keys = vec![K::new_zeroed(); BATCH];
        let mut values = vec![V::new_zeroed(); BATCH];
        let mut cursor = None;
        loop {
            // SAFETY: the sizes were checked.
            let read = unsafe { sys::lookup(self.data.fd().as_fd(), &mut cursor, &mut keys, &mut values) }
                .map_err(|error| self.error("read", error))?;
            for (key, value) in keys.iter().zip(&values).take(read) {
                each(key, value);
            }
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> KernelError {
        KernelError { operation, map: self.name, source }
    }
}
