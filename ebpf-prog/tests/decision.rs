//! The decision against a plain statement of its rules.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    mem::MaybeUninit,
    net::{Ipv4Addr, Ipv6Addr},
    rc::Rc,
};

use ebpf_prog::{
    Malformed,
    decision::{Family, Matched, Packet, Rules, Sourced, Verdict, decide},
    layout::{ALL_QTYPES, Action, Ipv4Key, Ipv6Key, Kinds, Policy},
    message::{Message, Question},
    shape::Shape,
};
use proptest::{collection::vec, prelude::*};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    V4(u8),
    V6(u8),
    Name(u8, u32),
}

#[derive(Clone, Debug)]
struct Hit(Action, Rc<Cell<u64>>);

impl Matched for Hit {
    fn hit(&self) {
        self.1.set(self.1.get() + 1);
    }

    fn action(&self) -> Action {
        self.0
    }
}

struct World {
    policy: Policy,
    rules: BTreeMap<What, Hit>,
    malformed: RefCell<Vec<Malformed>>,
}

impl Rules for World {
    type Address = Hit;
    type Qname = Hit;
    type Name = ();

    fn policy(&self) -> Policy {
        self.policy
    }

    fn ipv4(&self, source: &Ipv4Key) -> Option<Hit> {
        self.rules.get(&What::V4(source.address().octets()[3])).cloned()
    }

    fn ipv6(&self, source: &Ipv6Key) -> Option<Hit> {
        self.rules.get(&What::V6(source.address().octets()[15])).cloned()
    }

    /// Says so of the names with rules, and of some others.
    fn may_know(&self, shape: Shape) -> bool {
        let known = |name: u8| Shape::of(&[1, name, 0]) == shape;
        known(b'd') || self.rules.keys().any(|what| matches!(what, What::Name(name, _) if known(*name)))
    }

    fn digest(&self) {}

    fn qname(&self, message: &Message, question: &Question, (): &(), qtypes: u32) -> Option<Hit> {
        assert_eq!(question.name_len, 3);
        self.rules.get(&What::Name(message.name_bytes()[1], qtypes)).cloned()
    }

    fn malformed(&self, reason: Malformed) {
        self.malformed.borrow_mut().push(reason);
    }
}

#[derive(Clone, Debug)]
struct Datagram {
    family: Option<Family>,
    host: u8,
    name: u8,
    qtype: u16,
    questions: u8,
    message: Message,
}

impl Sourced for Datagram {
    fn is(&self, family: Family) -> bool {
        self.family == Some(family)
    }

    fn ipv4_source<'a>(&self, room: &'a mut MaybeUninit<Ipv4Key>) -> Option<&'a Ipv4Key> {
        let address = Ipv4Addr::new(192, 0, 2, self.host);
        (self.is(Family::Ipv4)).then(|| &*room.write(address.into()))
    }

    fn ipv6_source<'a>(&self, room: &'a mut MaybeUninit<Ipv6Key>) -> Option<&'a Ipv6Key> {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.host.into());
        (self.is(Family::Ipv6)).then(|| &*room.write(address.into()))
    }
}

impl Packet for Datagram {
    fn message(&mut self) -> Result<(&mut Message, usize), Malformed> {
        let mut payload = vec![0, 0, 0, 0, 0, self.questions, 0, 0, 0, 0, 0, 0, 1, self.name, 0];
        payload.extend(self.qtype.to_be_bytes());
        payload.extend([0, 1]);
        let (message, loaded) = Message::from_payload(&payload);
        self.message = message;
        Ok((&mut self.message, loaded))
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Pass), Just(Action::Drop), Just(Action::Count)]
}

fn rule() -> impl Strategy<Value = (What, Action)> {
    let what = prop_oneof![
        (0..3_u8).prop_map(What::V4),
        (0..3_u8).prop_map(What::V6),
        (b'a'..=b'c', prop_oneof![Just(1_u32), Just(28), Just(255), Just(ALL_QTYPES)])
            .prop_map(|(name, qtypes)| What::Name(name, qtypes)),
    ];
    (what, action())
}

fn datagram() -> impl Strategy<Value = Datagram> {
    (
        prop_oneof![Just(Some(Family::Ipv4)), Just(Some(Family::Ipv6)), Just(None)],
        0..4_u8,
        prop_oneof![b'a'..=b'd', b'A'..=b'D'],
        prop_oneof![Just(1_u16), Just(28), Just(255), Just(16)],
        prop_oneof![9 => Just(1_u8), 1 => Just(0), 1 => Just(2)],
    )
        .prop_map(|(family, host, name, qtype, questions)| Datagram {
            family,
            host,
            name,
            qtype,
            questions,
            message: Message::new(),
        })
}

