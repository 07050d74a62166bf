//! Fewer privileges: without `CAP_BPF` user space enforces, with nothing else the kernel does, and once the filter is built
//! nothing is needed at all.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    error::Error,
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    thread,
};

use ebpf_filter::{
    Action, BpfFilter, BuildError, Enforcement, Malformed, MalformedReason, Match, Mode, QName, Qtypes,
    Query, Rule, Unavailable, Verdict,
};
use ebpf_filter_tests::{
    child,
    dns::{self, A, query},
    hits,
    privilege::{CapabilitySet, effective},
    require_kernel,
    wire::Wire,
};
use rustix::thread::{CapabilitySets, set_capabilities};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 10, 1));
const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 10, 2));

fn evil() -> QName {
    "evil.example".parse().unwrap()
}

/// Gives up every capability of this thread.
fn give_up_everything() {
    let nothing = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing })
        .unwrap();
    assert!(effective().is_empty());
}

/// Rules come, bite, count and go, in the kernel.
fn exercise(filter: &BpfFilter, wire: &Wire) {
    let (client, bystander) = (wire.client(CLIENT), wire.client(BYSTANDER));
    let (evil_query, good_query) = (query("EVIL.example.", A), query("good.example.", A));
    let malformed = |filter: &BpfFilter| filter.stats().unwrap().malformed(MalformedReason::TooShort);
    let malformed_before = malformed(filter);
    filter.block(CLIENT).unwrap();
    filter.block(Ipv4Addr::UNSPECIFIED).unwrap();
    filter.block_qname(&evil(), Qtypes::All).unwrap();
    wire.assert_drops(&client, &good_query);
    wire.assert_drops(&bystander, &evil_query);
    wire.assert_passes(&bystander, &good_query);
    let mut sources = Vec::new();
    let mut position = filter.malformed_position();
    filter.watch_malformed(true).unwrap();
    wire.assert_passes(&bystander, &[0; 3]);
    filter.malformed_sources(&mut position, |source, messages| sources.push((source, messages)));
    assert_eq!(sources, [(BYSTANDER, 1)]);
    filter.watch_malformed(false).unwrap();
    let expected = "0.0.0.0: 0\n127.0.10.1: 1\nevil.example. 255: 1\n";
    assert_eq!(filter.stats().unwrap().to_string(), expected);
    assert_eq!(malformed(filter), malformed_before + 1);
    filter.reset_hits().unwrap();
    assert_eq!(hits(filter, &Match::address(CLIENT)), 0);
    filter.unblock(CLIENT).unwrap();
    wire.assert_passes(&client, &good_query);
    let many = (1..=100).map(|host| Rule::new(Match::address([127, 0, 11, host]), Action::Count));
    filter.insert_many(many).unwrap();
    filter.clear().unwrap();
    wire.assert_passes(&bystander, &evil_query);
    for of in [Match::address(CLIENT), Match::suffix(evil(), Qtypes::All)] {
        filter.insert(Rule::new(of, Action::Slip(2))).unwrap();
        wire.assert_drops(&client, &evil_query);
        wire.assert_passes(&client, &evil_query);
        filter.clear().unwrap();
    }
    assert_eq!(filter.stats().unwrap().to_string(), "");
}

#[test]
fn without_capabilities_require_says_what_is_missing() {
    if effective().contains(CapabilitySet::BPF) {
        require_kernel!(BPF | SETPCAP);
    }
    child::without_capabilities("without_capabilities_require_says_what_is_missing", || {
        assert!(effective().is_empty());
        let error = BpfFilter::builder().mode(Mode::Require).build().unwrap_err();
        let text = error.source().unwrap().to_string();
        let BuildError::Kernel(reason) = error else { panic!("{error}") };
        let Unavailable::MissingCapability { capability, unprivileged_bpf_disabled, .. } = &*reason else {
            panic!("{reason}")
        };
        assert_eq!(*capability, "CAP_BPF");
        let sysctl = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap();
        assert_eq!(*unprivileged_bpf_disabled, sysctl.trim().parse().ok());
        let sysctl = format!("kernel.unprivileged_bpf_disabled = {}", sysctl.trim());
        for part in ["CAP_BPF", &sysctl, "setcap cap_bpf=ep", "AmbientCapabilities=CAP_BPF"] {
            assert!(text.contains(part), "{text}");
        }
    });
}

