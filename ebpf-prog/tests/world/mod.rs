//! Rules in real tables, as a decision sees them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use ebpf_prog::{
    Malformed,
    decision::{Decided, Rules, Subject},
    layout::{Kinds, Policy},
    lengths::Lengths,
    message::{Message, NameDigest, SuffixKey},
    names::{Block, Blocks, NameNode, Selector},
    rule::{Action, Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix, Seed, Terms},
    shape::Shape,
    sightings::{Sighted, Sighting},
    table::{Node, Slots, Table},
    turns::{Plain, Search, Turns},
};
use zerocopy::FromZeros as _;

const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
pub(crate) const NOW: u64 = 1000;
const MAX: u32 = 32;

/// What a rule is about. Sources are the last byte of an address and the length of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    V4(u8, u8),
    V6(u8, u8),
    Name { name: Vec<u8>, qtype: Option<u16>, below: bool },
}

impl What {
    fn kind(&self) -> Kinds {
        match self {
            Self::V4(_, 32) => Kinds::IPV4,
            Self::V4(..) => Kinds::RANGES4,
            Self::V6(_, 128) => Kinds::IPV6,
            Self::V6(..) => Kinds::RANGES6,
            Self::Name { qtype: Some(_), below: false, .. } => Kinds::QNAME_ONE_TYPE,
            Self::Name { qtype: None, below: false, .. } => Kinds::QNAME_ALL_TYPES,
            Self::Name { qtype: Some(_), below: true, .. } => Kinds::SUFFIX_ONE_TYPE,
            Self::Name { qtype: None, below: true, .. } => Kinds::SUFFIX_ALL_TYPES,
        }
    }

    pub(crate) fn is_name(&self) -> bool {
        matches!(self, Self::Name { .. })
    }
}

pub(crate) fn v4(host: u8, len: u8) -> Ipv4Prefix {
    Ipv4Prefix::of(0xc000_0200 | u64::from(host), len)
}

pub(crate) fn v6(host: u8, len: u8) -> Ipv6Prefix {
    Ipv6Prefix::of([0x2001_0db8_0000_0000, host.into()], len)
}

fn key(name: &[u8]) -> (SuffixKey, NameDigest) {
    let (mut message, question) = Message::for_question(name, 0);
    message.start_suffixes::<Plain>(question.name_len);
    message.canonicalize::<Plain>(SEED);
    (message.suffix().unwrap(), message.digest())
}

/// What a rule does, and when it ends.
pub(crate) type Does = (Action, u64);

pub(crate) struct World {
    policy: Policy,
    ipv4: Vec<Ipv4Node>,
    ipv6: Vec<Ipv6Node>,
    ranges4: Vec<Ipv4Node>,
    ranges6: Vec<Ipv6Node>,
    names: Vec<NameNode>,
    blocks: Vec<Block>,
    lengths: [Lengths; 2],
    shapes: Vec<Shape>,
    pub(crate) malformed: RefCell<Vec<Malformed>>,
    sighted: Sighted,
    sightings: Vec<Sighting>,
}

fn zeroed<T: Default>(len: u32) -> Vec<T> {
    (0..len).map(|_| T::default()).collect()
}

