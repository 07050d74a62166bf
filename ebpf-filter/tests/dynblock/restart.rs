//! Blocks that outlive the process.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ebpf_filter::{
    Action, QName, Verdict,
    dynblock::{DynBlock, DynBlockGroup, Exempt, Growth, Penalty, Rate, Scope, StateError, Subject},
};

use crate::common::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A block without what need not be the same: its number, its age, its hits and how long exactly it lasts.
fn essence(block: &DynBlock) -> String {
    let DynBlock { subject, scope, action, reason, warning, dry_run, offence, remaining, .. } = block;
    let left = remaining.as_secs_f64().round();
    format!("{subject}{scope}: {action:?}, {reason}, {warning}, {dry_run}, {offence}, {left}")
}

#[test]
fn everything_comes_back() {
    let (clock, folder, filter) = (Clock::default(), folder(), off());
    let file = folder.path().join("blocks.json");
    let odd = QName::from_wire(b"\x05a.b\\\"\x03\0\xff \x07example\0").unwrap();
    let before = group(&clock)
        .port_bits(2)
        .query_rate(Rate::per_second(10).warn_above(5), Penalty::block_for(seconds(100)))
        .build()
        .unwrap();
    let add = |subject, scope, penalty: Penalty| before.add(subject, scope, &penalty).unwrap();
    add(source("192.0.2.1"), Scope::All, block().reason("with \"quotes\" and \n lines"));
    add(source("192.0.2.1"), Scope::Qtype(255), block().action(Action::Refused));
    add(source("192.0.2.0/24"), Scope::Suffix(odd.clone()), block().action(Action::NxDomain));
    add(source("2001:db8::/48"), Scope::All, Penalty::block_for(seconds(30)).action(Action::Truncate));
    add(source("2001:db8::1"), Scope::All, Penalty::block_for(seconds(86_400)).action(Action::Slip(7)));
    add(Subject::Ports { address: [192, 0, 2, 9].into(), first: 0, last: 16383 }, Scope::All, block());
    add(Subject::Suffix(odd), Scope::All, block().action(Action::Slip(0)));
    add(Subject::Suffix(QName::root()), Scope::All, block().action(Action::Count));
    add(source("198.51.100.1"), Scope::All, block().dry_run());
    send(&before, "192.0.2.200:1", 6);
    clock.advance(seconds(10));
    before.save(&file).unwrap();

    let after = group(&Clock::default()).filter(filter.clone()).build().unwrap();
    assert_eq!(after.restore(&file).unwrap(), 10);
    let both = [&before, &after].map(|group| group.blocks().iter().map(essence).collect::<Vec<_>>());
    assert_eq!(both[0], both[1]);
    assert_eq!(verdict(&after, "192.0.2.1"), Verdict::Drop);
    assert_eq!(verdict(&after, "192.0.2.9:16383"), Verdict::Drop);
    // In the filter: an address, a range, another address and a name.
    assert_eq!(filter.stats().unwrap().rules.len(), 4);
    // Once more, nothing changes: nothing lasts longer either.
    assert_eq!(after.restore(&file).unwrap(), 10);
    assert_eq!(both[1], after.blocks().iter().map(essence).collect::<Vec<_>>());
}

#[test]
fn there_is_no_file_at_first() {
    let group = group(&Clock::default()).build().unwrap();
    assert_eq!(group.restore("/nonexistent/folder/file").unwrap(), 0);
    let folder = folder();
    let file = folder.path().join("empty");
    group.save(&file).unwrap();
    assert_eq!(group.restore(&file).unwrap(), 0);
}

