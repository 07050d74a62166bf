//! The same rules and packets through the committed object in the kernel (`BPF_PROG_TEST_RUN`), through the host build of
//! the same code, and past a plain statement of what must come of them: verdicts, rules, hits and counters must agree.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    cell::RefCell,
    env,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, Match, Mode, QName, Qtypes, Rule};
use ebpf_filter_tests::{
    dns::{A, raw_query, wire_name},
    model::{
        bytes::{Bytes, Payload},
        names,
        steps::{self, Step},
        trial::{Trial, WORLDS},
    },
    require_kernel,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRunner},
};

/// How many cases there are, each a sequence of changes and packets.
const CASES: &str = "EBPF_FILTER_CASES";
const DEFAULT_CASES: u32 = 100_000;

/// A step that is made of random bytes.
fn chosen<T: std::fmt::Debug>(choose: impl Fn(&mut Bytes<'_>) -> T) -> impl Strategy<Value = T> {
    any::<[u128; 2]>().prop_map(move |random| {
        let [one, other] = random.map(u128::to_le_bytes);
        choose(&mut Bytes::new(&[one, other].concat()))
    })
}

/// Some rules, and then what comes.
fn case() -> impl Strategy<Value = (usize, Vec<Step>, Vec<Step>)> {
    let rules = vec(chosen(|bytes| Step::Insert(steps::rule(bytes))), 0..8);
    (0..WORLDS.len(), rules, vec(chosen(Step::choose), 1..24))
}

/// Says how far the cases are, now and then.
struct Progress {
    done: AtomicU64,
    packets: AtomicU64,
    begin: Instant,
    next: Mutex<Duration>,
}

impl Progress {
    const PAUSE: Duration = Duration::from_secs(10);

    fn new() -> Self {
        let next = Mutex::new(Self::PAUSE);
        Self { done: AtomicU64::new(0), packets: AtomicU64::new(0), begin: Instant::now(), next }
    }

    fn case(&self, steps: &[Step]) {
        let done = self.done.fetch_add(1, Relaxed) + 1;
        let packets = steps.iter().filter(|step| matches!(step, Step::Packet(..))).count();
        self.packets.fetch_add(packets as u64, Relaxed);
        let time = self.begin.elapsed();
        if let Ok(mut next) = self.next.try_lock()
            && time > *next
        {
            *next = time + Self::PAUSE;
            self.say(done);
        }
    }

    /// Also if the output of tests is captured.
    fn say(&self, done: u64) {
        let (packets, time) = (self.packets.load(Relaxed), self.begin.elapsed().as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "for people to read")]
        let rate = done as f64 / time;
        let line = format!("{done} cases with {packets} packets in {time:.0} s, {rate:.0} cases a second");
        drop(writeln!(io::stderr(), "differential: {line}"));
    }
}

