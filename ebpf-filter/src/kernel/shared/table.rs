//! One map, as bytes.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
};

use aya::maps::{HashMap, Map, MapData, MapError};

use crate::{
    KernelError,
    kernel::{Update, Updated, pin::os_error, sys},
};

/// `BPF_ANY`, `BPF_NOEXIST` and `BPF_EXIST` in `linux/bpf.h`.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;
const EXIST: u64 = 2;

/// A hash map or a trie: the system calls for both are the same, and aya checks sizes alone.
#[derive(Debug)]
pub(super) struct Table<const K: usize, const V: usize> {
    name: &'static str,
    reader: HashMap<MapData, [u8; K], [u8; V]>,
    /// The same map. aya wants it mutable, although the kernel does not mind.
    writer: Mutex<HashMap<MapData, [u8; K], [u8; V]>>,
}

impl<const K: usize, const V: usize> Table<K, V> {
    pub(super) fn new(map: MapData, name: &'static str) -> io::Result<Self> {
        let again = MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?).map_err(os_error)?;
        let reader = Map::HashMap(map).try_into().map_err(os_error)?;
        let writer = Map::HashMap(again).try_into().map_err(os_error)?;
        Ok(Self { name, reader, writer: Mutex::new(writer) })
    }

    /// Of a trie, this is what the longest prefix says.
    pub(super) fn lookup(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, KernelError> {
        match self.reader.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(self.error("read", os_error(error))),
        }
    }

    /// Whether there is an entry for this very key. The first key follows a key that there is not, and never one that there is.
    pub(super) fn has(&self, key: &[u8; K]) -> Result<bool, KernelError> {
        /// How often others may change what comes first in between.
        const ATTEMPTS: usize = 16;
        let next = |key| sys::next_key(&self.reader, key).map_err(|error| self.error("read", error));
        let mut first = next(None)?;
        for _ in 0..ATTEMPTS {
            let following = next(Some(key))?;
            let still_first = next(None)?;
            if first == still_first {
                return Ok(first.is_some() && following != first);
            }
            first = still_first;
        }
        // Somebody changes this map all the time: the keys themselves say it.
        Ok(self.entries()?.iter().any(|(other, _)| other == key))
    }

    pub(super) fn update(&self, key: &[u8; K], value: &[u8; V], how: Update) -> Result<Updated, KernelError> {
        self.write(
            key,
            value,
            match how {
                Update::Insert => NOEXIST,
                Update::Change => EXIST,
            },
        )
    }

    pub(super) fn set(&self, key: &[u8; K], value: &[u8; V]) -> Result<Updated, KernelError> {
        self.write(key, value, ANY)
    }

    fn write(&self, key: &[u8; K], value: &[u8; V], flags: u64) -> Result<Updated, KernelError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = writer.insert(key, value, flags) else { return Ok(Updated::Done) };
        let error = os_error(error);
        match error.raw_os_error() {
            Some(libc::EEXIST) => Ok(Updated::Duplicate),
            Some(libc::ENOENT) => Ok(Updated::Missing),
            // Hash maps, and tries.
            Some(libc::E2BIG | libc::ENOSPC) => Ok(Updated::Full),
            _ => Err(self.error("write to", error)),
        }
    }

    pub(super) fn remove(&self, key: &[u8; K]) -> Result<bool, KernelError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = writer.remove(key) else { return Ok(true) };
        let error = os_error(error);
        if error.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(self.error("write to", error)) }
    }

    /// Every entry that is there from beginning to end of the walk.
    pub(super) fn entries(&self) -> Result<Vec<sys::Entry<K, V>>, KernelError> {
        /// So many at once, and four times as many if so many share a bucket of a hash map.
        const ENTRIES: u32 = 1024;
        /// A walk through a trie begins anew when the entry that it stands on goes.
        const RESTARTS: usize = 16;
        let mut entries = BTreeMap::new();
        let (mut position, mut at_once, mut seen_again) = (None, ENTRIES, 0);
        loop {
            let batch = match sys::lookup_batch(&self.reader, &mut position, at_once) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && at_once < u32::MAX / 4 => {
                    at_once *= 4;
                    continue;
                }
                outcome => outcome.map_err(|error| self.error("read", error))?,
            };
            let before = entries.len();
            let (found, more) = batch;
            let count = found.len();
            entries.extend(found);
            seen_again += usize::from(entries.len() < before + count);
            if !more || count == 0 || seen_again > RESTARTS {
                return Ok(entries.into_iter().collect());
            }
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> KernelError {
        KernelError { operation, map: self.name, source }
    }
}
