//! Rules as they lie in memory that the kernel and user space share.
//!
//! Every rule is an element of an array that both sides see: a BPF array map that is also mapped into the process, or
//! plain memory where the kernel takes no part. All fields are atomics, because one side writes while the other reads;
//! `table` says in which order.

use core::sync::atomic::Ordering::Relaxed;

pub use crate::action::Action;
#[cfg(not(target_arch = "bpf"))]
use crate::table::{Table, TableFull};
use crate::{
    shared::{AtomicU32, AtomicU64},
    table::{ACQUIRE, Node},
};

/// What every rule has, whatever it matches; and the links of the table that it is in.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(C)]
pub struct Cell {
    /// The next rule of the same bucket: its index and 1, or 0.
    pub(crate) next: AtomicU32,
    /// Not of this rule, but of the bucket with this index: its first rule, likewise.
    pub(crate) head: AtomicU32,
    hits: AtomicU64,
    /// `CLOCK_MONOTONIC` in nanoseconds, or 0 for never.
    expires: AtomicU64,
    state: AtomicU32,
    /// What the kind of rule makes of it: an IPv4 address, or where the rest of a name is.
    pub(crate) word: AtomicU32,
}

impl Cell {
    /// Counts a packet, and says how many that makes.
    #[inline(always)]
    pub fn hit(&self) -> u64 {
        self.hits.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Packets that were counted.
    pub fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// What the rule does.
    pub fn action(&self) -> Action {
        Action::from_byte(self.action_byte())
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "it is in the lowest byte")]
    pub(crate) fn action_byte(&self) -> u8 {
        self.state.load(Relaxed) as u8
    }

    /// When the rule ends: `CLOCK_MONOTONIC` in nanoseconds, or 0 for never.
    #[inline(always)]
    pub fn expires(&self) -> u64 {
        self.expires.load(Relaxed)
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        State(self.state.load(ACQUIRE))
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Cell {
    /// Starts counting anew, and says what was counted.
    pub fn reset_hits(&self) -> u64 {
        self.hits.swap(0, Relaxed)
    }

    /// Gives a rule in force another action, another end and another maker. Packets are decided by the old or the new action.
    pub fn change(&self, terms: Terms) {
        self.expires.store(terms.expires, Relaxed);
        let state = self.state.load(Relaxed) & !(0xff | State::DYNAMIC) | terms.bits();
        self.state.store(state, core::sync::atomic::Ordering::Release);
    }

    /// Who has made the rule.
    pub fn maker(&self) -> Maker {
        if self.state().0 & State::DYNAMIC == 0 { Maker::Operator } else { Maker::Block }
    }

    /// Whether there was ever a rule here.
    pub(crate) fn is_used(&self) -> bool {
        self.state.load(Relaxed) != 0
    }

    /// Whether a rule is here, and which of all that ever were: two equal answers mean that nothing has changed in between
    /// but hits, action and end.
    pub fn life(&self) -> Option<u32> {
        let state = self.state();
        state.is_live().then_some(state.0 >> State::NUMBER)
    }

    /// Says of a rule that is gone that another one takes its place: whoever stands on it must not go by what it says.
    pub(crate) fn prepare(&self) {
        let State(state) = self.state().begun(Terms::new(Action::Pass, 0), 0);
        self.state.store(state & !State::LIVE, Relaxed);
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
    }

    pub(crate) fn begin(&self, terms: Terms, prefix_len: u8) {
        self.hits.store(0, Relaxed);
        self.expires.store(terms.expires, Relaxed);
        let state = self.state().begun(terms, prefix_len);
        self.state.store(state.0, core::sync::atomic::Ordering::Release);
    }

    pub(crate) fn end(&self) {
        let State(state) = self.state();
        self.state.store(state & !State::LIVE, core::sync::atomic::Ordering::Release);
    }
}

/// Who has made a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(not(target_arch = "bpf"))]
pub enum Maker {
    /// Whoever the rules belong to.
    Operator,
    /// A dynamic block.
    Block,
}

/// What is said of a rule besides what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(not(target_arch = "bpf"))]
pub struct Terms {
    /// What the rule does.
    pub action: Action,
    /// When it ends, in nanoseconds of `CLOCK_MONOTONIC`; 0: never.
    pub expires: u64,
    /// Who has made it.
    pub by: Maker,
}

#[cfg(not(target_arch = "bpf"))]
impl Terms {
    /// Of a rule of the operator's.
    #[must_use]
    pub const fn new(action: Action, expires: u64) -> Self {
        Self { action, expires, by: Maker::Operator }
    }

    /// What the state has of them.
    const fn bits(self) -> u32 {
        let maker = match self.by {
            Maker::Operator => 0,
            Maker::Block => State::DYNAMIC,
        };
        maker | self.action.to_byte() as u32
    }
}

/// Action, length of the prefix, whether the rule is in force, whether a dynamic block has made it, and a number that is another
/// one for every rule that was ever in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u32);

impl State {
    const LIVE: u32 = 1 << 16;
    #[cfg(not(target_arch = "bpf"))]
    const DYNAMIC: u32 = 1 << 17;
    #[cfg(not(target_arch = "bpf"))]
    const NUMBER: u32 = 18;

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "it is in the second byte")]
    pub(crate) const fn prefix_len(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    pub(crate) const fn word(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) const fn is_live(self) -> bool {
        self.0 & Self::LIVE != 0
    }

    #[cfg(not(target_arch = "bpf"))]
    const fn begun(self, terms: Terms, prefix_len: u8) -> Self {
        let number = (self.0 >> Self::NUMBER).wrapping_add(1);
        Self(number << Self::NUMBER | Self::LIVE | (prefix_len as u32) << 8 | terms.bits())
    }
}

/// A rule for IPv4 sources: an address, or a range of them.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(transparent)]
pub struct Ipv4Node(Cell);

impl Ipv4Node {
    /// Whether this is the rule for these bits and this length of the prefix.
    #[inline(always)]
    pub fn is(&self, prefix: Ipv4Prefix) -> bool {
        self.0.word.load(Relaxed) == prefix.bits && self.0.state().prefix_len() == prefix.len
    }
}

impl Node for Ipv4Node {
    #[inline(always)]
    fn cell(&self) -> &Cell {
        &self.0
    }

