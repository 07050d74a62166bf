//! When entries end. The format has no room for it, so it is in a map of this library's own, pinned beside the others: it is still
//! known after this process was killed.

use std::collections::{BTreeSet, HashMap};

use super::format::{self, Key, Value};
use crate::{KernelError, kernel::SharedMaps};

/// Which entry: the number of its map, zero, and its key with zeros behind it.
pub(crate) type EndKey = [u8; 260];
/// When it ends in nanoseconds of `CLOCK_MONOTONIC`, and what it was like when that was said: its hits, its action, zeros.
pub(crate) type End = [u8; 24];

/// Where the key is in an [`EndKey`].
const KEY: usize = 2;

/// An end, and what tells the entry that it is for from one that somebody else has put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: u64,
    pub(super) hits: u64,
    pub(super) action: u8,
}

impl Deadline {
    /// Whether the entry with this value may be the one that is to end: the same action, and no fewer hits than it had.
    pub(super) fn is_for(&self, value: &Value) -> bool {
        format::action_number(value) == self.action && format::hits(value) >= self.hits
    }

    fn to_bytes(self) -> End {
        let mut end = [0; size_of::<End>()];
        end[..8].copy_from_slice(&self.at.to_ne_bytes());
        end[8..].copy_from_slice(&format::value(self.hits, self.action));
        end
    }

    fn from_bytes(end: &End) -> Option<Self> {
        let (at, value) = end.split_first_chunk()?;
        let value = value.try_into().ok()?;
        Some(Self {
            at: u64::from_ne_bytes(*at),
            hits: format::hits(value),
            action: format::action_number(value),
        })
    }
}

/// The ends that are known, in the map and here, and the first of them.
#[derive(Debug, Default)]
pub(super) struct Ends {
    of: HashMap<Key, Deadline>,
    order: BTreeSet<(u64, Key)>,
}

impl Ends {
    /// What was pinned. Ends of entries that are gone are forgotten.
    pub(super) fn read(maps: &SharedMaps) -> Result<Self, KernelError> {
        let mut ends = Self::default();
        for (bytes, end) in maps.ends()? {
            match (from_bytes(&bytes), Deadline::from_bytes(&end)) {
                (Some(key), Some(deadline)) if maps.lookup(&key)?.is_some() => ends.keep(key, deadline),
                _ => {
                    maps.remove_end(&bytes)?;
                }
            }
        }
        Ok(ends)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Deadline> {
        self.of.get(key).copied()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The entry that ends first, if its end has come.
    pub(super) fn due(&self, now: u64) -> Option<(Key, Deadline)> {
        let (_, key) = self.order.first().filter(|(at, _)| *at <= now)?;
        Some((key.clone(), self.get(key)?))
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.of.keys().cloned().collect()
    }

    /// The entry ends then.
    pub(super) fn set(
        &mut self,
        maps: &SharedMaps,
        key: &Key,
        deadline: Deadline,
    ) -> Result<(), KernelError> {
        let bytes = to_bytes(key);
        // There is room for one end for each entry, and others may have removed entries that had one.
        if maps.set_end(&bytes, &deadline.to_bytes())? != crate::kernel::Updated::Done {
            for other in self.keys() {
                if maps.lookup(&other)?.is_none() {
                    self.forget(maps, &other)?;
                }
            }
            if maps.set_end(&bytes, &deadline.to_bytes())? != crate::kernel::Updated::Done {
                let source = std::io::ErrorKind::StorageFull.into();
                return Err(KernelError { operation: "write to", map: "ends", source });
            }
        }
        self.drop(key);
        self.keep(key.clone(), deadline);
        Ok(())
    }

    /// The entry has no end, or is gone.
    pub(super) fn forget(&mut self, maps: &SharedMaps, key: &Key) -> Result<(), KernelError> {
        if self.drop(key) {
            maps.remove_end(&to_bytes(key))?;
        }
        Ok(())
    }

    fn keep(&mut self, key: Key, deadline: Deadline) {
        self.order.insert((deadline.at, key.clone()));
        self.of.insert(key, deadline);
    }

    fn drop(&mut self, key: &Key) -> bool {
        let Some(deadline) = self.of.remove(key) else { return false };
        self.order.remove(&(deadline.at, key.clone()))
    }
}

fn to_bytes(key: &Key) -> EndKey {
    let mut bytes = [0; size_of::<EndKey>()];
    let (number, key): (u8, &[u8]) = match key {
        Key::Ipv4(key) => (0, key),
        Key::Ipv6(key) => (1, key),
        Key::Qname(key) => (2, key.as_slice()),
        Key::Range4(key) => (4, key),
        Key::Range6(key) => (5, key),
    };
    bytes[0] = number;
    bytes[KEY..KEY + key.len()].copy_from_slice(key);
    bytes
}

fn from_bytes(bytes: &EndKey) -> Option<Key> {
    let key = &bytes[KEY..];
    Some(match bytes[0] {
        0 => Key::Ipv4(*key.first_chunk()?),
        1 => Key::Ipv6(*key.first_chunk()?),
        2 => Key::Qname(Box::new(*key.first_chunk()?)),
        4 => Key::Range4(*key.first_chunk()?),
        5 => Key::Range6(*key.first_chunk()?),
        _ => return None,
    })
}
