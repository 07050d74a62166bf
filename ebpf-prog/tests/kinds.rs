//! Kinds of rules that are not in use are not asked, whatever is in their tables: that is what makes them free.

use ebpf_prog::{
    Malformed,
    decision::{Decided, Family, Packet, Rules, Sourced, Subject, Verdict, decide, decide_source},
    layout::{Kinds, Policy},
    lengths::Lengths,
    message::Message,
    names::{Block, NameNode},
    rule::{Action, Ipv4Node, Ipv6Node, Seed},
    shape::Shape,
    sightings::{Sighted, Sighting},
    table::Slots,
    turns::{Search, Turns},
};

fn asked<T>() -> &'static [T] {
    panic!("asked")
}

/// Rules that must not be looked at.
struct Trap(Policy);

impl Turns for Trap {
    fn search(_: usize, _: impl FnMut(usize) -> Search) -> Option<Decided> {
        panic!("searched")
    }
}

impl Rules<'static> for Trap {
    fn policy(&self) -> Policy {
        self.0
    }

    fn seed(&self) -> Seed {
        panic!("hashed")
    }

    fn now(&self) -> u64 {
        panic!("asked for the time")
    }

    fn ipv4(&self) -> impl Slots<'static, Ipv4Node> {
        asked()
    }

    fn ipv6(&self) -> impl Slots<'static, Ipv6Node> {
        asked()
    }

    fn ranges4(&self) -> impl Slots<'static, Ipv4Node> {
        asked()
    }

    fn ranges6(&self) -> impl Slots<'static, Ipv6Node> {
        asked()
    }

    fn lengths(&self) -> Option<[&'static Lengths; 2]> {
        panic!("asked")
    }

    fn names(&self) -> impl Slots<'static, NameNode> {
        asked()
    }

    fn blocks(&self) -> impl Slots<'static, Block> {
        asked()
    }

    fn may_know(&self, _: Shape) -> bool {
        panic!("read the message")
    }

    fn counts(&self, _: Subject, _: Action) -> bool {
        panic!("counted")
    }

    fn malformed(&self, _: Malformed) {
        panic!("read the message")
    }

    fn sighted(&self) -> Option<&'static Sighted> {
        panic!("watched")
    }

    fn sighting(&self, _: u32) -> Option<&'static Sighting> {
        panic!("watched")
    }
}

/// A packet that must not be looked at, except for its protocol.
struct Sealed(Option<Family>);

impl Sourced for Sealed {
    fn is(&self, family: Family) -> bool {
        self.0 == Some(family)
    }

    fn ipv4_source(&self) -> Option<u64> {
        panic!("read the source")
    }

    fn ipv6_source(&self) -> Option<[u64; 2]> {
        panic!("read the source")
    }
}

impl Packet for Sealed {
    fn message(&mut self) -> Result<(&mut Message, usize), Malformed> {
        panic!("read the message")
    }
}

#[test]
fn kinds_not_in_use_cost_nothing() {
    let (v4, v6) = (Kinds::SOURCES4, Kinds::SOURCES6);
    for (family, kinds) in [
        (Some(Family::Ipv4), Kinds::NONE),
        (Some(Family::Ipv4), v6),
        (Some(Family::Ipv6), Kinds::NONE),
        (Some(Family::Ipv6), v4),
        (None, Kinds::NONE),
        (None, v4.and(v6)),
    ] {
        let trap = Trap(Policy::new(kinds, false));
        assert_eq!(decide(&mut Sealed(family), &trap), Verdict::Pass, "{family:?}");
        assert_eq!(decide_source(&Sealed(family), &trap), None, "{family:?}");
    }
    let watched = Policy::new(Kinds::NONE, false).watched(true);
    assert!(watched.reads_messages() && !watched.drops_malformed());
    assert_eq!(watched.watched(false), Policy::new(Kinds::NONE, false));
    let names_as_well = Trap(Policy::new(v6.and(Kinds::NAMES), true));
    assert_eq!(decide_source(&Sealed(Some(Family::Ipv4)), &names_as_well), None);
}
