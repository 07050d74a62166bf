//! What tests share.

use std::{net::SocketAddr, time::Duration};

pub(crate) use ebpf_filter::dynblock::governor::clock::FakeRelativeClock as Clock;
use ebpf_filter::{
    BpfFilter, Mode, QName, Verdict,
    dynblock::{
        DynBlock, DynBlockGroup, DynBlockGroupBuilder, Penalty, QueryEvent, Rate, ResponseEvent, Subject,
    },
};

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;

pub(crate) const NOERROR: u16 = 0;
pub(crate) const FORMERR: u16 = 1;
pub(crate) const SERVFAIL: u16 = 2;
pub(crate) const NXDOMAIN: u16 = 3;

/// dnsdist's tests measure over ten seconds, and block for a minute.
pub(crate) const WINDOW: Duration = seconds(10);
pub(crate) const MINUTE: Duration = seconds(60);

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// 50 a second over 10 seconds: the limit of dnsdist's tests.
pub(crate) const fn fifty() -> Rate {
    Rate::per_second(50).over(WINDOW)
}

/// One a second over one: the second query in a second is too many.
pub(crate) const fn one() -> Rate {
    Rate::per_second(1)
}

pub(crate) const fn block() -> Penalty {
    Penalty::block_for(MINUTE)
}

/// A group without a filter, by this clock, which counts clients alone.
pub(crate) fn group(clock: &Clock) -> DynBlockGroupBuilder {
    DynBlockGroup::builder().no_filter().masks(32, 128).slots(1 << 14).clock(clock.clone())
}

/// A filter of user space.
pub(crate) fn off() -> BpfFilter {
    BpfFilter::builder().mode(Mode::Off).build().unwrap()
}

pub(crate) fn name(text: &str) -> QName {
    text.parse().unwrap()
}

/// `192.0.2.1`, or with a port.
pub(crate) fn at(client: &str) -> SocketAddr {
    client.parse().unwrap_or_else(|_| SocketAddr::new(client.parse().unwrap(), 4242))
}

pub(crate) fn source(net: &str) -> Subject {
    net.parse().map_or_else(
        |_| Subject::address(net.parse::<std::net::IpAddr>().unwrap()),
        |net: ebpf_filter::IpNet| Subject::range(net),
    )
}

/// So many queries, and how many of them were answered.
pub(crate) fn send(group: &DynBlockGroup, client: &str, queries: u32) -> u32 {
    send_for(group, client, "www.example", A, queries)
}

pub(crate) fn send_for(group: &DynBlockGroup, client: &str, of: &str, qtype: u16, queries: u32) -> u32 {
    let (of, client) = (name(of), at(client));
    let answered =
        (0..queries).filter(|_| group.observe_query(&QueryEvent::new(client, &of, qtype)) == Verdict::Pass);
    u32::try_from(answered.count()).unwrap()
}

/// What becomes of a query, without counting it.
pub(crate) fn verdict(group: &DynBlockGroup, client: &str) -> Verdict {
    group.check(&QueryEvent::new(at(client), &name("www.example"), A))
}

/// So many responses of 100 bytes.
pub(crate) fn answer(group: &DynBlockGroup, client: &str, rcode: u16, responses: u32) {
    let of = name("www.example");
    let response = ResponseEvent::new(QueryEvent::new(at(client), &of, A), rcode, 100);
    (0..responses).for_each(|_| group.observe_response(&response));
}

/// The only block that there is.
pub(crate) fn only(group: &DynBlockGroup) -> DynBlock {
    let mut blocks = group.blocks();
    assert_eq!(blocks.len(), 1, "{blocks:#?}");
    blocks.remove(0)
}

pub(crate) fn subjects(group: &DynBlockGroup) -> Vec<String> {
    group.blocks().iter().map(|block| block.subject.to_string()).collect()
}
