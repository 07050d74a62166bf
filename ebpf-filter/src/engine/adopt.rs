//! Finding out anew what there is to know of rules, if others have changed them.

use ebpf_prog::{
    decision::Family,
    layout::Policy,
    names::{BlocksInUse, NameNode},
    rule::{Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix},
    shape::Shape,
    table::{Adopted, Node, Table},
    turns::Plain,
};

use super::{Which, Writer, key::NameKey, memory::Memory, sieve::SieveCounts};
use crate::QName;

impl Writer {
    /// A writer for the rules that are there, and whether anything had to be put right.
    ///
    /// Programs read the rules all the time, so whatever is missing is added before anything is taken away, and a rule that was
    /// whole is never out of their sight. What is whole already is not written to.
    pub(super) fn adopt(&self, memory: &Memory, policy: Policy) -> (Self, bool) {
        let mut writer = Self::new(memory, self.sizes, policy.drops_malformed());
        writer.watch_malformed = policy.watches_malformed();
        let mut repaired = [
            writer.adopt_addresses4(memory),
            writer.adopt_addresses6(memory),
            writer.adopt_ranges4(memory),
            writer.adopt_ranges6(memory),
            writer.adopt_names(memory),
        ]
        .contains(&true);
        repaired |= writer.repair(memory);
        (writer, repaired)
    }

    fn adopt_addresses4(&mut self, memory: &Memory) -> bool {
        let Adopted { table, repaired } =
            Table::adopt(memory.seed, self.sizes.ipv4, &memory.ipv4, |_, node: &Ipv4Node| {
                self.will_end(Which::Ipv4, node.cell().expires());
                node.prefix().len == Ipv4Prefix::MAX_LEN
            });
        self.ipv4 = table;
        repaired
    }

    fn adopt_addresses6(&mut self, memory: &Memory) -> bool {
        let Adopted { table, repaired } =
            Table::adopt(memory.seed, self.sizes.ipv6, &memory.ipv6, |_, node: &Ipv6Node| {
                self.will_end(Which::Ipv6, node.cell().expires());
                node.prefix().len == Ipv6Prefix::MAX_LEN
            });
        self.ipv6 = table;
        repaired
    }

    fn adopt_ranges4(&mut self, memory: &Memory) -> bool {
        let Adopted { table, repaired } =
            Table::adopt(memory.seed, self.sizes.ranges4, &memory.ranges4, |_, node: &Ipv4Node| {
                self.will_end(Which::Ranges4, node.cell().expires());
                self.count_range(memory, Family::Ipv4, node.prefix().len, node.hash(memory.seed))
            });
        self.ranges4 = table;
        repaired
    }

    fn adopt_ranges6(&mut self, memory: &Memory) -> bool {
        let Adopted { table, repaired } =
            Table::adopt(memory.seed, self.sizes.ranges6, &memory.ranges6, |_, node: &Ipv6Node| {
                self.will_end(Which::Ranges6, node.cell().expires());
                self.count_range(memory, Family::Ipv6, node.prefix().len, node.hash(memory.seed))
            });
        self.ranges6 = table;
        repaired
    }

    /// Counts a range whose rule is whole.
    fn count_range(&mut self, memory: &Memory, family: Family, len: u8, hash: u32) -> bool {
        let Some(count) = self.lengths[family as usize].get_mut(usize::from(len)) else { return false };
        *count += 1;
        self.sieve.add(memory.place(Shape::of_range(hash)));
        true
    }

    fn adopt_names(&mut self, memory: &Memory) -> bool {
        let max = self.sizes.names();
        let mut in_use = BlocksInUse::none_of(ebpf_prog::names::Blocks::needed(max));
        let adopted = Table::adopt(memory.seed, max, &memory.names, |_, node: &NameNode| {
            let Some((wire, selector)) = node.name(&memory.blocks) else { return false };
            let Ok(name) = QName::from_wire(&wire) else { return false };
            let key = NameKey::of(&name, memory.seed);
            let tag = selector.tag(key.message.digest(), memory.seed);
            if !node.is::<Plain>(tag, &key.message, &*memory.blocks) || !in_use.claim(node, &memory.blocks) {
                return false;
            }
            self.sieve.add(memory.place(key.shape(&name, selector)));
            *self.named(selector) += 1;
            self.will_end(Which::Names, node.cell().expires());
            true
        });
        let Adopted { table, repaired } = adopted;
        self.names = table;
        self.blocks = in_use.into_blocks();
        repaired
    }

    /// Has the sieve and the lengths say what they must, and then no more than that.
    fn repair(&self, memory: &Memory) -> bool {
        let lengths = || memory.control.iter().flat_map(|control| control.lengths.iter().zip(&self.lengths));
        let is_used = |counts: &[u32], len: u8| counts.get(usize::from(len)).is_some_and(|count| *count > 0);
        let mut repaired = add_missing_bits(memory, &self.sieve);
        for (list, counts) in lengths() {
            repaired |= list.add_missing(|len| is_used(counts, len));
        }
        for (list, counts) in lengths() {
            repaired |= list.keep_only(|len| is_used(counts, len));
        }
        // A counter that was full may have left bits that nobody needs any more: that is no damage.
        clear_other_bits(memory, &self.sieve);
        repaired
    }
}

fn add_missing_bits(memory: &Memory, counts: &SieveCounts) -> bool {
    let mut any = false;
    for (index, word) in memory.sieve.iter().enumerate() {
        let missing = counts.needed(index) & !word.bits();
        if missing != 0 {
            word.set(missing, true);
            any = true;
        }
    }
    any
}

fn clear_other_bits(memory: &Memory, counts: &SieveCounts) {
    for (index, word) in memory.sieve.iter().enumerate() {
        let others = word.bits() & !counts.needed(index);
        if others != 0 {
            word.set(others, false);
        }
    }
}
