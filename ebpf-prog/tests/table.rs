//! Tables: rules come and go, places are used again, and there is an end to both tables and chains.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use ebpf_prog::{
    message::Message,
    names::{Block, Blocks, NameNode, NameTag, NoBlocks, Selector},
    rule::{Action, Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix, Seed, Terms},
    table::{Bucket, MAX_CHAIN, Node, Slots as _, Table, TableFull, find},
    turns::Plain,
};
use proptest::{collection::vec, prelude::*, sample::select};

const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

fn nodes<N: Default>(max: u32) -> Vec<N> {
    (0..Table::nodes(max)).map(|_| N::default()).collect()
}

fn v4(address: u32) -> Ipv4Prefix {
    Ipv4Prefix::of(address.into(), Ipv4Prefix::MAX_LEN)
}

fn find_v4(nodes: &[Ipv4Node], prefix: Ipv4Prefix) -> Option<&Ipv4Node> {
    find(nodes, prefix.hash(SEED), |node: &Ipv4Node| node.is(prefix)).map(|index| &nodes[index as usize])
}

/// As a decision goes through a bucket.
fn looked_up(nodes: &[Ipv4Node], prefix: Ipv4Prefix) -> bool {
    let Some(mut bucket) = Bucket::of(nodes, prefix.hash(SEED)) else { return false };
    (0..MAX_CHAIN).map_while(|_| bucket.next(nodes)).any(|node| node.is(prefix))
}

fn lives<N: Node>(nodes: &[N]) -> usize {
    nodes.iter().filter(|node| node.cell().life().is_some()).count()
}

#[test]
fn there_is_room_for_as_many_as_was_said() {
    for max in [0, 1, 2, 3, 7, 8, 9, 100] {
        let nodes = nodes::<Ipv4Node>(max);
        assert!(nodes.len().is_power_of_two() && nodes.len() >= max as usize);
        let mut table = Table::new(SEED, max);
        assert!(table.is_empty());
        for address in 0..max {
            table.insert_ipv4(&nodes, v4(address), Terms::new(Action::Drop, 0)).unwrap();
        }
        assert_eq!(table.insert_ipv4(&nodes, v4(max), Terms::new(Action::Drop, 0)), Err(TableFull));
        assert_eq!((table.len(), lives(&nodes)), (max, max as usize));
        assert!((0..max).all(|address| looked_up(&nodes, v4(address))));
        assert!(!looked_up(&nodes, v4(max)));
    }
}

/// A place that was just freed is used after all others, as somebody may still stand on it.
#[test]
fn places_are_used_again_in_turn() {
    let nodes = nodes::<Ipv4Node>(4);
    let mut table = Table::new(SEED, 4);
    let index = |address| find(&nodes, v4(address).hash(SEED), |node: &Ipv4Node| node.is(v4(address)));
    for address in 1..=2 {
        table.insert_ipv4(&nodes, v4(address), Terms::new(Action::Drop, 0)).unwrap();
    }
    for address in [2, 1] {
        table.remove(&nodes, find_v4(&nodes, v4(address)).unwrap());
        assert_eq!(index(address), None);
    }
    for (address, expected) in [(3, 2), (4, 3), (5, 1), (6, 0)] {
        table.insert_ipv4(&nodes, v4(address), Terms::new(Action::Drop, 0)).unwrap();
        assert_eq!(index(address), Some(expected), "the rule for {address}");
    }
    assert_eq!(table.len(), 4);
}

#[test]
fn a_place_that_is_used_again_starts_anew() {
    let nodes = nodes::<Ipv4Node>(1);
    let mut table = Table::new(SEED, 1);
    table.insert_ipv4(&nodes, v4(1), Terms::new(Action::Drop, 7)).unwrap();
    let node = find_v4(&nodes, v4(1)).unwrap();
    let life = node.cell().life();
    node.cell().hit();
    node.cell().change(Terms::new(Action::Refused, 9));
    assert_eq!((node.cell().action(), node.cell().expires()), (Action::Refused, 9));
    assert_eq!((node.cell().life(), node.cell().hits()), (life, 1), "a change leaves the rest as it was");
    table.remove(&nodes, node);
    assert_eq!((node.cell().life(), node.cell().hits()), (None, 1), "what was counted can still be read");
    table.insert_ipv4(&nodes, v4(1), Terms::new(Action::Count, 0)).unwrap();
    assert_eq!((node.cell().action(), node.cell().expires(), node.cell().hits()), (Action::Count, 0, 0));
    assert!(node.cell().life().is_some() && node.cell().life() != life);
    assert_eq!((node.cell().reset_hits(), node.prefix()), (0, v4(1)));
}

