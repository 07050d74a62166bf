//! Finding out anew what there is to know of rules, if others have changed them.

use ebpf_prog::{
    decision::Family,
    layout::Policy,
    names::{Blocks, BlocksInUse, NameNode},
    rule::{Ipv4Prefix, Ipv6Prefix},
    shape::Shape,
    table::{Adopted, Node, Table},
    turns::Plain,
};

use super::{Which, Writer, key::NameKey, memory::Memory, sieve::SieveCounts};
use crate::{QName, sizes::Sizes};

impl Writer {
    /// A writer for the rules that are there, and whether anything had to be put right.
    ///
    /// Programs read the rules all the time, so whatever is missing is added before anything is taken away, and a rule that was
    /// whole is never out of their sight. What is whole already is not written to.
    pub(super) fn adopt(&self, memory: &Memory, policy: Policy) -> (Self, bool) {
        let mut writer = Self::new(memory, self.sizes, policy.drops_malformed());
        writer.watch_malformed = policy.watches_malformed();
        let Sizes { ipv4, ipv6, ranges4, ranges6, .. } = self.sizes;
        let ipv4 = writer.adopt_table(memory, Which::Ipv4, (ipv4, &memory.ipv4), |_, node| {
            node.prefix().len == Ipv4Prefix::MAX_LEN
        });
        let ipv6 = writer.adopt_table(memory, Which::Ipv6, (ipv6, &memory.ipv6), |_, node| {
            node.prefix().len == Ipv6Prefix::MAX_LEN
        });
        let ranges4 =
            writer.adopt_table(memory, Which::Ranges4, (ranges4, &memory.ranges4), |writer, node| {
                writer.count_range(memory, Family::Ipv4, node.prefix().len, node.hash(memory.seed))
            });
        let ranges6 =
            writer.adopt_table(memory, Which::Ranges6, (ranges6, &memory.ranges6), |writer, node| {
                writer.count_range(memory, Family::Ipv6, node.prefix().len, node.hash(memory.seed))
            });
        let max = self.sizes.names();
        let mut in_use = BlocksInUse::none_of(Blocks::needed(max));
        let names = writer.adopt_table(memory, Which::Names, (max, &memory.names), |writer, node| {
            writer.count_name(memory, node, &mut in_use)
        });
        let mut repaired = [&ipv4, &ipv6, &ranges4, &ranges6, &names].iter().any(|table| table.repaired);
        writer.ipv4 = ipv4.table;
        writer.ipv6 = ipv6.table;
        writer.ranges4 = ranges4.table;
        writer.ranges6 = ranges6.table;
        writer.names = names.table;
        writer.blocks = in_use.into_blocks();
        repaired |= writer.repair(memory);
        (writer, repaired)
    }

    /// Takes over the rules of a table that are whole.
    fn adopt_table<N: Node>(
        &mut self,
        memory: &Memory,
        which: Which,
        (max, nodes): (u32, &[N]),
        mut is_whole: impl FnMut(&mut Self, &N) -> bool,
    ) -> Adopted {
        Table::adopt(memory.seed, max, nodes, |node| {
            let is_whole = is_whole(self, node);
            if is_whole {
                self.will_end(which, node.cell().expires());
            }
            is_whole
        })
    }

    /// Counts a range whose rule is whole.
    fn count_range(&mut self, memory: &Memory, family: Family, len: u8, hash: u32) -> bool {
        let Some(count) = self.lengths[family as usize].get_mut(usize::from(len)) else { return false };
        *count += 1;
        self.sieve.add(memory.place(Shape::of_range(hash)));
        true
    }

    /// Counts a name whose rule is whole.
    fn count_name(&mut self, memory: &Memory, node: &NameNode, in_use: &mut BlocksInUse) -> bool {
        let Some((wire, selector)) = node.name(&memory.blocks) else { return false };
        let Ok(name) = QName::from_wire(&wire) else { return false };
        let key = NameKey::of(&name, memory.seed);
        let tag = selector.tag(key.message.digest(), memory.seed);
        if !node.is::<Plain>(tag, &key.message, &*memory.blocks) || !in_use.claim(node, &memory.blocks) {
            return false;
        }
        self.sieve.add(memory.place(key.shape(&name, selector)));
        *self.named(selector) += 1;
        true
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
