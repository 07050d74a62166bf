//! The rules in user space. They lie in the memory that the kernel reads as well, where it enforces; the decision is
//! `ebpf-prog`'s, for transports where the kernel cannot see the name and wherever it takes no part.

mod adopt;
mod changing;
mod ending;
mod key;
mod memory;
mod place;
mod reading;
mod shared;
mod sieve;
mod watch;
mod writer;

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use ebpf_prog::{
    Malformed as MalformedReason,
    decision::{Came, Decided, Rules, Subject, Verdict, decide, decide_question, decide_source},
    layout::Policy,
    lengths::Lengths,
    message::Message,
    names::{Block, NameNode},
    rule::{Action, Ipv4Node, Ipv6Node, Seed},
    shape::Shape,
    sightings::{Sighted, Sighting},
    table::Slots,
    turns::{Plain, Search, Turns},
};

pub(crate) use changing::Changing;
pub(crate) use memory::{Array, Lens, Memory, OutOfMemory};
pub(crate) use place::Which;
pub(crate) use reading::Found;
pub(crate) use shared::Shared;
pub use watch::MalformedPosition;
pub(crate) use writer::{Refusal, Writer};

use crate::{
    Query, clock,
    query::{Datagram, Source},
};

/// Rules can be looked up while they change; changes come one at a time.
#[derive(Debug)]
pub(crate) struct Engine {
    memory: Memory,
    /// A [`Policy`], if nobody shares the memory.
    policy: AtomicU64,
    malformed: [AtomicU64; MalformedReason::ALL.len()],
    writer: Mutex<Writer>,
}

impl Engine {
    pub(crate) fn new(memory: Memory, sizes: crate::sizes::Sizes, drop_malformed: bool) -> Self {
        let writer = Writer::new(&memory, sizes, drop_malformed);
        Self {
            memory,
            policy: AtomicU64::new(zerocopy::transmute!(writer.policy())),
            malformed: Default::default(),
            writer: Mutex::new(writer),
        }
    }

    pub(crate) const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Says which kinds of rules there are. Lookups skip the others.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.policy_word().store(zerocopy::transmute!(policy), Ordering::Release);
    }

    fn policy_word(&self) -> &AtomicU64 {
        self.memory.shared.as_ref().map_or(&self.policy, |shared| &shared.policy[0])
    }

    /// `behind_kernel`: the kernel has let the query through by the same rules, as far as it could see them.
    pub(crate) fn check(&self, query: &Query<'_>, came: Came, behind_kernel: bool) -> Verdict {
        let rules = &InForce {
            sources: Counting::behind(behind_kernel),
            names: Counting::behind(behind_kernel && query.is_plain_udp()),
            ..InForce::new(self)
        };
        decide_source(query.source(), rules)
            .or_else(|| {
                if !rules.policy.kinds().any(ebpf_prog::layout::Kinds::NAMES) {
                    return None;
                }
                let (mut message, question) = Message::for_question(query.name().as_wire(), query.qtype());
                decide_question(&mut message, &question, rules)
            })
            .unwrap_or(Decided::PASS)
            .verdict(came)
    }

    /// Whether the first rule for this source that does more than count lets it pass. Nothing is counted.
    pub(crate) fn lets_pass(&self, source: &Source) -> bool {
        let rules = &InForce { sources: Counting::Nothing, ..InForce::new(self) };
        decide_source(source, rules).map(|decided| decided.verdict(Came::OverPlainUdp)) == Some(Verdict::Pass)
    }

    pub(crate) fn check_datagram(&self, mut datagram: Datagram) -> Verdict {
        decide(&mut datagram, &InForce::new(self))
    }

    pub(crate) fn malformed(&self) -> [u64; MalformedReason::ALL.len()] {
        std::array::from_fn(|reason| self.malformed[reason].load(Ordering::Relaxed))
    }
}

/// Which matches are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    Every,
    /// Only those that drop: the kernel has counted what it let through.
    Drops,
    Nothing,
}

impl Counting {
    const fn behind(kernel: bool) -> Self {
        if kernel { Self::Drops } else { Self::Every }
    }

    fn counts(self, action: Action) -> bool {
        match self {
            Self::Every => true,
            Self::Drops => matches!(action, Action::Drop | Action::Slip(0)),
            Self::Nothing => false,
        }
    }
}

/// The rules as one decision sees them.
struct InForce<'a> {
    engine: &'a Engine,
    policy: Policy,
    sources: Counting,
    names: Counting,
}

impl<'a> InForce<'a> {
    fn new(engine: &'a Engine) -> Self {
        let policy = zerocopy::transmute!(engine.policy_word().load(Ordering::Acquire));
        Self { engine, policy, sources: Counting::Every, names: Counting::Every }
    }
}

impl Turns for InForce<'_> {
    fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided> {
        Plain::search(times, body)
    }
}

impl<'a> Rules<'a> for InForce<'a> {
    fn policy(&self) -> Policy {
        self.policy
    }

    fn seed(&self) -> Seed {
        self.engine.memory.seed
    }

    fn now(&self) -> u64 {
        clock::now()
    }

    fn ipv4(&self) -> impl Slots<'a, Ipv4Node> {
        &*self.engine.memory.ipv4
    }

    fn ipv6(&self) -> impl Slots<'a, Ipv6Node> {
        &*self.engine.memory.ipv6
    }

    fn ranges4(&self) -> impl Slots<'a, Ipv4Node> {
        &*self.engine.memory.ranges4
    }

    fn ranges6(&self) -> impl Slots<'a, Ipv6Node> {
        &*self.engine.memory.ranges6
    }

    fn lengths(&self) -> Option<[&'a Lengths; 2]> {
        self.engine.memory.control.first().map(|control| control.lengths.each_ref())
    }

    fn names(&self) -> impl Slots<'a, NameNode> {
        &*self.engine.memory.names
    }

    fn blocks(&self) -> impl Slots<'a, Block> {
        &*self.engine.memory.blocks
    }

    fn may_know(&self, shape: Shape) -> bool {
        self.engine.memory.may_know(shape)
    }

    fn counts(&self, subject: Subject, action: Action) -> bool {
        match subject {
            Subject::Source => self.sources.counts(action),
            Subject::Name => self.names.counts(action),
        }
    }

    fn malformed(&self, reason: MalformedReason) {
        self.engine.malformed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn sighted(&self) -> Option<&'a Sighted> {
        self.engine.memory.control.first().map(|control| &control.sighted)
    }

    fn sighting(&self, place: u32) -> Option<&'a Sighting> {
        self.engine.memory.sightings.get(place as usize)
    }
}
