//! Dynamic blocks on real packets: what the kernel drops, from which moment on, and for how long.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    thread::sleep,
    time::{Duration, Instant},
};

use ebpf_filter::{
    Action, BpfFilter, Enforcement, Match, Mode, QName, Verdict,
    dynblock::{
        DynBlock, DynBlockEventKind, DynBlockGroup, DynBlockGroupBuilder, Ladder, Penalty, QueryEvent, Rate,
        Scope, Subject, SuffixLimit, Transport,
    },
};
use ebpf_filter_tests::{
    dns::{A, query},
    dnsdist,
    limited::{self, Dnsdist, Flood, Ours},
    netns, require_kernel, tcp,
    wire::Wire,
};
use ipnet::IpNet;

const FLOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 31, 1);
const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 32, 1);

/// A guarded socket whose server tells a group of everything that it gets.
struct Server {
    group: DynBlockGroup,
    filter: BpfFilter,
    wire: Wire,
    name: QName,
}

impl Server {
    fn new(group: impl FnOnce(DynBlockGroupBuilder) -> DynBlockGroupBuilder) -> Self {
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let group = group(DynBlockGroup::builder().filter(filter.clone()).quiet()).build().unwrap();
        let wire = Wire::ipv4();
        assert_eq!(filter.attach(wire.server()).unwrap(), Enforcement::Kernel);
        Self { group, filter, wire, name: "www.example".parse().unwrap() }
    }

    /// Sends a query from there. What becomes of it, or `None` if the kernel has dropped it.
    fn ask(&self, source: impl Into<IpAddr>) -> Option<Verdict> {
        let arrivals = self.wire.arrivals(|| {
            self.wire.client(source).send(&query("www.example.", A)).unwrap();
        });
        let (from, _) = arrivals.first()?;
        Some(self.group.observe_query(&QueryEvent::new(*from, &self.name, A)))
    }

    fn block(&self, subject: &Subject) -> DynBlock {
        self.group
            .block_of(subject)
            .unwrap_or_else(|| panic!("no block of {subject}: {:?}", self.group.blocks()))
    }
}

