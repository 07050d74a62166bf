//! The decision against a plain statement of its rules, by real tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use ebpf_prog::{
    Malformed,
    decision::{Came, Family, Packet, Sourced, Verdict, decide, decide_source},
    message::Message,
    rule::Action,
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::select,
};

use crate::world::{Does, NOW, What, World, v4, v6};

mod world;

#[derive(Clone, Debug)]
struct Datagram {
    family: Option<Family>,
    host: u8,
    name: Vec<u8>,
    qtype: u16,
    questions: u8,
    response: bool,
    message: Message,
}

impl Sourced for Datagram {
    fn is(&self, family: Family) -> bool {
        self.family == Some(family)
    }

    fn ipv4_source(&self) -> Option<u64> {
        self.is(Family::Ipv4).then(|| v4(self.host, 32).bits.into())
    }

    fn ipv6_source(&self) -> Option<[u64; 2]> {
        self.is(Family::Ipv6).then(|| v6(self.host, 128).bits)
    }
}

impl Packet for Datagram {
    fn message(&mut self) -> Result<(&mut Message, usize), Malformed> {
        let flags = if self.response { 0x80 } else { 0 };
        let mut payload = vec![0, 0, flags, 0, 0, self.questions, 0, 0, 0, 0, 0, 0];
        payload.extend(&self.name);
        payload.extend(self.qtype.to_be_bytes());
        payload.extend([0, 1]);
        let (message, loaded) = Message::from_payload(&payload);
        self.message = message;
        Ok((&mut self.message, loaded))
    }
}

/// Names that are below each other, one of them in several blocks.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let label = select(vec![&b"\x01a"[..], b"\x01b", b"\x1atwenty-six-bytes-of-a-lbl-", b"\x02a\0"]);
    vec(label, 0..4).prop_map(|labels| [&labels.concat()[..], &[0]].concat())
}

fn qtype() -> impl Strategy<Value = u16> {
    select(vec![1_u16, 28, 255])
}

fn what() -> impl Strategy<Value = What> {
    let host = 0..4_u8;
    prop_oneof![
        1 => (host.clone(), select(vec![32, 31, 30, 24, 0]))
            .prop_map(|(host, len)| What::V4(v4(host, len).bits.to_be_bytes()[3], len)),
        1 => (host, select(vec![128, 127, 64, 32, 0]))
            .prop_map(|(host, len)| What::V6(v6(host, len).bits[1].to_be_bytes()[7], len)),
        2 => (name(), proptest::option::of(qtype()), any::<bool>())
            .prop_map(|(name, qtype, below)| What::Name { name, qtype, below }),
    ]
}

fn does() -> impl Strategy<Value = Does> {
    let actions = [&Action::ALL[..], &[0, 1, 3, 127].map(Action::Slip)].concat();
    let action = prop_oneof![3 => Just(Action::Count), 2 => select(actions)];
    (action, select(vec![0, 0, NOW + 1, NOW, 1]))
}

