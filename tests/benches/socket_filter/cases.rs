//! What is measured: rules, and the packets that meet them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Different packets that take turns: with fewer, the processor learns their branches by heart, which flatters a program
/// that takes names byte by byte. More do not go into one system call.
const VARIANTS: usize = 1024;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const HOSTILE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Type A.
const A: u16 = 1;

/// Rules, and packets that all meet the same fate.
#[derive(Debug)]
pub(crate) struct Case {
    /// In a case that passes, another name is blocked, unless it says otherwise.
    pub(crate) name: String,
    pub(crate) rules: Rules,
    pub(crate) source: IpAddr,
    pub(crate) payloads: Vec<Vec<u8>>,
    /// Whether a rule drops them all; else none matches.
    pub(crate) dropped: bool,
    /// What ours may cost, as a multiple of what dnsdist costs.
    pub(crate) bar: Option<f64>,
}

/// What is dropped.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) addresses: Vec<IpAddr>,
    /// With the type, or `None` for every type.
    pub(crate) names: Vec<(String, Option<u16>)>,
}

impl Rules {
    fn address(address: IpAddr) -> Self {
        Self { addresses: vec![address], ..Self::default() }
    }

    fn name(name: String) -> Self {
        Self { names: vec![(name, None)], ..Self::default() }
    }
}

/// A length of names: how many characters, and the labels that they are made of.
struct Shape {
    characters: usize,
    labels: &'static [usize],
}

const SHORT: Shape = Shape { characters: 12, labels: &[8, 3] };
const MIDDLE: Shape = Shape { characters: 57, labels: &[3, 20, 17, 10, 3] };
const LONG: Shape = Shape { characters: 199, labels: &[31, 31, 31, 31, 31, 27, 7, 3] };
const MANY_LABELS: Shape = Shape { characters: 253, labels: &[1; 127] };

const _: () = {
    assert!(SHORT.adds_up() && MIDDLE.adds_up() && LONG.adds_up() && MANY_LABELS.adds_up());
};

impl Shape {
    /// Counts the dots between the labels.
    const fn adds_up(&self) -> bool {
        let (mut sum, mut index) = (self.labels.len() - 1, 0);
        while index < self.labels.len() {
            sum += self.labels[index];
            index += 1;
        }
        sum == self.characters
    }

    /// One of the names of this shape; a different number makes a different name.
    fn name(&self, variant: usize) -> String {
        text(self.labels, &mut (variant as u64))
    }

    /// Queries for names that differ from the 0th.
    fn others(&self) -> Vec<Vec<u8>> {
        (1..=VARIANTS).map(|variant| query(&self.name(variant))).collect()
    }

    /// Queries for names as long as the 0th, with labels of other lengths in each, and in random case.
    fn varied(&self) -> Vec<Vec<u8>> {
        (1..=VARIANTS)
            .map(|variant| {
                let state = &mut (variant as u64);
                let labels = cut(self.characters, state);
                query(&in_random_case(&text(&labels, state), state))
            })
            .collect()
    }

    /// Queries for the 0th name, in random case.
    fn cased(&self) -> Vec<Vec<u8>> {
        let name = self.name(0);
        (1..=VARIANTS).map(|variant| query(&in_random_case(&name, &mut (variant as u64)))).collect()
    }
}

fn text(labels: &[usize], state: &mut u64) -> String {
    let mut label = |len: &usize| -> String { (0..*len).map(|_| letter(state)).collect() };
    labels.iter().map(&mut label).collect::<Vec<_>>().join(".")
}

fn in_random_case(name: &str, state: &mut u64) -> String {
    let case = |c: char| if random(state).is_multiple_of(2) { c.to_ascii_uppercase() } else { c };
    name.chars().map(case).collect()
}

/// Lengths of labels that make a name of so many characters: 3 to 20 each, the last one may be longer.
fn cut(characters: usize, state: &mut u64) -> Vec<usize> {
    let (mut labels, mut left) = (Vec::new(), characters);
    while left > 24 {
        let label = 3 + (random(state) % 18) as usize;
        labels.push(label);
        left -= label + 1;
    }
    if left > 7 {
        let label = 3 + (random(state) % (left as u64 - 6)) as usize;
        labels.push(label);
        left -= label + 1;
    }
    labels.push(left);
    labels
}

pub(crate) fn all() -> Vec<Case> {
    let blocked = |family, source, bar| Case {
        name: format!("{family} source blocked"),
        rules: Rules::address(source),
        source,
        payloads: SHORT.others(),
        dropped: true,
        bar: Some(bar),
    };
    let passes = |shape: &Shape, bar| Case {
        name: format!("passes, {} characters", shape.characters),
        rules: Rules::name(shape.name(0)),
        source: CLIENT,
        payloads: shape.others(),
        dropped: false,
        bar,
    };
    let varied = |shape: &Shape, bar| Case {
        name: format!("passes, {} characters, random labels and case", shape.characters),
        rules: Rules::name(shape.name(0)),
        source: CLIENT,
        payloads: shape.varied(),
        dropped: false,
        bar: Some(bar),
    };
    let dropped = |shape: &Shape, case: &str, payloads| Case {
        name: format!("name blocked, {} characters{case}", shape.characters),
        rules: Rules::name(shape.name(0)),
        source: CLIENT,
        payloads,
        dropped: true,
        bar: None,
    };
    let plain = |shape: &Shape| dropped(shape, "", vec![query(&shape.name(0)); VARIANTS]);
    vec![
        blocked("IPv4", HOSTILE, 1.0),
        blocked("IPv6", HOSTILE_V6, 1.0),
        passes(&SHORT, Some(0.35)),
        passes(&MIDDLE, Some(0.15)),
        passes(&LONG, Some(0.08)),
        varied(&SHORT, 0.35),
        varied(&MIDDLE, 0.15),
        varied(&LONG, 0.08),
        plain(&SHORT),
        plain(&MIDDLE),
        plain(&LONG),
        dropped(&LONG, ", random case", LONG.cased()),
        Case {
            name: "passes, 57 characters, no rules at all".to_owned(),
            rules: Rules::default(),
            source: CLIENT,
            payloads: MIDDLE.others(),
            dropped: false,
            bar: None,
        },
        Case {
            name: "passes, 57 characters, every kind of rule".to_owned(),
            rules: Rules {
                addresses: vec![HOSTILE, HOSTILE_V6],
                names: vec![(MIDDLE.name(0), None), (SHORT.name(0), Some(A))],
            },
            source: CLIENT,
            payloads: MIDDLE.others(),
            dropped: false,
            bar: None,
        },
        Case { name: "passes, 253 characters, 127 labels".to_owned(), ..passes(&MANY_LABELS, None) },
    ]
}

/// A query for the A records of `name`.
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.extend(u8::try_from(label.len()));
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(A.to_be_bytes());
    query.extend([0, 1]);
    query
}

fn letter(state: &mut u64) -> char {
    // Less than 26, so that it fits.
    char::from(b'a' + (random(state) % 26) as u8)
}

/// `SplitMix64`: the same letters in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