impl World {
    pub(crate) fn new(rules: &BTreeMap<What, Does>, drop_malformed: bool, watched: bool) -> Self {
        let nodes = Table::nodes(MAX);
        let kinds = rules.keys().fold(Kinds::NONE, |kinds, what| kinds.and(what.kind()));
        let mut world = Self {
            policy: Policy::new(kinds, drop_malformed).watched(watched),
            ipv4: zeroed(nodes),
            ipv6: zeroed(nodes),
            ranges4: zeroed(nodes),
            ranges6: zeroed(nodes),
            names: zeroed(nodes),
            blocks: zeroed(Blocks::needed(MAX)),
            lengths: [Lengths::new_zeroed(), Lengths::new_zeroed()],
            // It may say so of names without a rule.
            shapes: vec![Shape::of(b"\x01a\x00"), Shape::of_suffix(key(b"\x01a\x00").0)],
            malformed: RefCell::default(),
            sighted: Sighted::default(),
            sightings: zeroed(Sighting::PLACES),
        };
        let [mut ipv4, mut ipv6, mut ranges4, mut ranges6, mut names] =
            [(); 5].map(|()| Table::new(SEED, MAX));
        let mut free = Blocks::new(Blocks::needed(MAX));
        for (what, &(action, ends)) in rules {
            match what {
                What::V4(host, 32) => {
                    ipv4.insert_ipv4(&world.ipv4, v4(*host, 32), Terms::new(action, ends)).unwrap();
                }
                What::V4(host, len) => {
                    ranges4.insert_ipv4(&world.ranges4, v4(*host, *len), Terms::new(action, ends)).unwrap();
                    world.shapes.push(Shape::of_range(v4(*host, *len).hash(SEED)));
                }
                What::V6(host, 128) => {
                    ipv6.insert_ipv6(&world.ipv6, v6(*host, 128), Terms::new(action, ends)).unwrap();
                }
                What::V6(host, len) => {
                    ranges6.insert_ipv6(&world.ranges6, v6(*host, *len), Terms::new(action, ends)).unwrap();
                    world.shapes.push(Shape::of_range(v6(*host, *len).hash(SEED)));
                }
                What::Name { name, qtype, below } => {
                    let selector = qtype.map_or(Selector::all_types(), Selector::one_type);
                    let selector = if *below { selector.below() } else { selector };
                    let (key, digest) = key(name);
                    let tag = selector.tag(digest, SEED);
                    let shape = if *below { Shape::of_suffix(key) } else { Shape::of(name) };
                    world.shapes.push(shape);
                    names
                        .insert_name(
                            &world.names,
                            (&mut free, &world.blocks),
                            (name, tag),
                            Terms::new(action, ends),
                        )
                        .unwrap();
                }
            }
        }
        let lengths = |of: fn(&What) -> Option<u8>| {
            let lengths: BTreeSet<_> = rules.keys().filter_map(of).collect();
            lengths.into_iter().rev().collect::<Vec<_>>()
        };
        let of_v4 = lengths(|what| if let What::V4(_, len @ 0..32) = what { Some(*len) } else { None });
        let of_v6 = lengths(|what| if let What::V6(_, len @ 0..128) = what { Some(*len) } else { None });
        for len in of_v4 {
            world.lengths[0].add(len);
        }
        for len in of_v6 {
            world.lengths[1].add(len);
        }
        world
    }

    /// Where malformed messages came from.
    pub(crate) fn sources(&self) -> Vec<[u64; 2]> {
        (0..self.sighted.count())
            .map(|number| self.sightings[Sighting::place(number) as usize].read(number).unwrap())
            .collect()
    }

    /// What was counted, rules without hits left out.
    pub(crate) fn hits(&self) -> BTreeMap<What, u64> {
        let mut hits = BTreeMap::new();
        let mut add = |what, node: &dyn Node| {
            if node.cell().life().is_some() && node.cell().hits() > 0 {
                hits.insert(what, node.cell().hits());
            }
        };
        for node in self.ipv4.iter().chain(&self.ranges4) {
            add(What::V4(node.prefix().bits.to_be_bytes()[3], node.prefix().len), node);
        }
        for node in self.ipv6.iter().chain(&self.ranges6) {
            add(What::V6(node.prefix().bits[1].to_be_bytes()[7], node.prefix().len), node);
        }
        for node in &self.names {
            let (name, selector) = node.name(&self.blocks).unwrap();
            add(What::Name { name, qtype: selector.qtype(), below: selector.is_suffix() }, node);
        }
        hits
    }
}

impl Turns for World {
    fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided> {
        Plain::search(times, body)
    }
}

impl<'a> Rules<'a> for &'a World {
    fn policy(&self) -> Policy {
        self.policy
    }

    fn seed(&self) -> Seed {
        SEED
    }

    fn now(&self) -> u64 {
        NOW
    }

    fn ipv4(&self) -> impl Slots<'a, Ipv4Node> {
        self.ipv4.as_slice()
    }

    fn ipv6(&self) -> impl Slots<'a, Ipv6Node> {
        self.ipv6.as_slice()
    }

    fn ranges4(&self) -> impl Slots<'a, Ipv4Node> {
        self.ranges4.as_slice()
    }

    fn ranges6(&self) -> impl Slots<'a, Ipv6Node> {
        self.ranges6.as_slice()
    }

    fn lengths(&self) -> Option<[&'a Lengths; 2]> {
        Some(self.lengths.each_ref())
    }

    fn names(&self) -> impl Slots<'a, NameNode> {
        self.names.as_slice()
    }

    fn blocks(&self) -> impl Slots<'a, Block> {
        self.blocks.as_slice()
    }

    fn may_know(&self, shape: Shape) -> bool {
        self.shapes.contains(&shape)
    }

    /// All but one combination, so that both answers are heeded.
    fn counts(&self, subject: Subject, action: Action) -> bool {
        (subject, action) != (Subject::Name, Action::Refused)
    }

    fn malformed(&self, reason: Malformed) {
        self.malformed.borrow_mut().push(reason);
    }

    fn sighted(&self) -> Option<&'a Sighted> {
        Some(&self.sighted)
    }

    fn sighting(&self, place: u32) -> Option<&'a Sighting> {
        self.sightings.get(place as usize)
    }
}

impl Turns for &World {
    fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided> {
        World::search(times, body)
    }
}
