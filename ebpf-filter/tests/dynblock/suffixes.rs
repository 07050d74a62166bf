//! Limits below suffixes.

use std::net::IpAddr;

use ebpf_filter::{
    Action, Match, QName, Qtypes, Verdict,
    dynblock::{DynBlockGroup, Exempt, QueryEvent, ResponseEvent, ScopeBy, SuffixLimit},
};

use crate::common::*;

fn ask(group: &DynBlockGroup, client: u32, of: &str) -> Verdict {
    group.observe_query(&QueryEvent::new((IpAddr::from(client.to_be_bytes()), 4242).into(), &name(of), A))
}

#[test]
fn random_names_from_everywhere_block_the_suffix() {
    let (clock, filter) = (Clock::default(), off());
    let limit = SuffixLimit::labels(2).queries();
    let group = group(&clock).filter(filter.clone()).suffix_rate(limit, fifty(), block()).build().unwrap();
    for client in 0..500 {
        assert_eq!(ask(&group, client, &format!("r{client}.Victim.Example")), Verdict::Pass);
    }
    assert_eq!(ask(&group, 500, "r500.victim.example"), Verdict::Drop);
    let found = only(&group);
    assert_eq!(
        (found.subject.to_string(), &*found.reason),
        ("*.victim.example.".into(), "Exceeded rate below a suffix")
    );
    let of = Match::suffix(name("victim.example"), Qtypes::All);
    assert_eq!(filter.rule(&of).map(|rule| rule.rule.action), Some(Action::Drop));
    assert_eq!(ask(&group, 501, "victim.example"), Verdict::Drop);
    assert_eq!(ask(&group, 501, "other.example"), Verdict::Pass);
    assert_eq!(ask(&group, 501, "example"), Verdict::Pass);
    assert_eq!(group.clear(), 1);
    assert_eq!(filter.rule(&of), None);
    assert_eq!(ask(&group, 501, "victim.example"), Verdict::Drop, "the bucket is still empty");
}

#[test]
fn user_space_blocks_suffixes_too() {
    let clock = Clock::default();
    let limit = SuffixLimit::below([name("a.example"), name("example")]);
    let group = group(&clock).suffix_rate(limit, one(), block().action(Action::Refused)).build().unwrap();
    assert_eq!(ask(&group, 1, "x.a.example"), Verdict::Pass);
    assert_eq!(ask(&group, 2, "b.example"), Verdict::Pass, "below several, the longest counts");
    assert_eq!(ask(&group, 3, "y.a.example"), Verdict::Refused);
    assert_eq!(ask(&group, 3, "ya.example"), Verdict::Refused, "the second below example.");
    assert_eq!(subjects(&group), ["*.example.", "*.a.example."]);
    for _ in 0..10 {
        assert_eq!(ask(&group, 4, "else.where"), Verdict::Pass);
    }
}

#[test]
fn responses_below_a_suffix() {
    for (limit, rcode) in
        [(SuffixLimit::labels(2).nxdomains(), NXDOMAIN), (SuffixLimit::labels(2).servfails(), SERVFAIL)]
    {
        let clock = Clock::default();
        let group = group(&clock).suffix_rate(limit, fifty(), block()).build().unwrap();
        let respond = |rcode, number: u32| {
            for number in 0..number {
                let of = name(&format!("r{number}.victim.example"));
                group.observe_response(&ResponseEvent::new(
                    QueryEvent::new(at("192.0.2.1"), &of, A),
                    rcode,
                    100,
                ));
            }
        };
        respond(NOERROR, 1000);
        respond(rcode, 500);
        assert!(group.blocks().is_empty());
        respond(rcode, 1);
        assert_eq!(subjects(&group), ["*.victim.example."]);
    }
}

#[test]
fn exempt_names() {
    let clock = Clock::default();
    let exempt = Exempt::none().exclude_suffix(name("www.mine.example"));
    let group =
        group(&clock).suffix_rate(SuffixLimit::labels(2), one(), block()).exempt(exempt).build().unwrap();
    for _ in 0..10 {
        // Blocking mine.example would hit www.mine.example.
        assert_eq!(ask(&group, 1, "mine.example"), Verdict::Pass);
        ask(&group, 1, "other.example");
    }
    assert_eq!(subjects(&group), ["*.other.example."]);
    group.set_exempt(Exempt::none().exclude_suffix(name("example")));
    assert!(group.blocks().is_empty());
}

#[test]
fn only_part_of_what_a_client_asks() {
    let clock = Clock::default();
    let group = group(&clock)
        .query_rate(fifty(), block().scoped(ScopeBy::Suffix { labels: 2 }))
        .qtype_rate(255, one(), block().scoped(ScopeBy::Qtype))
        .build()
        .unwrap();
    let ask =
        |client: &str, of: &str, qtype| group.observe_query(&QueryEvent::new(at(client), &name(of), qtype));
    for number in 0..500 {
        assert_eq!(ask("192.0.2.1", &format!("r{number}.victim.example"), A), Verdict::Pass);
    }
    assert_eq!(ask("192.0.2.1", "r.victim.example", A), Verdict::Drop);
    assert_eq!(ask("192.0.2.1", "r.victim.example", AAAA), Verdict::Drop);
    assert_eq!(ask("192.0.2.1", "www.other.example", A), Verdict::Pass);
    assert_eq!(ask("192.0.2.2", "r.victim.example", A), Verdict::Pass);
    // A name that is too short for the scope is not counted.
    (0..600).for_each(|_| assert_eq!(ask("192.0.2.1", "example", A), Verdict::Pass));

    assert_eq!(ask("192.0.2.3", "www.other.example", 255), Verdict::Pass);
    assert_eq!(ask("192.0.2.3", "www.other.example", 255), Verdict::Drop);
    assert_eq!(ask("192.0.2.3", "www.other.example", A), Verdict::Pass);
    let texts: Vec<_> =
        group.blocks().iter().map(|block| format!("{}{}", block.subject, block.scope)).collect();
    assert_eq!(texts, ["192.0.2.1/32 below *.victim.example.", "192.0.2.3/32 type 255"]);
    assert!(group.block_of(&source("192.0.2.1")).is_none());
    assert_eq!(group.remove(&source("192.0.2.1")).len(), 1);
}

#[test]
fn the_root_is_a_suffix() {
    let clock = Clock::default();
    let group =
        group(&clock).suffix_rate(SuffixLimit::below([QName::root()]), one(), block()).build().unwrap();
    ask(&group, 1, "a.example");
    assert_eq!(ask(&group, 2, "b.test"), Verdict::Drop);
    assert_eq!(subjects(&group), ["*."]);
}
