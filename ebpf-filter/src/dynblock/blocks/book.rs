//! The blocks that there are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use foldhash::quality::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::QName;
use crate::dynblock::{QueryEvent, Scope, Subject, entry::Entry, subject::suffixes};

/// The most blocks that there may be; and as many warnings and dry runs, which take no room from blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) total: usize,
    pub(crate) per_cover: usize,
    pub(crate) cover4: u8,
    pub(crate) cover6: u8,
}

impl Caps {
    /// The range whose blocks are counted together with one for this subject, unless it is as large itself.
    fn cover(&self, subject: &Subject) -> Option<IpNet> {
        match subject.net()? {
            IpNet::V4(net) if net.prefix_len() > self.cover4 => {
                Some(Ipv4Net::new(net.addr(), self.cover4).ok()?.trunc().into())
            }
            IpNet::V6(net) if net.prefix_len() > self.cover6 => {
                Some(Ipv6Net::new(net.addr(), self.cover6).ok()?.trunc().into())
            }
            IpNet::V4(_) | IpNet::V6(_) => None,
        }
    }
}

/// How many blocks there are, in all and in each range.
#[derive(Debug, Default)]
struct Census {
    total: usize,
    covers: HashMap<IpNet, usize, RandomState>,
}

/// How many there are by protocol and prefix length.
#[derive(Debug)]
struct Lengths([Box<[u32]>; 2]);

impl Lengths {
    fn new() -> Self {
        Self([vec![0; 33].into(), vec![0; 129].into()])
    }

    fn add(&mut self, net: IpNet, by: i32) {
        let lens = &mut self.0[usize::from(matches!(net, IpNet::V6(_)))];
        if let Some(count) = lens.get_mut(usize::from(net.prefix_len())) {
            *count = count.saturating_add_signed(by);
        }
    }

    /// The ranges of lengths that there are which this address is in, the shortest first.
    fn around(&self, address: IpAddr) -> impl DoubleEndedIterator<Item = IpNet> {
        let lens = &self.0[usize::from(address.is_ipv6())];
        let lens = lens.iter().enumerate().filter(|(_, count)| **count > 0);
        lens.filter_map(move |(len, _)| Some(IpNet::new(address, u8::try_from(len).ok()?).ok()?.trunc()))
    }
}

/// All blocks.
#[derive(Debug)]
pub(crate) struct Book {
    caps: Caps,
    entries: HashMap<Subject, Vec<Entry>, RandomState>,
    /// Of blocks, and of those that do nothing.
    census: [Census; 2],
    due: BTreeSet<(u64, u64)>,
    subjects: HashMap<u64, Subject, RandomState>,
    next_id: u64,
    /// Blocks for all queries of a range.
    ranges: Lengths,
    /// What user space enforces alone: how many, which ranges, which ports of an address, and how many suffixes.
    alone: u64,
    alone_ranges: Lengths,
    alone_ports: HashMap<Ipv4Addr, BTreeMap<(u16, u16), u32>, RandomState>,
    alone_suffixes: u32,
}

impl Book {
    pub(crate) fn new(caps: Caps) -> Self {
        Self {
            caps,
            entries: HashMap::default(),
            census: Default::default(),
            due: BTreeSet::new(),
            subjects: HashMap::default(),
            next_id: 0,
            ranges: Lengths::new(),
            alone: 0,
            alone_ranges: Lengths::new(),
            alone_ports: HashMap::default(),
            alone_suffixes: 0,
        }
    }

    pub(crate) fn get(&self, subject: &Subject, scope: &Scope) -> Option<&Entry> {
        self.entries.get(subject)?.iter().find(|entry| entry.scope == *scope)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Subject, &Entry)> {
        self.entries.iter().flat_map(|(subject, entries)| entries.iter().map(move |entry| (subject, entry)))
    }

