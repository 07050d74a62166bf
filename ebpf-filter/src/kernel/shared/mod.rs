//! Maps that are shared with programs of others.

mod table;

use std::{io, path::Path};

use aya::maps::MapType;

use self::table::Table;
use super::{
    Update, Updated,
    pin::{self, Shape, Wanted},
};
use crate::{
    ExternalError, KernelError, Kind,
    external::{End, EndKey, ExternalMaps, Key, Value, unavailable},
    sizes::Sizes,
};

/// `BPF_F_NO_PREALLOC` in `linux/bpf.h`. The kernel wants it of tries.
const NO_PREALLOC: u32 = 1;

/// The maps of one filter. A kind without a map has no entries.
#[derive(Debug)]
pub(crate) struct SharedMaps {
    ipv4: Option<Table<4, 16>>,
    ipv6: Option<Table<16, 16>>,
    qnames: Option<Table<258, 16>>,
    ranges4: Option<Table<8, 16>>,
    ranges6: Option<Table<20, 16>>,
    ends: Table<{ size_of::<EndKey>() }, { size_of::<End>() }>,
}

/// Calls a method of the table that the key is for, with what is in the key.
macro_rules! of_table {
    ($maps:expr, $key:expr, $absent:expr, |$table:ident, $inner:ident| $call:expr) => {
        match $key {
            Key::Ipv4($inner) => $maps.ipv4.as_ref().map_or($absent, |$table| $call),
            Key::Ipv6($inner) => $maps.ipv6.as_ref().map_or($absent, |$table| $call),
            Key::Range4($inner) => $maps.ranges4.as_ref().map_or($absent, |$table| $call),
            Key::Range6($inner) => $maps.ranges6.as_ref().map_or($absent, |$table| $call),
            Key::Qname($inner) => $maps.qnames.as_ref().map_or($absent, |$table| $call),
        }
    };
}

impl SharedMaps {
    /// Opens the maps that are pinned, and creates and pins the others.
    pub(crate) fn open(paths: &ExternalMaps, sizes: Sizes) -> Result<Self, ExternalError> {
        let kinds = Kind::ALL.into_iter().filter_map(|kind| Some((kind, paths.of(kind)?)));
        let mut wanted: Vec<_> = kinds
            .filter(|(kind, _)| sizes.of(*kind) > 0)
            .filter_map(|(kind, path)| {
                Some(Wanted { path, name: name(kind), shape: shape(kind, sizes.of(kind))? })
            })
            .collect();
        let Some(first) = wanted.first() else { return Err(ExternalError::NoMaps) };
        let ends = paths.ends_beside(first.path);
        let most = wanted.iter().map(|wanted| wanted.shape.max_entries).fold(0, u32::saturating_add);
        wanted.push(ends_at(&ends, most));
        let mut pinned = pin::open_or_create(&wanted)?.into_iter().map(|pinned| pinned.map);
        let mut next =
            |kind: Kind| (sizes.of(kind) > 0 && paths.of(kind).is_some()).then(|| pinned.next()).flatten();
        // In the order of `Kind::ALL`.
        let [ipv4, ipv6, ranges4, ranges6, qnames, _] = Kind::ALL.map(&mut next);
        let opened = || -> io::Result<Self> {
            Ok(Self {
                ipv4: ipv4.map(|map| Table::new(map, "addr-v4")).transpose()?,
                ipv6: ipv6.map(|map| Table::new(map, "addr-v6")).transpose()?,
                ranges4: ranges4.map(|map| Table::new(map, "cidr4")).transpose()?,
                ranges6: ranges6.map(|map| Table::new(map, "cidr6")).transpose()?,
                qnames: qnames.map(|map| Table::new(map, "qnames")).transpose()?,
                ends: Table::new(pinned.next().ok_or(io::ErrorKind::NotFound)?, "ends")?,
            })
        };
        opened().map_err(|source| unavailable("use the maps", source))
    }

