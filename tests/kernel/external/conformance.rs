//! The format, as others see it: a program in C that knows its description alone, dnsdist itself, and the bytes.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use ebpf_filter::{Action, BpfFilter, ExternalFilter, Match, Qtypes, Rule};
use ebpf_filter_tests::{dnsdist::Dnsdist, pins::PinDir, privilege, require_kernel, shared_maps};

use crate::{address, every_kind, name, qname, range};

#[test]
fn a_c_program_sees_what_is_set_here() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    filter.insert_many(every_kind()).unwrap();
    filter.insert(Rule::new(qname("types.example", Qtypes::Only(28)), Action::Pass)).unwrap();
    filter.insert(Rule::drop(qname(".", Qtypes::Only(2)))).unwrap();
    filter.insert(Rule::new(range("0.0.0.0/0"), Action::Truncate)).unwrap();
    let sees = |map, expected: &[&str]| assert_eq!(shared_maps::list(&pins.pin(map), map), expected, "{map}");
    sees("addr-v4", &["192.0.2.1 0 1"]);
    sees("addr-v6", &["2001:db8::1 0 2"]);
    sees("cidr4", &["0.0.0.0/0 0 2", "198.51.100.0/24 0 0"]);
    sees("cidr6", &["2001:db8:1::/48 0 1"]);
    sees("qnames", &["/2 0 1", "evil.example./255 0 2", "types.example./28 0 0"]);
}

/// Also with maps that the other program has made, and with anything at all in the padding.
#[test]
fn what_a_c_program_sets_is_seen_here() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    fs::create_dir(pins.path()).unwrap();
    for map in ["addr-v4", "addr-v6", "qnames", "cidr4", "cidr6"] {
        shared_maps::create(&pins.pin(map), map, 1024);
    }
    let filter = pins.external();
    let set = |map, entry, hits, action| shared_maps::set(&pins.pin(map), map, entry, hits, action);
    set("addr-v4", "192.0.2.1", 1, 1);
    set("addr-v6", "2001:db8::1", 2, 2);
    set("cidr4", "198.51.100.0/24", u64::MAX, 0);
    // Bits behind the prefix say nothing.
    set("cidr6", "2001:db8:1::1/48", 4, 1);
    set("qnames", "Evil.Example/255", 5, 2);
    let rules = filter.stats().unwrap().rules;
    let seen: Vec<_> = rules.iter().map(|found| (found.rule.clone(), found.hits)).collect();
    let expected: Vec<_> = every_kind().into_iter().zip([1, 2, u64::MAX, 4, 5]).collect();
    assert_eq!(seen, expected);
    for (rule, hits) in expected {
        assert_eq!(filter.rule(&rule.matches).unwrap().unwrap().hits, hits);
        assert!(filter.insert(rule.clone()).is_err());
        filter.remove(&rule.matches).unwrap();
    }
    assert_eq!(filter.stats().unwrap().rules, []);
}

/// What no rule can be made of is in nobody's way.
#[test]
fn odd_entries_of_others_are_left_alone() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    shared_maps::set(&pins.pin("addr-v4"), "addr-v4", "192.0.2.1", 7, 3);
    assert_eq!(filter.stats().unwrap().rules, []);
    assert_eq!(filter.rule(&address("192.0.2.1")).unwrap(), None);
    assert!(filter.block([192, 0, 2, 1]).is_err());
    assert!(filter.replace(Rule::drop(address("192.0.2.1"))).unwrap());
    assert_eq!(shared_maps::list(&pins.pin("addr-v4"), "addr-v4"), ["192.0.2.1 7 1"]);

    let mut names = raw::<258>(&pins.pin("qnames"));
    let mut odd = [0; 258];
    odd[..6].copy_from_slice(b"\x04EVIL\0");
    names.insert(odd, [0; 16], 0).unwrap();
    odd[..6].copy_from_slice(b"\x44evil\0");
    names.insert(odd, [0; 16], 0).unwrap();
    odd[..7].copy_from_slice(b"\x04evil\0x");
    names.insert(odd, [0; 16], 0).unwrap();
    filter.block_qname(&name("evil"), Qtypes::Only(0)).unwrap();
    let names = filter
        .stats()
        .unwrap()
        .rules
        .into_iter()
        .filter(|found| matches!(found.rule.matches, Match::Qname(..)));
    assert_eq!(names.count(), 1);
    assert_eq!(filter.count(ebpf_filter::Kind::Qname).unwrap(), 4);
}

