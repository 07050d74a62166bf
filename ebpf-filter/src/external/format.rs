//! The format that is shared with dnsdist and with the programs written for it: what the bytes of keys and values mean.
//!
//! `docs/EXTERNAL.md` has it as tables.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{Action, Kind, Match, QName, Qtypes};

/// The bytes of a name in a key: as long as the longest one.
const NAME: usize = QName::MAX_LEN;
/// Where the type is in the key of a name: behind the name and a byte of padding.
const QTYPE: usize = NAME + 1;
/// Where the action is in a value: behind the hits.
const ACTION: usize = size_of::<u64>();

const _: () = assert!(QTYPE == 256 && size_of::<NameKey>() == 258);

/// The key of a name.
pub(crate) type NameKey = [u8; QTYPE + size_of::<u16>()];
/// What a map says of a key.
pub(crate) type Value = [u8; 16];

/// A key, and which map it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The address as a number, in the byte order of this machine.
    Ipv4([u8; 4]),
    /// The address as in a packet.
    Ipv6([u8; 16]),
    /// The length of the prefix, in the byte order of this machine, and the address as in a packet.
    Range4([u8; 8]),
    /// Likewise.
    Range6([u8; 20]),
    /// The name, zeros, and the type in the byte order of this machine.
    Qname(Box<NameKey>),
}

/// Which number stands for every type, in the key of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) every_qtype: u16,
}

impl Format {
    /// The key for a canonical match; `None` if the format has none for it.
    pub(crate) fn key(self, of: &Match) -> Option<Key> {
        Some(match of {
            Match::Ipv4(address) => Key::Ipv4(address.to_bits().to_ne_bytes()),
            Match::Ipv6(address) => Key::Ipv6(address.octets()),
            Match::Range4(net) => Key::Range4(range(net.prefix_len(), net.network().octets())),
            Match::Range6(net) => Key::Range6(range(net.prefix_len(), net.network().octets())),
            Match::Qname(name, qtypes) => {
                let qtype = match qtypes {
                    Qtypes::All => self.every_qtype,
                    Qtypes::Only(qtype) if *qtype == self.every_qtype => return None,
                    Qtypes::Only(qtype) => *qtype,
                };
                let mut key = Box::new([0; _]);
                let wire = name.as_wire();
                key[..wire.len()].copy_from_slice(wire);
                key[QTYPE..].copy_from_slice(&qtype.to_ne_bytes());
                Key::Qname(key)
            }
            Match::Suffix(..) => return None,
        })
    }

    /// What a key matches; `None` if it is no key that anything can match, a name in upper case, say.
    pub(crate) fn matches(self, key: &Key) -> Option<Match> {
        Some(match key {
            Key::Ipv4(number) => Match::Ipv4(Ipv4Addr::from_bits(u32::from_ne_bytes(*number))),
            Key::Ipv6(octets) => Match::Ipv6(Ipv6Addr::from(*octets)),
            Key::Range4(key) => {
                let (len, octets) = prefix::<4>(key)?;
                Match::Range4(Ipv4Net::new(octets.into(), len).ok()?.trunc())
            }
            Key::Range6(key) => {
                let (len, octets) = prefix::<16>(key)?;
                Match::Range6(Ipv6Net::new(octets.into(), len).ok()?.trunc())
            }
            Key::Qname(key) => {
                let (name, used) = QName::from_wire_prefix(&key[..NAME]).ok()?;
                let is_plain =
                    key[..used] == *name.as_wire() && key[used..QTYPE].iter().all(|byte| *byte == 0);
                let qtype = key.last_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).filter(|_| is_plain)?;
                let qtypes = if qtype == self.every_qtype { Qtypes::All } else { Qtypes::Only(qtype) };
                Match::Qname(name, qtypes)
            }
        })
    }
}

impl Key {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Ipv4(_) => Kind::Ipv4,
            Self::Ipv6(_) => Kind::Ipv6,
            Self::Range4(_) => Kind::Range4,
            Self::Range6(_) => Kind::Range6,
            Self::Qname(_) => Kind::Qname,
        }
    }
}

/// The number of an action; `None` if the format has none for it.
pub(crate) const fn number(action: Action) -> Option<u8> {
    match action {
        Action::Pass => Some(0),
        Action::Drop => Some(1),
        Action::Truncate => Some(2),
        Action::Count | Action::Slip(_) | Action::Refused | Action::NxDomain => None,
    }
}

/// The action with this number.
pub(crate) const fn action(number: u8) -> Option<Action> {
    match number {
        0 => Some(Action::Pass),
        1 => Some(Action::Drop),
        2 => Some(Action::Truncate),
        _ => None,
    }
}

/// A value whose padding is zero.
pub(crate) fn value(hits: u64, action: u8) -> Value {
    let mut value = [0; size_of::<Value>()];
    value[..ACTION].copy_from_slice(&hits.to_ne_bytes());
    value[ACTION] = action;
    value
}

/// Packets that were matched.
pub(crate) fn hits(value: &Value) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The number of the action. What is behind it is nobody's business: dnsdist leaves anything there.
pub(crate) const fn action_number(value: &Value) -> u8 {
    value[ACTION]
}

/// The key of a range: `struct bpf_lpm_trie_key` in `linux/bpf.h`.
fn range<const ADDRESS: usize, const KEY: usize>(len: u8, address: [u8; ADDRESS]) -> [u8; KEY] {
    const { assert!(ADDRESS + size_of::<u32>() == KEY) };
    let mut key = [0; KEY];
    let (prefix_len, octets) = key.split_at_mut(size_of::<u32>());
    prefix_len.copy_from_slice(&u32::from(len).to_ne_bytes());
    octets.copy_from_slice(&address);
    key
}

fn prefix<const ADDRESS: usize>(key: &[u8]) -> Option<(u8, [u8; ADDRESS])> {
    let (len, octets) = key.split_first_chunk()?;
    Some((u32::from_ne_bytes(*len).try_into().ok()?, octets.try_into().ok()?))
}