#[test]
fn no_chain_is_longer_than_what_is_looked_at() {
    let nodes = nodes::<Ipv4Node>(64);
    let mut table = Table::new(SEED, 64);
    let bucket = |address| u64::from(v4(address).hash(SEED)) >> nodes.shift();
    let alike: Vec<_> = (0..).filter(|address| bucket(*address) == 5).take(MAX_CHAIN + 1).collect();
    let (one_more, chain) = alike.split_last().unwrap();
    for address in chain {
        table.insert_ipv4(&nodes, v4(*address), Terms::new(Action::Drop, 0)).unwrap();
    }
    assert_eq!(table.insert_ipv4(&nodes, v4(*one_more), Terms::new(Action::Drop, 0)), Err(TableFull));
    assert!(chain.iter().all(|address| looked_up(&nodes, v4(*address))));
    assert_eq!(table.len() as usize, MAX_CHAIN);
    // Other buckets have room, and so has this one once a rule is gone, from whichever place.
    let other = (0..1000).find(|address| bucket(*address) == 6).unwrap();
    table.insert_ipv4(&nodes, v4(other), Terms::new(Action::Drop, 0)).unwrap();
    table.remove(&nodes, find_v4(&nodes, v4(chain[7])).unwrap());
    table.insert_ipv4(&nodes, v4(*one_more), Terms::new(Action::Drop, 0)).unwrap();
    assert!(alike.iter().all(|address| looked_up(&nodes, v4(*address)) != (*address == chain[7])));
}

/// The same bits with another length are another rule.
#[test]
fn lengths_of_prefixes_tell_rules_apart() {
    let (four, six) = (nodes::<Ipv4Node>(33), nodes::<Ipv6Node>(129));
    let (mut table4, mut table6) = (Table::new(SEED, 33), Table::new(SEED, 129));
    for len in 0..=32 {
        table4.insert_ipv4(&four, Ipv4Prefix::of(0, len), Terms::new(Action::Drop, 0)).unwrap();
    }
    for len in 0..=128 {
        table6.insert_ipv6(&six, Ipv6Prefix::of([0, 0], len), Terms::new(Action::Drop, 0)).unwrap();
    }
    let lens4: BTreeSet<_> =
        four.iter().filter(|node| node.cell().life().is_some()).map(|node| node.prefix().len).collect();
    let lens6: BTreeSet<_> =
        six.iter().filter(|node| node.cell().life().is_some()).map(|node| node.prefix().len).collect();
    assert!(lens4.into_iter().eq(0..=32) && lens6.into_iter().eq(0..=128));
    for len in 0..=128 {
        let prefix = Ipv6Prefix::of([0, 0], len);
        let index = find(&six, prefix.hash(SEED), |node: &Ipv6Node| node.is(prefix)).unwrap();
        assert_eq!(six[index as usize].prefix(), prefix);
    }
}

#[test]
fn prefixes_are_the_first_bits() {
    let address = 0xfedc_ba98_7654_3210_0123_4567_89ab_cdef_u128;
    for len in 0..=128_u8 {
        let mask = u128::MAX.checked_shl((128 - len).into()).unwrap_or(0);
        let [high, low] =
            Ipv6Prefix::of([0xfedc_ba98_7654_3210, 0x0123_4567_89ab_cdef], len).bits.map(u128::from);
        assert_eq!(high << 64 | low, address & mask, "{len}");
    }
    for len in 0..=32_u8 {
        let mask = u32::MAX.checked_shl((32 - len).into()).unwrap_or(0);
        assert_eq!(Ipv4Prefix::of(0xfedc_ba98, len).bits, 0xfedc_ba98 & mask, "{len}");
    }
}

/// Rules for names, and their memory.
struct Names {
    nodes: Vec<NameNode>,
    blocks: Vec<Block>,
    free: Blocks,
    table: Table,
}

impl Names {
    fn new(max: u32, blocks: u32) -> Self {
        Self {
            nodes: nodes(max),
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            free: Blocks::new(blocks),
            table: Table::new(SEED, max),
        }
    }

    /// The name, ready to be compared, and its tag.
    fn key(name: &[u8], selector: Selector) -> (Message, NameTag) {
        let (mut message, question) = Message::for_question(name, 0);
        message.start_suffixes::<Plain>(question.name_len);
        message.canonicalize::<Plain>(SEED);
        let tag = selector.tag(message.digest(), SEED);
        (message, tag)
    }

    fn insert(&mut self, name: &[u8], selector: Selector) -> Result<(), NoBlocks> {
        let (_, tag) = Self::key(name, selector);
        self.table.insert_name(
            &self.nodes,
            (&mut self.free, &self.blocks),
            (name, tag),
            Terms::new(Action::Drop, 0),
        )
    }

    fn find(&self, name: &[u8], selector: Selector) -> Option<u32> {
        let (message, tag) = Self::key(name, selector);
        find(&self.nodes, tag.hash(), |node: &NameNode| node.is::<Plain>(tag, &message, &self.blocks[..]))
    }

