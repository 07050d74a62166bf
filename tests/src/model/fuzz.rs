//! What the fuzz targets make of an input.

use ebpf_filter::{Action, Match, QName, Qtypes, Rule};
use ipnet::IpNet;

use super::{
    bytes::{Bytes, Payload},
    question, sources,
    steps::Step,
    trial::{Failure, Trial, WORLDS},
};

/// The most steps of one input.
const MOST_STEPS: usize = 300;

/// The target `rules`: the first byte chooses the sizes and the policy, the others are steps.
#[derive(Debug)]
pub struct RulesTarget(Vec<Trial>);

impl RulesTarget {
    /// Filters in user space, and in the kernel on demand.
    pub fn new(kernel: bool) -> Self {
        Self(WORLDS.iter().map(|(sizes, drop)| Trial::new(*sizes, *drop, kernel)).collect())
    }

    /// The steps of an input.
    pub fn steps(input: &[u8]) -> (usize, Vec<Step>) {
        let mut bytes = Bytes::new(input);
        let world = bytes.below(WORLDS.len());
        let mut steps = Vec::new();
        while !bytes.is_empty() && steps.len() < MOST_STEPS {
            steps.push(Step::choose(&mut bytes));
        }
        (world, steps)
    }

    /// Takes the filters through the steps of an input.
    ///
    /// # Errors
    ///
    /// If one of them does anything else than it must.
    pub fn run(&mut self, input: &[u8]) -> Result<(), Failure> {
        let (world, steps) = Self::steps(input);
        self.0[world].run(&steps)
    }
}

/// The target `packet`: the first byte or two choose the source, the others are the message.
#[derive(Debug)]
pub struct PacketTarget([Trial; 2]);

impl PacketTarget {
    /// Filters with [`rules`] and either policy, in user space, and in the kernel on demand.
    ///
    /// # Panics
    ///
    /// If there is no room for the rules.
    pub fn new(kernel: bool) -> Self {
        Self([false, true].map(|drop_malformed| {
            let mut trial = Trial::new([64; 6], drop_malformed, kernel);
            trial.step(&Step::InsertMany(rules())).expect("there is room");
            trial.step(&Step::Watch(true)).expect("the kernel can");
            trial
        }))
    }

    /// Shows the filters the packet of an input.
    ///
    /// # Errors
    ///
    /// If one of them does anything else than it must with it.
    ///
    /// # Panics
    ///
    /// If hickory-proto reads another question.
    pub fn run(&mut self, input: &[u8]) -> Result<(), Failure> {
        let mut bytes = Bytes::new(input);
        let source = sources::source(&mut bytes);
        let message = bytes.take(usize::MAX).to_vec();
        question::assert_as_hickory_reads(&message);
        let step = Step::Packet(source, Payload(message));
        self.0.iter_mut().try_for_each(|trial| trial.step(&step).and_then(|()| trial.compare()))
    }
}

/// Rules of all kinds that overlap; some only count.
///
/// # Panics
///
/// Never: all of these are ranges and names.
pub fn rules() -> Vec<Rule> {
    let ranges = [
        ("0.0.0.0/0", Action::Count),
        ("192.0.2.0/24", Action::Count),
        ("192.0.2.0/31", Action::Pass),
        ("192.0.3.0/24", Action::Drop),
        ("::/0", Action::Count),
        ("2001:db8::/32", Action::Count),
        ("2001:db8::/64", Action::Count),
        ("2001:db8:0:1::/64", Action::Drop),
        ("ffff::/16", Action::Slip(3)),
    ];
    let names = [
        ("evil.example", Some(1), Action::Count),
        ("evil.example", None, Action::Drop),
        ("www.evil.example", Some(28), Action::Pass),
        (r"evil\007example", None, Action::NxDomain),
        (r"\000.example", None, Action::Drop),
        (".", Some(255), Action::Drop),
        ("this-is-a-name-of-its-own.with-more-than-24-bytes.example", None, Action::Truncate),
    ];
    let suffixes = [
        (".", None, Action::Count),
        (".", Some(65535), Action::Drop),
        ("example", Some(28), Action::Count),
        ("evil.example", Some(28), Action::Drop),
        ("evil.example", None, Action::Count),
        ("a.www.evil.example", None, Action::Slip(2)),
        ("com", None, Action::Drop),
        ("q.q.q.q.q.q.q.q.q.q.q.q.q.q.q.q", None, Action::Truncate),
    ];
    let name = |text: &str| text.parse::<QName>().expect("a name");
    let qtypes = |qtype: Option<u16>| qtype.map_or(Qtypes::All, Qtypes::Only);
    let mut rules = vec![
        Rule::drop(Match::address([192, 0, 2, 2])),
        Rule::new(Match::address([10, 0, 0, 1]), Action::Slip(2)),
        Rule::new(Match::address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]), Action::Drop),
    ];
    rules.extend(
        ranges.map(|(net, action)| Rule::new(Match::range(net.parse::<IpNet>().expect("a range")), action)),
    );
    rules.extend(
        names.map(|(text, qtype, action)| Rule::new(Match::qname(name(text), qtypes(qtype)), action)),
    );
    rules.extend(
        suffixes.map(|(text, qtype, action)| Rule::new(Match::suffix(name(text), qtypes(qtype)), action)),
    );
    rules
}
