//! What makes no sense is an error that says what to write.

use std::{error::Error as _, time::Duration};

use ebpf_filter::{
    Action,
    dynblock::{
        AddError, DynBlockError, DynBlockGroup, DynBlockGroupBuilder, Growth, Ladder, Penalty, Rate, Ratio,
        Scope, ScopeBy, SuffixLimit,
    },
};

use crate::common::*;

/// The error and what is behind it.
fn error(build: impl FnOnce(DynBlockGroupBuilder) -> DynBlockGroupBuilder) -> String {
    let error: DynBlockError = build(DynBlockGroup::builder().slots(8)).build().unwrap_err();
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn limits() {
    assert_eq!(
        error(|group| group.query_rate(Rate::per_second(0), block())),
        "the limit of rule 1 (query-rate) cannot be used: a limit of 0 a second is exceeded by everybody: write at least 1"
    );
    let second =
        |group: DynBlockGroupBuilder, rate| group.query_rate(one(), block()).qtype_rate(A, rate, block());
    assert!(error(|group| second(group, one().over(Duration::ZERO))).starts_with(
        "the limit of rule 2 (qtype-rate) cannot be used: a window of 0ns cannot be measured: write one"
    ));
    assert!(error(|group| second(group, one().warn_above(1))).ends_with("write less than that"));
    assert!(
        error(|group| group.rcode_ratio(SERVFAIL, Ratio::above(1.0), block()))
            .starts_with("the limit of rule 1 (rcode-ratio) cannot be used: a share of 1 ")
    );
    assert!(
        error(|group| group.cache_miss_ratio(Ratio::above(0.5).at_least(0), 0.5, block()))
            .contains("write one from 1 to")
    );
    // The limit of a network is a multiple, and that of a ladder another one.
    let high = Rate::per_second(500_000_000);
    assert!(
        error(|group| group.tiers4([(24, 4)]).query_rate(high, block()))
            .ends_with("write at most 1000000000")
    );
    assert!(
        error(|group| group.masks(32, 128).query_rate(high, block().ladder(Ladder::new())))
            .ends_with("write at most 1000000000")
    );
    assert!(
        error(|group| group.suffix_rate(SuffixLimit::labels(0), one(), block()))
            .ends_with("choose 1 label at least")
    );
    assert!(
        error(|group| group.suffix_rate(SuffixLimit::below([]), one(), block()))
            .ends_with("name one at least")
    );
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(
            error(|group| group.cache_miss_ratio(Ratio::above(0.5), share, block()))
                .ends_with("write one from 0.0 to 1.0"),
            "{share}"
        );
    }
}

#[test]
fn penalties() {
    let text = |penalty: Penalty| error(|group| group.query_rate(one(), penalty));
    assert_eq!(
        text(Penalty::block_for(Duration::ZERO)),
        "the penalty of rule 1 (query-rate) cannot be used: the block has to last for a millisecond at least"
    );
    assert!(text(block().action(Action::Pass)).ends_with("choose the action `count`"));
    assert!(text(block().action(Action::Slip(128))).contains("slip 127 or less"));
    assert!(text(block().ladder(Ladder::new().slip(200))).contains("slip 127 or less"));
    assert!(
        text(block().action(Action::Drop).ladder(Ladder::new()))
            .ends_with("remove the action, or the ladder")
    );
    assert!(text(block().ladder(Ladder::new().second_limit(1))).contains("twice the first at least"));
    assert!(text(block().growing(Growth::doubling().factor(1))).contains("a factor of 2 at least"));
    assert!(
        text(block().growing(Growth::doubling().up_to(seconds(1))))
            .contains("is shorter than the first block")
    );
    assert!(text(block().scoped(ScopeBy::Suffix { labels: 0 })).ends_with("a scope has one label at least"));
    let by_qtype = || block().scoped(ScopeBy::Qtype);
    assert!(
        error(|group| group.suffix_rate(SuffixLimit::labels(2), one(), by_qtype()))
            .ends_with("remove the scope")
    );
    assert!(error(|group| group.malformed_rate(one(), by_qtype())).ends_with("remove the scope"));
    let ladder = || block().ladder(Ladder::new());
    assert!(error(|group| group.rcode_ratio(2, Ratio::above(0.5), ladder())).ends_with("remove the ladder"));
    assert!(
        error(|group| group.suffix_rate(SuffixLimit::labels(2), one(), ladder()))
            .ends_with("remove the ladder")
    );
    assert!(error(|group| group.default_action(Action::Pass)).ends_with("choose the action `count`"));
}

#[test]
fn prefixes() {
    let nine = || (0..9).map(|len| (len, 1));
    assert_eq!(
        error(|group| group.tiers4(nine())),
        "too many prefix lengths: 8 are possible for each of IPv4 and IPv6"
    );
    assert!(error(|group| group.tiers6(nine())).starts_with("too many prefix lengths"));
    assert!(error(|group| group.masks(33, 128)).contains("lengths go up to 32"));
    assert!(error(|group| group.masks(32, 129)).contains("lengths go up to 128"));
    assert!(error(|group| group.tiers4([(24, 0)])).contains("multiples start at 1"));
    assert!(error(|group| group.tiers4([(24, 1), (24, 2)])).ends_with("remove one"));
    // As in dnsdist.
    assert!(error(|group| group.masks(24, 64).port_bits(2)).contains("only if IPv4 clients are counted"));
    assert!(error(|group| group.port_bits(17)).contains("choose 0 to 16"));
    assert!(error(|group| group.slots(usize::MAX)).ends_with("choose fewer"));
    assert!(DynBlockGroup::builder().tiers4([]).tiers6([]).query_rate(one(), block()).build().is_ok());
}

#[test]
fn by_hand() {
    let group = group(&Clock::default()).build().unwrap();
    let add = |penalty| group.add(source("192.0.2.1"), Scope::All, &penalty).unwrap_err();
    assert!(matches!(add(Penalty::block_for(Duration::ZERO)), AddError::Penalty { .. }));
    assert!(matches!(add(block().action(Action::Pass)), AddError::Penalty { .. }));
    assert!(add(block().action(Action::Slip(128))).to_string().contains("slip 127 or less"));
    assert!(group.blocks().is_empty());
}
