//! Ranges in a trie: what it says of one is what it says of the largest part of it, so that a range is not easily told from one
//! that it is in.

use std::collections::BTreeMap;

use ebpf_filter::{Action, BpfFilter, ExternalFilter, IpNet, Kind, Match, Rule, RuleError};
use ebpf_filter_tests::{pins::PinDir, require_kernel};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::range;

#[test]
fn a_range_is_not_one_that_it_is_in() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    for (outer, inner) in [("0.0.0.0/0", "10.0.0.0/8"), ("10.0.0.0/8", "10.0.0.0/9"), ("::/0", "::/1")] {
        let (outer, inner) = (range(outer), range(inner));
        filter.clear().unwrap();
        filter.insert(Rule::drop(outer.clone())).unwrap();
        assert_eq!(filter.rule(&inner).unwrap(), None);
        assert!(matches!(filter.remove(&inner), Err(RuleError::Missing(_))));
        assert!(!filter.replace(Rule::new(inner.clone(), Action::Pass)).unwrap());
        assert_eq!(filter.rule(&outer).unwrap().unwrap().rule.action, Action::Drop);
        filter.remove(&outer).unwrap();
        assert_eq!(filter.rule(&outer).unwrap(), None);
        assert_eq!(filter.rule(&inner).unwrap().unwrap().rule.action, Action::Pass);
    }
}

/// Two bits of address at the start of each of these, so that ranges are in each other, beside each other and the same.
fn net() -> impl Strategy<Value = IpNet> {
    let lens = prop::sample::select(vec![0_u8, 1, 2, 8, 9, 10, 24, 25, 26, 31, 32]);
    (any::<bool>(), lens, 0..4_u32, 0..4_u32, 0..4_u32).prop_map(|(v6, len, first, middle, last)| {
        let bits = first << 30 | middle << 22 | last << 6 | last;
        if v6 {
            ipnet::Ipv6Net::new((u128::from(bits) << 96 | u128::from(last)).into(), len * 4)
                .unwrap()
                .trunc()
                .into()
        } else {
            ipnet::Ipv4Net::new(bits.into(), len).unwrap().trunc().into()
        }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Insert(IpNet, bool),
    Replace(IpNet, bool),
    Remove(IpNet),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (net(), any::<bool>()).prop_map(|(net, pass)| Step::Insert(net, pass)),
        (net(), any::<bool>()).prop_map(|(net, pass)| Step::Replace(net, pass)),
        net().prop_map(Step::Remove),
    ]
}

fn action(pass: bool) -> Action {
    if pass { Action::Pass } else { Action::Drop }
}

fn compare(filter: &ExternalFilter, steps: Vec<Step>) {
    filter.clear().unwrap();
    let mut model: BTreeMap<Match, Action> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Insert(net, pass) => {
                let of = Match::range(net);
                let outcome = filter.insert(Rule::new(of.clone(), action(pass)));
                assert_eq!(matches!(outcome, Err(RuleError::Duplicate(_))), model.contains_key(&of), "{of}");
                model.entry(of).or_insert(action(pass));
            }
            Step::Replace(net, pass) => {
                let of = Match::range(net);
                assert_eq!(
                    filter.replace(Rule::new(of.clone(), action(pass))).unwrap(),
                    model.contains_key(&of)
                );
                model.insert(of, action(pass));
            }
            Step::Remove(net) => {
                let of = Match::range(net);
                let found = filter.rule(&of).unwrap().map(|found| found.rule.action);
                assert_eq!(found, model.get(&of).copied(), "{of}");
                assert_eq!(filter.remove(&of).is_ok(), model.remove(&of).is_some(), "{of}");
            }
        }
    }
    let rules = filter.stats().unwrap().rules.into_iter();
    assert!(rules.map(|found| (found.rule.matches, found.rule.action)).eq(model));
}

#[test]
fn ranges_do_what_a_plain_map_does() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(500) });
    runner
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            compare(&filter, steps);
            Ok(())
        })
        .unwrap();
}

/// More than are read at once.
#[test]
fn many_ranges_are_listed_once_each() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external_with(BpfFilter::builder().ranges4_max(5000));
    let nets = (0..5000_u32).map(|number| ipnet::Ipv4Net::new((number << 12).into(), 20).unwrap());
    filter.insert_many(nets.clone().map(|net| Rule::drop(Match::range(net)))).unwrap();
    assert_eq!(filter.count(Kind::Range4).unwrap(), 5000);
    let listed = filter.stats().unwrap().rules;
    assert!(listed.into_iter().map(|found| found.rule.matches).eq(nets.map(Match::range)));
}