#[test]
fn without_capabilities_prefer_enforces_in_user_space() {
    if effective().contains(CapabilitySet::BPF) {
        require_kernel!(BPF | SETPCAP);
    }
    child::without_capabilities("without_capabilities_prefer_enforces_in_user_space", || {
        let filter = BpfFilter::builder().malformed(Malformed::Drop).build().unwrap();
        let status = filter.status();
        assert_eq!((status.mode, status.enforcement), (Mode::Prefer, Enforcement::UserSpace));
        assert!(matches!(status.reason.as_deref(), Some(Unavailable::MissingCapability { .. })));
        assert!(status.to_string().contains("CAP_BPF"), "{status}");
        assert!(status.programs.is_empty());

        let wire = Wire::ipv4();
        assert_eq!(filter.attach(wire.server()).unwrap(), Enforcement::UserSpace);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(filter.attach(&listener).unwrap(), Enforcement::UserSpace);
        filter.block(CLIENT).unwrap();
        filter.block_qname(&evil(), Qtypes::Only(A)).unwrap();

        // The packets come, and a server that asks drops the same ones as the kernel.
        let evil_query = query("Evil.Example.", A);
        wire.assert_passes(&wire.client(CLIENT), &evil_query);
        assert_eq!(filter.check_datagram(CLIENT, &query("good.example.", A)), Verdict::Drop);
        assert_eq!(filter.check_datagram(BYSTANDER, &evil_query), Verdict::Drop);
        assert_eq!(filter.check_datagram(BYSTANDER, &query("evil.example.", dns::AAAA)), Verdict::Pass);
        assert_eq!(filter.check_datagram(BYSTANDER, &[0; 3]), Verdict::Drop);
        assert_eq!(filter.check(&Query::new(BYSTANDER, &evil(), A)), Verdict::Drop);
        assert_eq!(filter.check(&Query::new(BYSTANDER, &evil(), dns::MX)), Verdict::Pass);
        let counted = filter.stats().unwrap();
        assert_eq!(counted.to_string(), "127.0.10.1: 1\nevil.example. 1: 2\n");
        assert_eq!(counted.malformed_total(), 1);
        filter.detach(wire.server()).unwrap();
    });
}

#[test]
fn cap_bpf_alone_is_enough() {
    require_kernel!(BPF | SETPCAP);
    let options = ["--bounding-set", "-all,+bpf", "--inh-caps", "-all"];
    child::under_setpriv("cap_bpf_alone_is_enough", &options, || {
        assert_eq!(effective(), CapabilitySet::BPF);
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let wire = Wire::ipv4();
        assert_eq!(filter.attach(wire.server()).unwrap(), Enforcement::Kernel);
        filter.attach(&TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        exercise(&filter, &wire);
        let programs = filter.status().programs;
        assert_eq!(programs.len(), 2);
        filter.detach(wire.server()).unwrap();
    });
}

#[test]
fn a_filter_keeps_working_when_capabilities_are_given_up() {
    require_kernel!();
    thread::scope(|scope| {
        scope.spawn(|| {
            let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
            let wire = Wire::ipv4();
            filter.attach(wire.server()).unwrap();
            give_up_everything();
            exercise(&filter, &wire);
            // Sockets that come later, too.
            filter.detach(wire.server()).unwrap();
            let later = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_eq!(filter.attach(&later).unwrap(), Enforcement::Kernel);
            exercise(&filter, &Wire::new(later, Ipv4Addr::LOCALHOST.into()));
            assert_eq!(filter.status().programs.len(), 2);
        });
    });
}

/// Capabilities belong to threads: that one of them lacks some must not be held against the others.
#[test]
fn a_thread_without_capabilities_does_not_spoil_the_process() {
    require_kernel!();
    let test = "a_thread_without_capabilities_does_not_spoil_the_process";
    child::under_setpriv(test, &["--inh-caps", "-all"], || {
        let unprivileged = thread::spawn(|| {
            give_up_everything();
            BpfFilter::builder().build().unwrap().status().enforcement
        });
        assert_eq!(unprivileged.join().unwrap(), Enforcement::UserSpace);
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let wire = Wire::ipv4();
        filter.attach(wire.server()).unwrap();
        exercise(&filter, &wire);
    });
}