fn datagram() -> impl Strategy<Value = Datagram> {
    (
        select(vec![Some(Family::Ipv4), Some(Family::Ipv6), None]),
        0..4_u8,
        (name(), any::<bool>()),
        prop_oneof![qtype(), Just(16)],
        prop_oneof![9 => Just(1_u8), 1 => Just(0), 1 => Just(2)],
        prop_oneof![9 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(family, host, (mut name, upper), qtype, questions, response)| {
            if upper {
                name.make_ascii_uppercase();
            }
            Datagram { family, host, name, qtype, questions, response, message: Message::new() }
        })
}

/// Who is asked about a source, in order.
fn asked_about_source(packet: &Datagram) -> Vec<What> {
    let host = packet.host;
    match packet.family {
        Some(Family::Ipv4) => {
            (0..=32).rev().map(|len| What::V4(v4(host, len).bits.to_be_bytes()[3], len)).collect()
        }
        Some(Family::Ipv6) => {
            (0..=128).rev().map(|len| What::V6(v6(host, len).bits[1].to_be_bytes()[7], len)).collect()
        }
        None => vec![],
    }
}

/// Who is asked about a name, in order.
fn asked_about_name(packet: &Datagram) -> Vec<What> {
    let name = packet.name.to_ascii_lowercase();
    let types = [Some(packet.qtype), None];
    let mut asked: Vec<_> = types.map(|qtype| What::Name { name: name.clone(), qtype, below: false }).into();
    let mut rest = &name[..];
    loop {
        asked.extend(types.map(|qtype| What::Name { name: rest.to_vec(), qtype, below: true }));
        match rest[0] {
            0 => return asked,
            label => rest = &rest[usize::from(label) + 1..],
        }
    }
}

/// What a rule does with the packet that it counts as the `hits`th.
fn verdict(action: Action, hits: u64) -> Option<Verdict> {
    match action {
        Action::Count => None,
        Action::Pass => Some(Verdict::Pass),
        Action::Truncate => Some(Verdict::Truncate),
        Action::Refused => Some(Verdict::Refused),
        Action::NxDomain => Some(Verdict::NxDomain),
        Action::Slip(every) if every > 0 && hits.is_multiple_of(every.into()) => Some(Verdict::Truncate),
        Action::Drop | Action::Slip(_) => Some(Verdict::Drop),
    }
}

/// The rules of the decision, in so many words: who is asked in which order, who is counted, and what comes of it. `before`
/// is what was counted before.
fn expected(
    rules: &BTreeMap<What, Does>,
    before: &BTreeMap<What, u64>,
    [drop_malformed, watched]: [bool; 2],
    packet: &Datagram,
) -> (Verdict, BTreeMap<What, u64>, Vec<Malformed>) {
    let (mut hits, mut malformed) = (BTreeMap::new(), Vec::new());
    let mut first_to_decide = |asked: Vec<What>| {
        asked.into_iter().find_map(|what| {
            let &(action, ends) = rules.get(&what)?;
            if ends != 0 && ends <= NOW {
                return None;
            }
            let nth = before.get(&what).unwrap_or(&0) + 1;
            if !what.is_name() || action != Action::Refused {
                hits.insert(what, 1);
            }
            verdict(action, nth)
        })
    };
    let mut verdict = first_to_decide(asked_about_source(packet));
    if verdict.is_none() && (drop_malformed || watched || rules.keys().any(What::is_name)) {
        if packet.response {
            malformed.push(Malformed::Response);
        } else if packet.questions == 0 {
            malformed.push(Malformed::NoQuestion);
        }
        if drop_malformed && !malformed.is_empty() {
            verdict = Some(Verdict::Drop);
        } else if packet.questions > 0 {
            verdict = first_to_decide(asked_about_name(packet));
        }
    }
    (verdict.unwrap_or(Verdict::Pass), hits, malformed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_first_rule_that_does_not_only_count_decides(
        rules in btree_map(what(), does(), 0..16),
        packets in vec(datagram(), 1..20),
        policy in any::<[bool; 2]>(),
    ) {
        let mut total = BTreeMap::<What, u64>::new();
        let mut sources = Vec::new();
        let [drop_malformed, watched] = policy;
        let world = World::new(&rules, drop_malformed, watched);
        for mut packet in packets {
            world.malformed.borrow_mut().clear();
            let (verdict, hits, malformed) = expected(&rules, &total, policy, &packet);

            prop_assert_eq!(decide(&mut packet, &&world), verdict, "{:?}", packet);

            for (what, hits) in hits {
                *total.entry(what).or_default() += hits;
            }
            prop_assert_eq!(world.hits(), total.clone());
            prop_assert_eq!(&*world.malformed.borrow(), &malformed);
            if watched && !malformed.is_empty() {
                sources.push(match packet.family {
                    Some(Family::Ipv4) => [0, 0xffff_0000_0000 | u64::from(v4(packet.host, 32).bits)],
                    Some(Family::Ipv6) => v6(packet.host, 128).bits,
                    None => [0, 0],
                });
            }
            prop_assert_eq!(world.sources(), sources.clone());
        }
    }

    #[test]
    fn sources_are_asked_the_longest_prefix_first(
        lens in vec(0..=32_u8, 1..8),
        packet in datagram(),
    ) {
        let lens: BTreeSet<_> = lens.into_iter().map(Reverse).collect();
        let what = |len| What::V4(v4(packet.host, len).bits.to_be_bytes()[3], len);
        // The longest one drops, all others would refuse.
        let rules = lens.iter().enumerate().map(|(index, Reverse(len))| {
            (what(*len), (if index == 0 { Action::Drop } else { Action::Refused }, 0))
        });
        let world = World::new(&rules.collect(), false, false);
        let expected = packet.is(Family::Ipv4).then_some(Verdict::Drop);
        let decided = decide_source(&packet, &&world);
        prop_assert_eq!(decided.map(|decided| decided.verdict(Came::OverPlainUdp)), expected);
    }
}
