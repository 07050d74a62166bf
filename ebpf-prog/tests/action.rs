//! Actions in memory, and what comes of them for packets that came one way or another.

use ebpf_prog::action::{Action, Came, Decided, Verdict};

const WAYS: [Came; 3] = [Came::OverPlainUdp, Came::ThroughKernel, Came::Otherwise];

#[test]
fn an_action_survives_memory() {
    let slips = (0..=Action::MAX_SLIP).map(Action::Slip);
    for action in Action::ALL.into_iter().chain(slips) {
        assert_eq!(Action::from_byte(action.to_byte()), action);
    }
    for every in Action::MAX_SLIP..=u8::MAX {
        assert_eq!(Action::from_byte(Action::Slip(every).to_byte()), Action::Slip(Action::MAX_SLIP));
    }
    for unknown in 6..0x80 {
        assert_eq!(Action::from_byte(unknown), Action::Pass);
    }
}

/// The verdicts on the first packets, each `.` for one that is dropped and `T` for one that is truncated.
fn slips(every: u8, came: Came) -> String {
    (1..=8)
        .map(|hits| {
            let decided = Decided::from_word(hits << 8 | u64::from(Action::Slip(every).to_byte()));
            assert_eq!(decided, Decided::from_word(decided.word()));
            match decided.verdict(came) {
                Verdict::Drop => '.',
                Verdict::Truncate => 'T',
                Verdict::Pass => 'P',
                other @ (Verdict::Refused | Verdict::NxDomain) => panic!("{other:?}"),
            }
        })
        .collect()
}

#[test]
fn every_so_many_th_packet_slips_through() {
    for (every, verdicts) in [
        (0, "........"),
        (1, "TTTTTTTT"),
        (2, ".T.T.T.T"),
        (3, "..T..T.."),
        (8, ".......T"),
        (127, "........"),
    ] {
        assert_eq!(slips(every, Came::OverPlainUdp), verdicts, "{every}");
        assert_eq!(slips(every, Came::Otherwise), "PPPPPPPP", "{every}");
        let chosen = if every == 0 { "........" } else { "TTTTTTTT" };
        assert_eq!(slips(every, Came::ThroughKernel), chosen, "{every}");
    }
}

#[test]
fn only_answers_over_udp_are_truncated() {
    for (action, over_udp, otherwise) in [
        (Action::Pass, Verdict::Pass, Verdict::Pass),
        (Action::Drop, Verdict::Drop, Verdict::Drop),
        (Action::Truncate, Verdict::Truncate, Verdict::Pass),
        (Action::Refused, Verdict::Refused, Verdict::Refused),
        (Action::NxDomain, Verdict::NxDomain, Verdict::NxDomain),
    ] {
        let decided = Decided::from_word(action.to_byte().into());
        assert_eq!(WAYS.map(|came| decided.verdict(came)), [over_udp, over_udp, otherwise], "{action:?}");
    }
    assert_eq!(WAYS.map(|came| Decided::PASS.verdict(came)), [Verdict::Pass; 3]);
    assert_eq!(WAYS.map(|came| Decided::DROP.verdict(came)), [Verdict::Drop; 3]);
}