    #[inline(always)]
    fn hash(&self, seed: Seed) -> u32 {
        self.prefix().hash(seed)
    }
}

impl Ipv4Node {
    /// What the rule matches.
    #[inline(always)]
    pub fn prefix(&self) -> Ipv4Prefix {
        Ipv4Prefix { bits: self.0.word.load(Relaxed), len: self.0.state().prefix_len() }
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Table {
    /// Adds a rule for IPv4 sources, for which there is none yet.
    ///
    /// # Errors
    ///
    /// If there are as many rules as there may be.
    pub fn insert_ipv4(
        &mut self,
        nodes: &[Ipv4Node],
        prefix: Ipv4Prefix,
        terms: Terms,
    ) -> Result<(), TableFull> {
        self.insert(nodes, prefix.hash(self.seed), |Ipv4Node(cell)| {
            cell.word.store(prefix.bits, Relaxed);
            cell.begin(terms, prefix.len);
            Ok(())
        })
    }

    /// Adds a rule for IPv6 sources, for which there is none yet.
    ///
    /// # Errors
    ///
    /// If there are as many rules as there may be.
    pub fn insert_ipv6(
        &mut self,
        nodes: &[Ipv6Node],
        prefix: Ipv6Prefix,
        terms: Terms,
    ) -> Result<(), TableFull> {
        self.insert(nodes, prefix.hash(self.seed), |node: &Ipv6Node| {
            node.set_bits(prefix);
            node.cell.begin(terms, prefix.len);
            Ok(())
        })
    }
}

/// The first `len` bits of an IPv4 address; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Prefix {
    /// The number that is in network order on the wire.
    pub bits: u32,
    /// 0 to 32.
    pub len: u8,
}

impl Ipv4Prefix {
    /// The length of a whole address.
    pub const MAX_LEN: u8 = 32;