    fn remove(&mut self, name: &[u8], selector: Selector) {
        let index = self.find(name, selector).unwrap();
        self.table.remove_name(&self.nodes, (&mut self.free, &self.blocks), &self.nodes[index as usize]);
    }
}

/// A name of so many bytes, 2 or more if it is not the root.
fn name_of(len: usize, byte: u8) -> Vec<u8> {
    let mut name = Vec::new();
    while name.len() + 1 < len {
        let label = (len - name.len() - 2).min(63);
        // No room for a label of no bytes.
        let label = if len - name.len() - 2 - label == 1 { label - 1 } else { label };
        name.push(u8::try_from(label).unwrap());
        name.extend(vec![byte; label]);
    }
    name.push(0);
    name
}

#[test]
fn names_of_every_length_are_kept() {
    let mut names = Names::new(255, Blocks::needed(255));
    let lens = || (1..=255).filter(|len| *len != 2);
    for len in lens() {
        let name = name_of(len, b'n');
        assert_eq!(name.len(), len);
        names.insert(&name, Selector::all_types()).unwrap();
    }
    for len in lens() {
        let (name, other) = (name_of(len, b'n'), name_of(len, b'm'));
        let index = names.find(&name, Selector::all_types()).unwrap();
        let (read, selector) = names.nodes[index as usize].name(&names.blocks).unwrap();
        assert_eq!((read, selector), (name.clone(), Selector::all_types()));
        assert_eq!(names.find(&name, Selector::one_type(1)), None);
        assert_eq!(names.find(&name, Selector::all_types().below()), None);
        assert!(len == 1 || names.find(&other, Selector::all_types()).is_none());
    }
}

#[test]
fn blocks_are_used_again() {
    // Room for two of the longest names: the first 24 bytes of each are in its rule.
    let mut names = Names::new(8, 20);
    let long = |byte| name_of(255, byte);
    for round in 0..10 {
        names.insert(&long(b'a'), Selector::all_types()).unwrap();
        names.insert(&long(b'b'), Selector::all_types()).unwrap();
        assert_eq!(names.insert(&long(b'c'), Selector::all_types()), Err(NoBlocks::Memory), "{round}");
        assert_eq!(names.insert(&name_of(25, b'c'), Selector::all_types()), Err(NoBlocks::Memory));
        names.insert(&name_of(24, b'c'), Selector::all_types()).unwrap();
        assert_eq!(names.table.len(), 3);
        names.remove(&name_of(24, b'c'), Selector::all_types());
        names.remove(&long(b'a'), Selector::all_types());
        names.insert(&long(b'c'), Selector::all_types()).unwrap();
        for (byte, there) in [(b'a', false), (b'b', true), (b'c', true)] {
            assert_eq!(names.find(&long(byte), Selector::all_types()).is_some(), there, "{}", byte as char);
        }
        names.remove(&long(b'c'), Selector::all_types());
        names.remove(&long(b'b'), Selector::all_types());
    }
}

#[test]
fn selectors_say_what_they_are() {
    for qtype in [0, 1, 255, 0xffff] {
        assert_eq!(Selector::one_type(qtype).qtype(), Some(qtype));
        assert_eq!(Selector::one_type(qtype).below().qtype(), Some(qtype));
        assert!(!Selector::one_type(qtype).is_suffix() && Selector::one_type(qtype).below().is_suffix());
    }
    assert_eq!((Selector::all_types().qtype(), Selector::all_types().below().qtype()), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever comes and goes, what is there is found with its hits, and nothing else.
    #[test]
    fn a_table_is_a_map(changes in vec((0..24_u32, any::<bool>()), 0..200), max in select(vec![1, 5, 8, 16])) {
        let nodes = nodes::<Ipv4Node>(max);
        let mut table = Table::new(SEED, max);
        let mut expected = BTreeMap::new();
        for (turn, (address, hit)) in changes.into_iter().enumerate() {
            let found = find_v4(&nodes, v4(address));
            prop_assert_eq!(found.map(|node| node.cell().hits()), expected.get(&address).copied());
            match found {
                Some(node) if hit => {
                    node.cell().hit();
                    *expected.entry(address).or_default() += 1;
                }
                Some(node) => {
                    table.remove(&nodes, node);
                    expected.remove(&address);
                }
                None => {
                    let inserted = table.insert_ipv4(&nodes, v4(address), Terms::new(Action::Drop, turn as u64));
                    prop_assert_eq!(inserted.is_ok(), expected.len() < max as usize);
                    if inserted.is_ok() {
                        expected.insert(address, 0);
                    }
                }
            }
            prop_assert_eq!((table.len() as usize, lives(&nodes)), (expected.len(), expected.len()));
            for address in 0..24 {
                prop_assert_eq!(looked_up(&nodes, v4(address)), expected.contains_key(&address));
            }
        }
    }
}