    /// What the map says of this very key. Of a range, what is said of a larger one is not asked.
    pub(crate) fn lookup(&self, key: &Key) -> Result<Option<Value>, KernelError> {
        let is_range = matches!(key, Key::Range4(_) | Key::Range6(_));
        of_table!(self, key, Ok(None), |table, key| {
            if is_range && !table.has(key)? { Ok(None) } else { table.lookup(key) }
        })
    }

    /// Changes an entry or makes one. Tries ignore whether there is one before Linux 6.13, so the caller has looked.
    pub(crate) fn update(&self, key: &Key, value: &Value, how: Update) -> Result<Updated, KernelError> {
        of_table!(self, key, Ok(Updated::Full), |table, key| table.update(key, value, how))
    }

    /// Removes an entry, and says whether there was one.
    pub(crate) fn remove(&self, key: &Key) -> Result<bool, KernelError> {
        of_table!(self, key, Ok(false), |table, key| table.remove(key))
    }

    /// Every entry of a kind that is there from beginning to end of the walk.
    pub(crate) fn entries(&self, kind: Kind) -> Result<Vec<(Key, Value)>, KernelError> {
        fn of<const K: usize>(
            table: Option<&Table<K, 16>>,
            key: impl Fn([u8; K]) -> Key,
        ) -> Result<Vec<(Key, Value)>, KernelError> {
            let entries = table.map_or(Ok(Vec::new()), Table::entries)?;
            Ok(entries.into_iter().map(|(inner, value)| (key(inner), value)).collect())
        }
        match kind {
            Kind::Ipv4 => of(self.ipv4.as_ref(), Key::Ipv4),
            Kind::Ipv6 => of(self.ipv6.as_ref(), Key::Ipv6),
            Kind::Range4 => of(self.ranges4.as_ref(), Key::Range4),
            Kind::Range6 => of(self.ranges6.as_ref(), Key::Range6),
            Kind::Qname => of(self.qnames.as_ref(), |inner| Key::Qname(Box::new(inner))),
            Kind::Suffix => Ok(Vec::new()),
        }
    }

    /// When entries end.
    pub(crate) fn ends(&self) -> Result<Vec<(EndKey, End)>, KernelError> {
        self.ends.entries()
    }

    pub(crate) fn set_end(&self, key: &EndKey, end: &End) -> Result<Updated, KernelError> {
        self.ends.set(key, end)
    }

    pub(crate) fn remove_end(&self, key: &EndKey) -> Result<bool, KernelError> {
        self.ends.remove(key)
    }
}

fn shape(kind: Kind, max_entries: u32) -> Option<Shape> {
    let (map_type, key_size, flags) = match kind {
        Kind::Ipv4 => (MapType::Hash, 4, 0),
        Kind::Ipv6 => (MapType::Hash, 16, 0),
        Kind::Range4 => (MapType::LpmTrie, 8, NO_PREALLOC),
        Kind::Range6 => (MapType::LpmTrie, 20, NO_PREALLOC),
        Kind::Qname => (MapType::Hash, 258, 0),
        Kind::Suffix => return None,
    };
    Some(Shape { map_type, key_size, value_size: 16, max_entries, flags })
}

/// What `bpftool map show` calls a map: there are no dashes in such names.
const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ipv4 => "addr_v4",
        Kind::Ipv6 => "addr_v6",
        Kind::Range4 => "cidr4",
        Kind::Range6 => "cidr6",
        Kind::Qname | Kind::Suffix => "qnames",
    }
}

/// The map of ends takes memory as it fills: most entries have no end.
fn ends_at(path: &Path, max_entries: u32) -> Wanted<'_> {
    let [key_size, value_size] =
        [size_of::<EndKey>(), size_of::<End>()].map(|size| u32::try_from(size).unwrap_or(0));
    let shape = Shape { map_type: MapType::Hash, key_size, value_size, max_entries, flags: NO_PREALLOC };
    Wanted { path, name: "ends", shape }
}