fn raw<const K: usize>(pin: &Path) -> HashMap<MapData, [u8; K], [u8; 16]> {
    // aya does not look at the type, only at the sizes.
    Map::HashMap(MapData::from_pin(pin).unwrap()).try_into().unwrap()
}

/// The only entry of a map.
#[track_caller]
fn bytes<const K: usize>(pin: &Path) -> ([u8; K], [u8; 16]) {
    let entries: Vec<_> = raw(pin).iter().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    entries[0]
}

/// What a key and a value are, byte for byte, on this machine.
#[test]
fn every_byte_is_where_it_should_be() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    filter.insert_many(every_kind()).unwrap();
    let value = |action| {
        let mut value = [0; 16];
        value[8] = action;
        value
    };
    let number = u32::to_ne_bytes;
    assert_eq!(bytes(&pins.pin("addr-v4")), (number(0xc000_0201), value(1)));
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(bytes(&pins.pin("addr-v6")), (v6, value(2)));
    let cidr4: [u8; 8] = [&number(24)[..], &[198, 51, 100, 0]].concat().try_into().unwrap();
    assert_eq!(bytes(&pins.pin("cidr4")), (cidr4, value(0)));
    let net6 = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let cidr6: [u8; 20] = [&number(48)[..], &net6].concat().try_into().unwrap();
    assert_eq!(bytes(&pins.pin("cidr6")), (cidr6, value(1)));
    let mut key = [0; 258];
    key[..14].copy_from_slice(b"\x04evil\x07example\0");
    key[256..].copy_from_slice(&255_u16.to_ne_bytes());
    assert_eq!(bytes(&pins.pin("qnames")), (key, value(2)));
}

/// The longest name fills all bytes but the padding.
#[test]
fn the_longest_name_fits() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let label = |len| "a".repeat(len);
    let longest = name(&format!("{}.{}.{}.{}", label(63), label(63), label(63), label(61)));
    assert_eq!(longest.as_wire().len(), 255);
    filter.block_qname(&longest, Qtypes::Only(0xffff)).unwrap();
    let (key, _) = bytes::<258>(&pins.pin("qnames"));
    assert_eq!((&key[..255], key[255], &key[256..]), (longest.as_wire(), 0, &[0xff; 2][..]));
    assert_eq!(filter.stats().unwrap().rules[0].rule.matches, Match::qname(longest, Qtypes::Only(0xffff)));
}

#[test]
fn every_type_is_the_number_that_was_chosen() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = BpfFilter::builder().external(pins.maps()).every_qtype(65535).build().unwrap();
    filter.block_qname(&name("all.example"), Qtypes::All).unwrap();
    filter.block_qname(&name("any.example"), Qtypes::Only(255)).unwrap();
    assert!(filter.block_qname(&name("last.example"), Qtypes::Only(65535)).is_err());
    let expected = ["all.example./65535 0 1", "any.example./255 0 1"];
    assert_eq!(shared_maps::list(&pins.pin("qnames"), "qnames"), expected);
    assert_eq!(filter.stats().unwrap().to_string(), "all.example. 255: 0\nany.example. ANY: 0\n");
    // The pins do not say which number it is: whoever says another one reads it otherwise.
    drop(filter);
    assert_eq!(pins.external().stats().unwrap().to_string(), "all.example. 65535: 0\nany.example. 255: 0\n");
}

/// What dnsdist prints and does at these pins. It starts, does this, and is killed.
fn dnsdist(pins: &PinDir, commands: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (written, done) = (directory.path().join("written"), directory.path().join("done"));
    let [v4, v6, qnames] = ["addr-v4", "addr-v6", "qnames"].map(|map| pins.pin(map).display().to_string());
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "setLocal('127.0.0.1:{port}')\n\
         setSecurityPollSuffix('')\n\
         local map = function(path) return {{maxItems=1024, pinnedPath=path}} end\n\
         local bpf = newBPFFilter(map('{v4}'), map('{v6}'), map('{qnames}'), true)\n\
         {commands}\n\
         local out = io.open('{}', 'w')\n\
         out:write(bpf:getStats())\n\
         out:close()\n\
         os.rename('{}', '{}')\n",
        written.display(),
        written.display(),
        done.display()
    );
    let mut dnsdist = Dnsdist::spawn(&config).unwrap();
    let start = Instant::now();
    while !done.exists() {
        assert!(dnsdist.ended().unwrap().is_none(), "{}", dnsdist.failure("has ended"));
        assert!(start.elapsed() < Duration::from_secs(20), "{}", dnsdist.failure("does nothing"));
        thread::sleep(Duration::from_millis(5));
    }
    fs::read_to_string(done).unwrap()
}