/// A file as another run has left it: the block ends so long after now, and is so long in all.
fn written(folder: &Path, blocks: &[(&str, i64, u64)]) -> std::path::PathBuf {
    let file = folder.join("written.json");
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let blocks: Vec<_> = blocks
        .iter()
        .map(|(net, left, length)| {
            let until = now + left * 1000;
            format!(
                r#"{{"subject":{{"source":"{net}"}},"action":"drop","reason":"r","until_unix_ms":{until},"length_ms":{}}}"#,
                length * 1000
            )
        })
        .collect();
    fs::write(&file, format!(r#"{{"version":1,"blocks":[{}]}}"#, blocks.join(","))).unwrap();
    file
}

#[test]
fn time_passes_meanwhile_and_may_go_back() {
    let folder = folder();
    let file = written(
        folder.path(),
        &[
            ("192.0.2.1/32", 40, 60),
            ("192.0.2.2/32", -1, 60),
            ("192.0.2.3/32", -100_000, 60),
            // The clock was set back by a day: no block is longer than it was when it was new.
            ("192.0.2.4/32", 86_400, 60),
        ],
    );
    let group = group(&Clock::default()).build().unwrap();
    assert_eq!(group.restore(&file).unwrap(), 2);
    let left: Vec<_> = group.blocks().iter().map(|block| block.remaining).collect();
    assert!(left[0] <= seconds(40) && left[0] > seconds(30), "{left:?}");
    assert_eq!(left[1], MINUTE);
    assert_eq!(subjects(&group), ["192.0.2.1/32", "192.0.2.4/32"]);
}

/// A block inside of a larger one has its own end, and does not change that of the larger one.
#[test]
fn each_block_has_its_own_end() {
    let folder = folder();
    for nets in [["192.0.2.0/24", "192.0.2.1/32"], ["192.0.2.1/32", "192.0.2.0/24"]] {
        let left = |net: &str| if net.ends_with("24") { 50 } else { 5 };
        let file = written(
            folder.path(),
            &nets.map(|net| (net, left(net), if net.ends_with("24") { 60 } else { 20 })),
        );
        let group = group(&Clock::default()).build().unwrap();
        assert_eq!(group.restore(&file).unwrap(), 2);
        for block in group.blocks() {
            // To the second, and saved to the millisecond before.
            let left = u64::try_from(left(&block.subject.to_string())).unwrap();
            assert!((seconds(left - 2)..=seconds(left)).contains(&block.remaining), "{block}");
        }
    }
}

/// What is there already is not shortened, and lasts no longer than either says.
#[test]
fn into_a_group_with_blocks() {
    let folder = folder();
    let file = written(folder.path(), &[("192.0.2.1/32", 5, 60), ("192.0.2.2/32", 50, 60)]);
    let group = group(&Clock::default()).build().unwrap();
    for host in ["192.0.2.1", "192.0.2.2"] {
        group.add(source(host), Scope::All, &Penalty::block_for(seconds(20))).unwrap();
    }
    assert_eq!(group.restore(&file).unwrap(), 2);
    let left: Vec<_> = group.blocks().iter().map(|block| block.remaining.as_secs_f64().round()).collect();
    assert_eq!(left, [20.0, 50.0]);
}

#[test]
fn what_is_no_such_file_changes_nothing() {
    let folder = folder();
    let group = group(&Clock::default()).build().unwrap();
    let good =
        fs::read_to_string(written(folder.path(), &[("192.0.2.1/32", 40, 60), ("192.0.2.2/32", 40, 60)]));
    let good = good.unwrap();
    let file = folder.path().join("bad.json");
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|len| good.as_bytes()[..len].to_vec()).collect();
    bad.push(b"\x7fELF".to_vec());
    bad.push(good.replace("192.0.2.2/32", "192.0.2.256/32").into());
    bad.push(good.replace("\"drop\"", "\"explode\"").into());
    bad.push(good.replacen(r#"{"source":"192.0.2.2/32"}"#, r#"{"suffix":"a..b"}"#, 1).into());
    for text in bad {
        fs::write(&file, &text).unwrap();
        let error = group.restore(&file).unwrap_err();
        assert!(matches!(error, StateError::Format { .. }), "{error:?}: {}", String::from_utf8_lossy(&text));
        assert!(group.blocks().is_empty());
    }
    // Another version may look like anything else.
    fs::write(&file, r#"{"version":2,"blocks":{"compressed":"..."}}"#).unwrap();
    let error = group.restore(&file).unwrap_err();
    assert!(matches!(error, StateError::Version { found: 2, expected: 1, .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("has version 2 of the format, this program reads version 1: remove it")
    );
    assert!(matches!(group.restore(folder.path()).unwrap_err(), StateError::Read { .. }));
}

#[test]
fn a_file_is_replaced_as_a_whole_or_not_at_all() {
    let folder = folder();
    let file = folder.path().join("blocks.json");
    let group = group(&Clock::default()).build().unwrap();
    group.add(source("192.0.2.1"), Scope::All, &block()).unwrap();
    group.save(&file).unwrap();
    // Who reads while another one writes sees one or the other, and nothing else is left in the folder.
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for host in 2..100 {
                group.add(source(&format!("192.0.2.{host}")), Scope::All, &block()).unwrap();
                group.save(&file).unwrap();
            }
        });
        while !writing.is_finished() {
            let reader = crate::common::group(&Clock::default()).build().unwrap();
            assert!(reader.restore(&file).unwrap() >= 1);
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // Nowhere to write to: an error, and whatever is there stays.
    let error = group.save(folder.path().join("missing").join("file")).unwrap_err();
    assert!(matches!(error, StateError::Write { .. }), "{error:?}");
    assert!(error.to_string().contains("check that the folder exists and may be written to"), "{error}");
    let error = group.save(folder.path()).unwrap_err();
    assert!(matches!(error, StateError::Write { .. }), "{error:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn who_is_exempt_now_is_not_restored() {
    let folder = folder();
    let file = written(folder.path(), &[("192.0.2.1/32", 40, 60), ("192.0.2.2/32", 40, 60)]);
    let exempt = Exempt::none().exclude("192.0.2.1".parse::<std::net::IpAddr>().unwrap());
    let group = group(&Clock::default()).exempt(exempt).build().unwrap();
    assert_eq!((group.restore(&file).unwrap(), subjects(&group)), (1, vec!["192.0.2.2/32".to_owned()]));
}

/// A restart does not make anybody a first offender.
#[test]
fn offences_come_back() {
    let (clock, folder) = (Clock::default(), folder());
    let file = folder.path().join("blocks.json");
    let build = || -> DynBlockGroup {
        let penalty = Penalty::block_for(seconds(10)).growing(Growth::doubling());
        group(&clock).query_rate(one(), penalty).build().unwrap()
    };
    let before = build();
    send(&before, "192.0.2.1", 2);
    clock.advance(seconds(12));
    send(&before, "192.0.2.1", 2);
    assert_eq!(only(&before).offence, 1);
    before.save(&file).unwrap();
    let after = build();
    after.restore(&file).unwrap();
    assert_eq!(only(&after).offence, 1);
    clock.advance(seconds(21) + Duration::from_millis(1));
    send(&after, "192.0.2.1", 2);
    assert_eq!((only(&after).offence, only(&after).remaining), (2, seconds(40)));
}