    fn find(&self, id: u64) -> Option<(Subject, Scope)> {
        let subject = self.subjects.get(&id)?;
        let entry = self.entries.get(subject)?.iter().find(|entry| entry.id == id)?;
        Some((subject.clone(), entry.scope.clone()))
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether there is room for another one: how many there may be, and the range that is full, if only that is.
    pub(crate) fn room_for(&self, subject: &Subject, harmless: bool) -> Result<(), (usize, Option<IpNet>)> {
        let Census { total, covers } = &self.census[usize::from(harmless)];
        if *total >= self.caps.total {
            return Err((self.caps.total, None));
        }
        match self.caps.cover(subject) {
            Some(cover) if covers.get(&cover).is_some_and(|count| *count >= self.caps.per_cover) => {
                Err((self.caps.per_cover, Some(cover)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The blocks for all queries of a range that this one is part of, the smallest first.
    pub(crate) fn around(&self, subject: &Subject) -> impl Iterator<Item = &Entry> {
        let own = match subject {
            Subject::Source(net) => Some(net.prefix_len()),
            Subject::Ports { .. } | Subject::Suffix(_) => None,
        };
        let ranges = subject.net().into_iter().flat_map(|net| self.ranges.around(net.addr()).rev());
        ranges
            .filter(move |range| own.is_none_or(|own| range.prefix_len() < own))
            .filter_map(|range| self.get(&Subject::Source(range), &Scope::All))
            .filter(|entry| !entry.is_harmless())
    }

    /// Files an entry. There must be none for the same subject and scope.
    pub(crate) fn put(&mut self, subject: Subject, entry: Entry) {
        let cover = self.caps.cover(&subject);
        let census = &mut self.census[usize::from(entry.is_harmless())];
        census.total += 1;
        if let Some(cover) = cover {
            *census.covers.entry(cover).or_default() += 1;
        }
        self.due.insert((entry.due, entry.id));
        self.subjects.insert(entry.id, subject.clone());
        self.index(&subject, &entry, 1);
        self.entries.entry(subject).or_default().push(entry);
    }

    /// Takes an entry out, to change it and `put` it back, or for good.
    pub(crate) fn take(&mut self, subject: &Subject, scope: &Scope) -> Option<Entry> {
        let entries = self.entries.get_mut(subject)?;
        let place = entries.iter().position(|entry| entry.scope == *scope)?;
        let entry = entries.swap_remove(place);
        if entries.is_empty() {
            self.entries.remove(subject);
        }
        let cover = self.caps.cover(subject);
        let census = &mut self.census[usize::from(entry.is_harmless())];
        census.total -= 1;
        if let Some(cover) = cover
            && let Some(count) = census.covers.get_mut(&cover)
        {
            *count -= 1;
            if *count == 0 {
                census.covers.remove(&cover);
            }
        }
        self.due.remove(&(entry.due, entry.id));
        self.subjects.remove(&entry.id);
        self.index(subject, &entry, -1);
        Some(entry)
    }

    /// The first entry that the keeper has to look at by now.
    pub(crate) fn first_due(&self, now: u64) -> Option<(Subject, Scope)> {
        let (due, id) = self.due.first()?;
        if *due <= now { self.find(*id) } else { None }
    }

    /// When the keeper has to look at one.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// How many blocks user space enforces alone.
    pub(crate) const fn alone(&self) -> u64 {
        self.alone
    }

    fn index(&mut self, subject: &Subject, entry: &Entry, by: i32) {
        if entry.is_harmless() {
            return;
        }
        if let Subject::Source(net) = subject
            && entry.scope == Scope::All
        {
            self.ranges.add(*net, by);
        }
        if entry.placed.is_in_filter() {
            return;
        }
        self.alone = self.alone.saturating_add_signed(by.into());
        match subject {
            Subject::Source(net) => self.alone_ranges.add(*net, by),
            Subject::Suffix(_) => self.alone_suffixes = self.alone_suffixes.saturating_add_signed(by),
            Subject::Ports { address, first, last } => {
                let ports = self.alone_ports.entry(*address).or_default();
                let count = ports.entry((*first, *last)).or_default();
                *count = count.saturating_add_signed(by);
                if *count == 0 {
                    ports.remove(&(*first, *last));
                }
                if ports.is_empty() {
                    self.alone_ports.remove(address);
                }
            }
        }
    }

    /// Of the blocks that user space enforces alone, the one that this query loses most by.
    pub(crate) fn strictest(&self, query: &QueryEvent<'_>, now: u64) -> Option<&Entry> {
        self.sources(query.source())
            .chain(self.suffixes(query.name()))
            .filter(|entry| !entry.is_harmless() && !entry.placed.is_in_filter() && !entry.is_over(now))
            .filter(|entry| entry.scope.covers(query.name(), query.qtype()))
            .filter_map(|entry| Some((entry.strength_over(query.transport())?, entry)))
            .max_by_key(|(strength, _)| *strength)
            .map(|(_, entry)| entry)
    }

    fn sources(&self, client: SocketAddr) -> impl Iterator<Item = &Entry> {
        let port = client.port();
        let ports = match client.ip() {
            IpAddr::V4(address) => self.alone_ports.get(&address).map(|ports| (address, ports)),
            IpAddr::V6(_) => None,
        };
        let ports = ports.into_iter().flat_map(move |(address, ports)| {
            let here = ports.keys().filter(move |(first, last)| (*first..=*last).contains(&port));
            here.map(move |(first, last)| Subject::Ports { address, first: *first, last: *last })
        });
        let ranges = self.alone_ranges.around(client.ip()).map(Subject::Source);
        ranges.chain(ports).filter_map(|subject| self.entries.get(&subject)).flatten()
    }

    fn suffixes(&self, name: &QName) -> impl Iterator<Item = &Entry> {
        let wires = (self.alone_suffixes > 0).then(|| suffixes(name)).into_iter().flatten();
        wires.filter_map(|wire| self.entries.get(&Subject::Suffix(QName::from_wire(wire).ok()?))).flatten()
    }
}