/// What a filter has, with actions.
fn actions(filter: &ExternalFilter) -> Vec<String> {
    let rules = filter.stats().unwrap().rules.into_iter();
    rules.map(|found| format!("{} {:?} {}", found.rule.matches, found.rule.action, found.hits)).collect()
}

/// dnsdist 1.7 prints no types in this format, and has no ranges.
#[test]
fn dnsdist_sees_and_sets_the_same_entries() {
    require_kernel!(BPF | SYS_ADMIN);
    if !Dnsdist::is_installed() {
        return privilege::skip("dnsdist is not installed (Debian: dnsdist)");
    }
    let pins = PinDir::new();
    let filter = pins.external();
    filter.insert_many(every_kind()).unwrap();
    shared_maps::set(&pins.pin("addr-v4"), "addr-v4", "192.0.2.200", 42, 1);
    let printed = dnsdist(
        &pins,
        "bpf:block(newCA('203.0.113.1'))\n\
         bpf:block(newCA('203.0.113.2'), 2)\n\
         bpf:block(newCA('2001:db8::2'), 0)\n\
         bpf:blockQName(newDNSName('Theirs.Example'), 255)\n\
         bpf:blockQName(newDNSName('types.example'), 28, 2)\n\
         bpf:unblock(newCA('192.0.2.1'))",
    );
    for line in ["192.0.2.200: 42", "203.0.113.1: 0", "[2001:db8::1]: 0", "evil.example. 0: 0"] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    assert!(!printed.contains("192.0.2.1:"), "{printed}");
    let expected = [
        "192.0.2.200 Drop 42",
        "203.0.113.1 Drop 0",
        "203.0.113.2 Truncate 0",
        "[2001:db8::1] Truncate 0",
        "[2001:db8::2] Pass 0",
        "198.51.100.0/24 Pass 0",
        "[2001:db8:1::/48] Drop 0",
        "evil.example. 255 Truncate 0",
        "theirs.example. 255 Drop 0",
        "types.example. 28 Truncate 0",
    ];
    assert_eq!(actions(&filter), expected);
    // Its entries are like those of everybody else, whatever is in their padding.
    filter.unblock([203, 0, 113, 1]).unwrap();
    assert!(filter.block([203, 0, 113, 2]).is_err());
    assert!(filter.replace(Rule::drop(address("203.0.113.2"))).unwrap());
    let printed = dnsdist(&pins, "bpf:unblockQName(newDNSName('evil.example'), 255)");
    assert!(!printed.contains("203.0.113.1:") && !printed.contains("evil.example."), "{printed}");
    assert!(printed.contains("203.0.113.2: 0"), "{printed}");
    assert_eq!(filter.rule(&qname("evil.example", Qtypes::All)).unwrap(), None);
}

/// The other way around: the pins are dnsdist's.
#[test]
fn pins_of_dnsdist_are_opened() {
    require_kernel!(BPF | SYS_ADMIN);
    if !Dnsdist::is_installed() {
        return privilege::skip("dnsdist is not installed (Debian: dnsdist)");
    }
    let pins = PinDir::new();
    fs::create_dir(pins.path()).unwrap();
    dnsdist(&pins, "bpf:block(newCA('203.0.113.1'))");
    let filter = pins.external();
    assert_eq!(actions(&filter), ["203.0.113.1 Drop 0"]);
    filter.block([203, 0, 113, 9]).unwrap();
    let printed = dnsdist(&pins, "");
    let lines: std::collections::BTreeSet<_> = printed.lines().collect();
    assert_eq!(lines, ["203.0.113.1: 0", "203.0.113.9: 0"].into());
}
