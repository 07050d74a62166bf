//! Where rules are.

use ebpf_prog::{
    names::{NameNode, Selector},
    rule::{Cell, Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix},
    table::{Node, find},
    turns::Plain,
};

use super::{
    key::{self, NameKey, Selectable as _},
    memory::{Array, Memory},
};
use crate::{Kind, Match, Qtypes, clock};

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Ipv4,
    Ipv6,
    Ranges4,
    Ranges6,
    Names,
}

impl Which {
    pub(crate) const ALL: [Self; 5] = [Self::Ipv4, Self::Ipv6, Self::Ranges4, Self::Ranges6, Self::Names];

    /// Where rules of this kind are.
    pub(crate) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Ipv4 => Self::Ipv4,
            Kind::Ipv6 => Self::Ipv6,
            Kind::Range4 => Self::Ranges4,
            Kind::Range6 => Self::Ranges6,
            Kind::Qname | Kind::Suffix => Self::Names,
        }
    }

    /// How many places it has.
    pub(crate) fn len(self, memory: &Memory) -> u32 {
        let len = match self {
            Self::Ipv4 => memory.ipv4.len(),
            Self::Ipv6 => memory.ipv6.len(),
            Self::Ranges4 => memory.ranges4.len(),
            Self::Ranges6 => memory.ranges6.len(),
            Self::Names => memory.names.len(),
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }
}

/// Where a rule is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) table: Which,
    pub(crate) index: u32,
}

impl Place {
    /// Where the rule for this match is, expired or not.
    pub(crate) fn of(memory: &Memory, of: &Match) -> Option<Self> {
        let seed = memory.seed;
        let ipv4 = |nodes: &Array<Ipv4Node>, prefix: Ipv4Prefix| {
            find(nodes, prefix.hash(seed), |node: &Ipv4Node| node.is(prefix))
        };
        let ipv6 = |nodes: &Array<Ipv6Node>, prefix: Ipv6Prefix| {
            find(nodes, prefix.hash(seed), |node: &Ipv6Node| node.is(prefix))
        };
        let (table, index) = match of {
            Match::Ipv4(address) => {
                (Which::Ipv4, ipv4(&memory.ipv4, key::ipv4(*address, Ipv4Prefix::MAX_LEN))?)
            }
            Match::Ipv6(address) => {
                (Which::Ipv6, ipv6(&memory.ipv6, key::ipv6(*address, Ipv6Prefix::MAX_LEN))?)
            }
            Match::Range4(net) => {
                (Which::Ranges4, ipv4(&memory.ranges4, key::ipv4(net.network(), net.prefix_len()))?)
            }
            Match::Range6(net) => {
                (Which::Ranges6, ipv6(&memory.ranges6, key::ipv6(net.network(), net.prefix_len()))?)
            }
            Match::Qname(name, qtypes) | Match::Suffix(name, qtypes) => {
                let NameKey { message, .. } = NameKey::of(name, seed);
                let tag = selector(of, *qtypes).tag(message.digest(), seed);
                let is = |node: &NameNode| node.is::<Plain>(tag, &message, &*memory.blocks);
                (Which::Names, find(&memory.names, tag.hash(), is)?)
            }
        };
        Some(Self { table, index })
    }

    pub(crate) fn cell(self, memory: &Memory) -> &Cell {
        match self.table {
            Which::Ipv4 => self.node(&memory.ipv4).cell(),
            Which::Ipv6 => self.node(&memory.ipv6).cell(),
            Which::Ranges4 => self.node(&memory.ranges4).cell(),
            Which::Ranges6 => self.node(&memory.ranges6).cell(),
            Which::Names => self.node(&memory.names).cell(),
        }
    }

    /// The kind of rule that is here.
    pub(crate) fn kind(self, memory: &Memory) -> Kind {
        match self.table {
            Which::Ipv4 => Kind::Ipv4,
            Which::Ipv6 => Kind::Ipv6,
            Which::Ranges4 => Kind::Range4,
            Which::Ranges6 => Kind::Range6,
            Which::Names if self.node(&memory.names).selector().is_suffix() => Kind::Suffix,
            Which::Names => Kind::Qname,
        }
    }

    /// The node, in the array of this table.
    pub(crate) fn node<T>(self, nodes: &Array<T>) -> &T {
        &nodes[self.index as usize]
    }

    pub(crate) fn has_expired(self, memory: &Memory, now: u64) -> bool {
        clock::is_over(self.cell(memory).expires(), now)
    }
}

pub(super) fn selector(of: &Match, qtypes: Qtypes) -> Selector {
    let selector = qtypes.selector();
    if of.kind() == Kind::Suffix { selector.below() } else { selector }
}