fn kinds(rules: &BTreeMap<What, Hit>) -> Kinds {
    rules.keys().fold(Kinds::NONE, |kinds, what| {
        kinds.and(match what {
            What::V4(_) => Kinds::IPV4,
            What::V6(_) => Kinds::IPV6,
            What::Name(_, ALL_QTYPES) => Kinds::QNAME_ALL_TYPES,
            What::Name(..) => Kinds::QNAME_ONE_TYPE,
        })
    })
}

/// The rules of the decision, in so many words: who is asked in which order, who is counted, and what comes of it.
fn expected(world: &World, packet: &Datagram) -> (Verdict, Vec<What>, Option<Malformed>) {
    let mut asked = Vec::new();
    match packet.family {
        Some(Family::Ipv4) => asked.push(What::V4(packet.host)),
        Some(Family::Ipv6) => asked.push(What::V6(packet.host)),
        None => {}
    }
    let readable = packet.questions > 0;
    if readable {
        let name = packet.name.to_ascii_lowercase();
        asked.extend([What::Name(name, packet.qtype.into()), What::Name(name, ALL_QTYPES)]);
    }
    let mut counted = Vec::new();
    for what in asked {
        if let Some(rule) = world.rules.get(&what) {
            counted.push(what);
            match rule.0 {
                Action::Pass => return (Verdict::Pass, counted, None),
                Action::Drop => return (Verdict::Drop, counted, None),
                Action::Count => {}
            }
        }
    }
    let names = world.rules.keys().any(|what| matches!(what, What::Name(..)));
    let drop = world.policy.drop_malformed != 0;
    if !readable && (names || drop) {
        let verdict = if drop { Verdict::Drop } else { Verdict::Pass };
        return (verdict, counted, Some(Malformed::NoQuestion));
    }
    (Verdict::Pass, counted, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_first_rule_that_does_not_only_count_decides(
        rules in vec(rule(), 0..10),
        packets in vec(datagram(), 1..20),
        drop_malformed in any::<bool>(),
    ) {
        let rules: BTreeMap<_, _> =
            rules.into_iter().map(|(what, action)| (what, Hit(action, Rc::default()))).collect();
        let policy = Policy { kinds: kinds(&rules), drop_malformed: drop_malformed.into() };
        let world = World { policy, rules, malformed: RefCell::default() };
        for mut packet in packets {
            let before: BTreeMap<_, _> = world.rules.iter().map(|(what, rule)| (*what, rule.1.get())).collect();
            world.malformed.borrow_mut().clear();
            let (verdict, counted, malformed) = expected(&world, &packet);

            prop_assert_eq!(decide(&mut packet, &world), verdict);

            for (what, rule) in &world.rules {
                prop_assert_eq!(rule.1.get() - before[what], u64::from(counted.contains(what)), "{:?}", what);
            }
            prop_assert_eq!(world.malformed.borrow().first().copied(), malformed);
        }
    }
}

/// Kinds that are not in use are not asked, whatever is in their maps: that is what makes them free.
#[test]
fn kinds_not_in_use_cost_nothing() {
    struct Trap;

    impl Rules for Trap {
        type Address = Hit;
        type Qname = Hit;
        type Name = ();

        fn policy(&self) -> Policy {
            Policy::default()
        }

        fn ipv4(&self, _: &Ipv4Key) -> Option<Hit> {
            panic!("asked")
        }

        fn ipv6(&self, _: &Ipv6Key) -> Option<Hit> {
            panic!("asked")
        }

        fn may_know(&self, _: Shape) -> bool {
            panic!("read the message")
        }

        fn digest(&self) {
            panic!("read the message")
        }

        fn qname(&self, _: &Message, _: &Question, (): &(), _: u32) -> Option<Hit> {
            panic!("asked")
        }

        fn malformed(&self, _: Malformed) {
            panic!("read the message")
        }
    }

    for family in [Some(Family::Ipv4), Some(Family::Ipv6), None] {
        let mut packet =
            Datagram { family, host: 1, name: b'a', qtype: 1, questions: 0, message: Message::new() };
        assert_eq!(decide(&mut packet, &Trap), Verdict::Pass);
    }
}
