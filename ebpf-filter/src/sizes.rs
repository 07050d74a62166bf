//! How many rules of each kind there may be.

use crate::Kind;

/// The sizes of the maps. 0 means that rules of the kind are not used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) ipv4: u32,
    pub(crate) ipv6: u32,
    pub(crate) ranges4: u32,
    pub(crate) ranges6: u32,
    pub(crate) qnames: u32,
    pub(crate) suffixes: u32,
}

impl Sizes {
    /// The most rules of a kind that there can be, whatever was asked for.
    const MAX: u32 = 1 << 27;

    /// The first kind of which more was asked for than there can be.
    pub(crate) fn too_large(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| self.of(*kind) > Self::MAX)
    }

    /// No more than there can be.
    pub(crate) fn at_most_max(self) -> Self {
        let Self { ipv4, ipv6, ranges4, ranges6, qnames, suffixes } = self;
        let [ipv4, ipv6, ranges4, ranges6, qnames, suffixes] =
            [ipv4, ipv6, ranges4, ranges6, qnames, suffixes].map(|size| size.min(Self::MAX));
        Self { ipv4, ipv6, ranges4, ranges6, qnames, suffixes }
    }

    pub(crate) const fn of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Ipv4 => self.ipv4,
            Kind::Ipv6 => self.ipv6,
            Kind::Range4 => self.ranges4,
            Kind::Range6 => self.ranges6,
            Kind::Qname => self.qnames,
            Kind::Suffix => self.suffixes,
        }
    }

    /// Names, suffixes and ranges share a sieve.
    pub(crate) const fn sieved(&self) -> u32 {
        self.names().saturating_add(self.ranges4).saturating_add(self.ranges6)
    }

    /// Names and suffixes share a table.
    pub(crate) const fn names(&self) -> u32 {
        self.qnames.saturating_add(self.suffixes)
    }
}