    /// The first bits of an address.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half is shifted in")]
    pub const fn of(address: u64, len: u8) -> Self {
        let mask = 0xffff_ffff_0000_0000 >> len;
        Self { bits: (address & mask) as u32, len }
    }

    /// The hash of the rule, whose first bits are its bucket.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self, seed: Seed) -> u32 {
        seed.mix(self.bits as u64 | (self.len as u64) << 32)
    }
}

/// A rule for IPv6 sources: an address, or a range of them.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(C)]
pub struct Ipv6Node {
    cell: Cell,
    bits: [AtomicU64; 2],
}

impl Ipv6Node {
    /// Whether this is the rule for these bits and this length of the prefix.
    #[inline(always)]
    pub fn is(&self, prefix: Ipv6Prefix) -> bool {
        let Self { cell, bits: [high, low] } = self;
        high.load(Relaxed) == prefix.bits[0]
            && low.load(Relaxed) == prefix.bits[1]
            && cell.state().prefix_len() == prefix.len
    }

    /// What the rule matches.
    #[inline(always)]
    pub fn prefix(&self) -> Ipv6Prefix {
        let Self { cell, bits: [high, low] } = self;
        Ipv6Prefix { bits: [high.load(Relaxed), low.load(Relaxed)], len: cell.state().prefix_len() }
    }

    #[cfg(not(target_arch = "bpf"))]
    fn set_bits(&self, prefix: Ipv6Prefix) {
        let Self { bits: [high, low], .. } = self;
        high.store(prefix.bits[0], Relaxed);
        low.store(prefix.bits[1], Relaxed);
    }
}

impl Node for Ipv6Node {
    #[inline(always)]
    fn cell(&self) -> &Cell {
        &self.cell
    }

    #[inline(always)]
    fn hash(&self, seed: Seed) -> u32 {
        self.prefix().hash(seed)
    }
}

/// The first `len` bits of an IPv6 address; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Prefix {
    /// The two numbers that are in network order on the wire.
    pub bits: [u64; 2],
    /// 0 to 128.
    pub len: u8,
}

impl Ipv6Prefix {
    /// The length of a whole address.
    pub const MAX_LEN: u8 = 128;

    /// The first bits of an address.
    #[inline(always)]
    #[must_use]
    pub const fn of([high, low]: [u64; 2], len: u8) -> Self {
        let in_high = if len < 64 { len } else { 64 };
        Self { bits: [high & first(in_high), low & first(len - in_high)], len }
    }

    /// The hash of the rule, whose first bits are its bucket.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self, seed: Seed) -> u32 {
        let [high, low] = self.bits;
        seed.mix(seed.product(high ^ self.len as u64) ^ low)
    }
}

/// The first bits of a word, none to all 64.
#[inline(always)]
const fn first(bits: u8) -> u64 {
    // In two steps: a shift by 64 is none.
    !(u64::MAX >> (bits / 2) >> (bits - bits / 2))
}

/// What hashes start from: drawn for every filter, so that nobody outside can prepare rules or packets that meet in a
/// bucket. Both numbers are odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64, u64);

impl Seed {
    /// From any two numbers.
    #[inline(always)]
    #[must_use]
    pub const fn new(one: u64, other: u64) -> Self {
        Self(one | 1, other | 1)
    }

    /// The high bits of [`Seed::product`], which depend on all bits of the value.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half is shifted in")]
    pub(crate) const fn mix(self, value: u64) -> u32 {
        (self.product(value) >> 32) as u32
    }

    /// Two multiplications by odd numbers. After a single one, values at regular distances, like addresses and numbered
    /// names, may crowd into some buckets.
    #[inline(always)]
    pub(crate) const fn product(self, value: u64) -> u64 {
        let once = value.wrapping_mul(self.0);
        (once ^ once >> 32).wrapping_mul(self.1)
    }
}

const _: () = {
    assert!(size_of::<Cell>() == 32 && size_of::<Ipv4Node>() == 32 && size_of::<Ipv6Node>() == 48);
    assert!(first(0) == 0 && first(1) == 1 << 63 && first(63) == !1 && first(64) == !0);
};