fn rate() -> Rate {
    Rate::per_second(1).over(Duration::from_secs(10))
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_query_that_exceeds_the_limit_is_the_last_that_the_server_gets() {
    require_kernel!();
    let server = Server::new(|group| group.query_rate(rate(), Penalty::block_for(MINUTE)));
    for _ in 0..10 {
        assert_eq!(server.ask(FLOOD), Some(Verdict::Pass));
    }
    assert_eq!(server.ask(FLOOD), Some(Verdict::Drop));
    assert_eq!(server.ask(FLOOD), None);
    assert_eq!(server.ask(BYSTANDER), Some(Verdict::Pass));
    let block = server.block(&Subject::address(FLOOD));
    assert_eq!((block.enforced_by, block.action, block.degraded), (Enforcement::Kernel, Action::Drop, false));
    // The query that exceeded the limit was decided by the rule as well.
    assert_eq!(block.hits, 2);
    // Unblocking is as quick.
    server.group.remove(&Subject::address(FLOOD));
    assert!(server.ask(FLOOD).is_some());
}

#[test]
fn no_packet_gets_in_while_the_flood_goes_on_and_one_does_soon_after() {
    // Long enough for a busy machine: the keeper has a twentieth of it to come.
    const BLOCK: Duration = Duration::from_secs(2);
    require_kernel!();
    let server = Server::new(|group| {
        group.query_rate(Rate::per_second(10).over(Duration::from_secs(1)), Penalty::block_for(BLOCK))
    });
    let mut events = server.group.subscribe();
    while server.ask(FLOOD).is_some() {}
    // Three blocks long; a hundred packets a second are ten times the limit.
    let end = Instant::now() + 3 * BLOCK;
    let mut last = Instant::now();
    while Instant::now() < end {
        assert_eq!(server.ask(FLOOD), None, "let in again");
        last = Instant::now();
        sleep(Duration::from_millis(10));
    }
    let extended = std::iter::from_fn(|| events.try_recv().ok())
        .filter(|event| event.kind == DynBlockEventKind::Extended)
        .count();
    assert!(extended >= 2, "{extended}");
    // Silence. Nothing but time ends the block.
    let subject = Subject::address(FLOOD);
    while server.group.block_of(&subject).is_some() {
        sleep(Duration::from_millis(1));
    }
    let quiet = last.elapsed();
    assert!(quiet <= BLOCK + Duration::from_millis(200), "{quiet:?}");
    assert!(server.ask(FLOOD).is_some());
}

#[test]
fn who_hops_from_address_to_address_is_blocked_as_a_range_in_the_kernel() {
    require_kernel!();
    let server =
        Server::new(|group| group.tiers4([(32, 1), (24, 2)]).query_rate(rate(), Penalty::block_for(MINUTE)));
    for host in 1..=20 {
        assert_eq!(server.ask(Ipv4Addr::new(127, 0, 33, host)), Some(Verdict::Pass));
    }
    assert_eq!(server.ask(Ipv4Addr::new(127, 0, 33, 99)), Some(Verdict::Drop));
    assert_eq!(server.ask(Ipv4Addr::new(127, 0, 33, 100)), None);
    assert_eq!(server.ask(Ipv4Addr::new(127, 0, 34, 1)), Some(Verdict::Pass));
    let net = "127.0.33.0/24".parse::<IpNet>().unwrap();
    let block = server.block(&Subject::range(net));
    assert_eq!(block.enforced_by, Enforcement::Kernel);
    assert!(server.filter.rule(&Match::range(net)).is_some());
    assert_eq!(server.group.blocks().len(), 1);
}

#[test]
fn a_forged_victim_keeps_its_answers_over_tcp() {
    require_kernel!();
    let ladder = Ladder::new().slip(2).second_limit(3);
    let server = Server::new(|group| group.query_rate(rate(), Penalty::block_for(MINUTE).ladder(ladder)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(server.filter.attach(&listener).unwrap(), Enforcement::Kernel);
    let answered_over_tcp = || {
        let (client, accepted) = tcp::pair(FLOOD.into(), &listener);
        tcp::assert_answers(&client, &accepted, &query("www.example.", A));
        let from = SocketAddr::from((FLOOD, 4242));
        let event = QueryEvent::new(from, &server.name, A).over(Transport::Tcp);
        assert_eq!(server.group.observe_query(&event), Verdict::Pass);
    };
    while server.ask(FLOOD) == Some(Verdict::Pass) {}
    assert_eq!(server.block(&Subject::address(FLOOD)).action, Action::Slip(2));
    let verdicts: Vec<_> = (0..10).map(|_| server.ask(FLOOD)).collect();
    assert_eq!(
        verdicts.iter().filter(|verdict| **verdict == Some(Verdict::Truncate)).count(),
        5,
        "{verdicts:?}"
    );
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_none()).count(), 5, "{verdicts:?}");
    answered_over_tcp();
    // The flood goes on; the kernel alone knows how much of it there is.
    let end = Instant::now() + Duration::from_secs(20);
    while server.block(&Subject::address(FLOOD)).action != Action::Slip(0) {
        assert!(Instant::now() < end, "{:?}", server.group.blocks());
        server.ask(FLOOD);
    }
    assert_eq!(server.ask(FLOOD), None);
    answered_over_tcp();
    assert_eq!(server.block(&Subject::address(FLOOD)).action, Action::Slip(0));
}

#[test]
fn who_sends_what_nobody_can_read_is_blocked() {
    require_kernel!();
    let server = Server::new(|group| group.malformed_rate(rate(), Penalty::block_for(MINUTE)));
    let client = server.wire.client(FLOOD);
    let end = Instant::now() + Duration::from_secs(10);
    let subject = Subject::address(FLOOD);
    // The group watches from its first look on.
    while server.group.block_of(&subject).is_none() {
        assert!(Instant::now() < end, "never blocked");
        server.wire.arrivals(|| client.send(b"what").map(drop).unwrap());
        sleep(Duration::from_millis(1));
    }
    server.wire.assert_drops(&client, b"what");
    assert_eq!(server.block(&subject).enforced_by, Enforcement::Kernel);
    assert_eq!(server.ask(BYSTANDER), Some(Verdict::Pass));
}

#[test]
fn a_flood_of_random_names_is_blocked_by_their_suffix() {
    require_kernel!();
    let server = Server::new(|group| {
        let suffixes = SuffixLimit::labels(2).queries();
        group.suffix_rate(suffixes, rate(), Penalty::block_for(MINUTE))
    });
    let ask = |label: &str, host: u8| {
        let name = format!("{label}.victim.example.");
        let arrivals = server.wire.arrivals(|| {
            let client = server.wire.client(Ipv4Addr::new(127, 0, 35, host));
            client.send(&query(&name, A)).unwrap();
        });
        let (from, _) = arrivals.first()?;
        Some(server.group.observe_query(&QueryEvent::new(*from, &name.parse().unwrap(), A)))
    };
    for host in 1..=10 {
        assert_eq!(ask(&format!("random{host}"), host), Some(Verdict::Pass));
    }
    assert_eq!(ask("one-too-many", 11), Some(Verdict::Drop));
    assert_eq!(ask("another", 12), None);
    assert_eq!(server.ask(BYSTANDER), Some(Verdict::Pass));
}

#[test]
fn ipv6_clients_are_blocked_as_the_network_that_they_hop_in() {
    require_kernel!(BPF | NET_ADMIN | SYS_ADMIN);
    netns::run(|| {
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let group = DynBlockGroup::builder()
            .filter(filter.clone())
            .quiet()
            .query_rate(rate(), Penalty::block_for(MINUTE))
            .build()
            .unwrap();
        let name = "www.example".parse().unwrap();
        // Two clients' worth of the /64 and no more from any of them.
        for host in 0..20_u128 {
            let source = SocketAddr::new(IpAddr::V6((0x2001_0db8_0001 << 80 | host).into()), 53);
            assert_eq!(group.observe_query(&QueryEvent::new(source, &name, A)), Verdict::Pass);
        }
        let last = SocketAddr::new("2001:db8:1::ffff".parse().unwrap(), 53);
        assert_eq!(group.observe_query(&QueryEvent::new(last, &name, A)), Verdict::Drop);
        let net = "2001:db8:1::/64".parse::<IpNet>().unwrap();
        assert!(filter.rule(&Match::range(net)).is_some(), "{}", filter.stats().unwrap());
    });
}

#[test]
fn clearing_and_ending_leave_nothing_in_the_kernel() {
    require_kernel!();
    let server = Server::new(|group| group);
    let block = |duration| {
        let subject = Subject::address(FLOOD);
        server.group.add(subject, Scope::All, &Penalty::block_for(duration)).unwrap();
        assert_eq!(server.ask(FLOOD), None);
    };
    block(MINUTE);
    assert_eq!(server.group.clear(), 1);
    assert_eq!(server.ask(FLOOD), Some(Verdict::Pass));
    block(Duration::from_millis(200));
    sleep(Duration::from_millis(250));
    assert_eq!(server.ask(FLOOD), Some(Verdict::Pass));
    assert!(server.filter.stats().unwrap().rules.is_empty());
}

/// One of a few: a busy machine makes everybody slower, and nobody faster.
#[test]
fn a_flood_is_in_the_kernel_within_a_millisecond_which_takes_dnsdist_much_longer() {
    require_kernel!(BPF | SYS_ADMIN);
    let flood = Flood { per_second: 10_000, lasts: Duration::from_millis(1500) };
    let time = |_| limited::reaction(&Ours::start(MINUTE).unwrap(), flood).unwrap().0;
    let ours = (0..10).map(time).find(|time| *time < Duration::from_millis(1));
    let ours = ours.expect("never within a millisecond");
    if !dnsdist::Dnsdist::is_installed() {
        eprintln!("SKIPPED: dnsdist is not installed, so nothing is beside the {ours:?} of this library");
        assert!(
            std::env::var_os("EBPF_FILTER_REQUIRE_KERNEL").is_none(),
            "install dnsdist (Debian: dnsdist)"
        );
        return;
    }
    let (theirs, _) = limited::reaction(&Dnsdist::start(MINUTE).unwrap(), flood).unwrap();
    eprintln!("from the first excess to the first drop: {ours:?}, dnsdist: {theirs:?}");
    assert!(theirs > ours, "dnsdist: {theirs:?}");
}