fn run(cases: u32, progress: &Progress) {
    let trials = WORLDS.map(|(sizes, drop)| RefCell::new(Trial::new(sizes, drop, true)));
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        // Much faster than the default, which is fit for ciphers.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::with_cases(cases)
    };
    let outcome = TestRunner::new(config).run(&case(), |(world, rules, steps)| {
        let mut trial = trials[world].borrow_mut();
        trial.run(rules.iter().chain(&steps)).map_err(TestCaseError::fail)?;
        progress.case(&steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn kernel_and_host_do_as_stated() {
    require_kernel!();
    let cases = env::var(CASES).map_or(DEFAULT_CASES, |cases| cases.parse().unwrap());
    let threads = u32::try_from(thread::available_parallelism().unwrap().get()).unwrap().min(8);
    let progress = Progress::new();
    thread::scope(|scope| {
        for thread in 0..threads {
            let cases = cases / threads + u32::from(thread < cases % threads);
            let progress = &progress;
            scope.spawn(move || run(cases, progress));
        }
    });
    progress.say(progress.done.load(Relaxed));
}

/// A name to cut queries for in pieces.
fn to_cut() -> Vec<Vec<u8>> {
    let longest = wire_name(&[&[b'x'; 63], &[b'y'; 63], &[b'z'; 63], &[b'w'; 61]]);
    vec![
        wire_name(&[]),
        wire_name(&[b"a"]),
        wire_name(&[b"evil", b"example"]),
        wire_name(&[b"exampl\0"]),
        wire_name(&[b"a\0b.c", b"de"]),
        wire_name(&[&[b'm'; 63]]),
        wire_name(&[&b"q"[..]; 127]),
        longest,
    ]
}

#[test]
fn kernel_and_host_agree_on_every_truncation() {
    require_kernel!();
    let source = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    for drop_malformed in [false, true] {
        let mut trial = Trial::new([8; 6], drop_malformed, true);
        for wire in to_cut() {
            let name = QName::from_wire(&wire).unwrap();
            let exact = Rule::drop(Match::qname(name.clone(), Qtypes::Only(A)));
            let below = Rule::drop(Match::suffix(name, Qtypes::All));
            let query = raw_query(&wire, A);
            for rule in [exact, below] {
                let mut steps = vec![Step::Insert(rule)];
                for end in 0..=query.len() {
                    // A long packet in front of each leaves its bytes in the scratch buffer of the program.
                    steps.push(Step::Packet(source, Payload(vec![b'a'; 400])));
                    steps.push(Step::Packet(source, Payload(query[..end].to_vec())));
                }
                trial.run(&steps).unwrap();
            }
        }
    }
}

/// The program for TCP and opaque datagrams looks at sources and at nothing else.
#[test]
fn the_address_only_program_ignores_names() {
    require_kernel!();
    let evil = || "evil.example".parse().unwrap();
    let steps = [
        Step::Insert(Rule::drop(Match::address([192, 0, 2, 1]))),
        Step::Insert(Rule::new(Match::address([192, 0, 2, 3]), Action::Slip(0))),
        Step::Insert(Rule::new(
            Match::range("192.0.2.4/30".parse::<ipnet::IpNet>().unwrap()),
            Action::Slip(2),
        )),
        Step::Insert(Rule::drop(Match::range("2001:db8::/32".parse::<ipnet::IpNet>().unwrap()))),
        Step::Insert(Rule::drop(Match::qname(evil(), Qtypes::All))),
        Step::Insert(Rule::drop(Match::suffix(evil(), Qtypes::All))),
    ];
    let query = raw_query(&wire_name(&[b"evil", b"example"]), A);
    for drop_malformed in [false, true] {
        let mut trial = Trial::new([8; 6], drop_malformed, true);
        steps.iter().try_for_each(|step| trial.step(step)).unwrap();
        for source in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::1", "2001:db9::1"] {
            for payload in [&query[..], b"short", b""] {
                trial.address_only(source.parse().unwrap(), payload).unwrap();
            }
        }
        trial.end().unwrap();
    }
}

/// Names that share the number that suffixes are looked up by are still told apart.
#[test]
fn names_that_collide_are_told_apart() {
    require_kernel!();
    let mut trial = Trial::new([16; 6], true, true);
    let names: Vec<_> = (0..32).map(names::colliding).collect();
    let name = |wire: &[u8]| QName::from_wire(wire).unwrap();
    // As many as a bucket has room for.
    for kind in [Match::qname, Match::suffix] {
        let mut steps: Vec<_> =
            names[..16].iter().map(|wire| Step::Insert(Rule::drop(kind(name(wire), Qtypes::All)))).collect();
        let packet = |wire: &Vec<u8>| {
            let below = [b"\x03www", &wire[..]].concat();
            [wire.clone(), below]
                .map(|wire| Step::Packet(Ipv4Addr::new(192, 0, 2, 1).into(), Payload(raw_query(&wire, A))))
        };
        steps.extend(names.iter().flat_map(packet));
        steps.push(Step::RemoveListed(3));
        steps.push(Step::RemoveListed(8));
        steps.extend(names.iter().flat_map(packet));
        trial.run(&steps).unwrap();
    }
}

/// A program that the verifier has to look at for long is a program that the next kernel may refuse.
#[test]
fn verification_stays_within_its_budget() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let programs = filter.status().programs;
    for (name, budget) in [("dns_full", 40_000), ("dns_address", 8_000)] {
        let program = programs.iter().find(|program| program.name == name).unwrap();
        let verified = program.verified_instructions.unwrap();
        assert!(verified <= budget, "{name}: {verified} instructions verified, the budget is {budget}");
    }
}
