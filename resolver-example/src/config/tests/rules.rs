//! What `[[filter.rules]]` means, and how wrong rules are told.

use std::time::Duration;

use ebpf_filter::{Action, Match, QName, Qtypes, Rule};
use ipnet::IpNet;

use super::{Rules, parse, refusal};

/// A configuration with these rules, each a line of its own, the first in line 2.
fn with_rules(rules: &[&str]) -> String {
    let max = "ranges4_max = 2, ranges6_max = 2, qnames_max = 3, suffixes_max = 2";
    format!("filter = {{ {max}, rules = [\n{}\n] }}", rules.join(",\n"))
}

#[track_caller]
fn assert_rules(rules: &[&str], expected: &[Rule], counts: &str) {
    let rules: Rules = parse(&with_rules(rules)).unwrap().filter.rules;
    assert_eq!(rules.iter().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(rules.to_string(), format!("{counts} rules"));
}

fn name(text: &str) -> QName {
    text.parse().unwrap()
}

fn range(text: &str) -> Match {
    Match::range(text.parse::<IpNet>().unwrap())
}

#[test]
fn addresses_reach_the_library() {
    assert_rules(
        &[
            r#"{ kind = "address", value = "192.0.2.7" }"#,
            r#"{ kind = "address", value = "::ffff:192.0.2.8", action = "pass" }"#,
            r#"{ kind = "address", value = "2001:db8::42", action = "count" }"#,
        ],
        &[
            Rule::drop(Match::address([192, 0, 2, 7])),
            Rule::new(Match::address([192, 0, 2, 8]), Action::Pass),
            Rule::new(Match::address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x42]), Action::Count),
        ],
        "2 IPv4 address, 1 IPv6 address, 0 IPv4 range, 0 IPv6 range, 0 name, 0 suffix",
    );
}

#[test]
fn ranges_reach_the_library() {
    assert_rules(
        &[
            r#"{ kind = "range", value = "192.0.2.77/24", action = "refused" }"#,
            r#"{ kind = "range", value = "::ffff:198.51.100.0/120" }"#,
            r#"{ kind = "range", value = "2001:DB8::1/32" }"#,
            r#"{ kind = "range", value = "::/0", action = "nxdomain" }"#,
        ],
        &[
            Rule::new(range("192.0.2.0/24"), Action::Refused),
            Rule::drop(range("198.51.100.0/24")),
            Rule::drop(range("2001:db8::/32")),
            Rule::new(range("::/0"), Action::NxDomain),
        ],
        "0 IPv4 address, 0 IPv6 address, 2 IPv4 range, 2 IPv6 range, 0 name, 0 suffix",
    );
}

#[test]
fn names_reach_the_library() {
    assert_rules(
        &[
            r#"{ kind = "qname", value = "EvilDomain.com", qtype = 255 }"#,
            r#"{ kind = "qname", value = "evildomain.com.", qtype = ["ANY", "TYPE65"] }"#,
            r#"{ kind = "suffix", value = "EvilDomain.com", qtype = "TXT", action = "truncate" }"#,
            r#"{ kind = "suffix", value = "." }"#,
        ],
        &[
            Rule::drop(Match::qname(name("evildomain.com"), Qtypes::All)),
            Rule::drop(Match::qname(name("evildomain.com"), Qtypes::Only(255))),
            Rule::drop(Match::qname(name("evildomain.com"), Qtypes::Only(65))),
            Rule::new(Match::suffix(name("evildomain.com"), Qtypes::Only(16)), Action::Truncate),
            Rule::drop(Match::suffix(name("."), Qtypes::All)),
        ],
        "0 IPv4 address, 0 IPv6 address, 0 IPv4 range, 0 IPv6 range, 3 name, 2 suffix",
    );
}

#[test]
fn slips_reach_the_library() {
    let slip = |host: u8, every| Rule::new(Match::address([192, 0, 2, host]), Action::Slip(every));
    assert_rules(
        &[
            r#"{ kind = "address", value = "192.0.2.1", action = "slip" }"#,
            r#"{ kind = "address", value = "192.0.2.2", action = "slip", slip = 0 }"#,
            r#"{ kind = "address", value = "192.0.2.3", slip = 127, action = "slip" }"#,
        ],
        &[slip(1, 2), slip(2, 0), slip(3, 127)],
        "3 IPv4 address, 0 IPv6 address, 0 IPv4 range, 0 IPv6 range, 0 name, 0 suffix",
    );
}

#[test]
fn times_reach_the_library() {
    let drop = |text, qtypes| Rule::drop(Match::qname(name(text), qtypes));
    assert_rules(
        &[
            r#"{ kind = "qname", value = "a.test", expires_in = "500ms", qtype = ["A", "AAAA"] }"#,
            r#"{ kind = "qname", value = "b.test", expires_in = "1m30s" }"#,
        ],
        &[
            drop("a.test", Qtypes::Only(1)).expires_in(Duration::from_millis(500)),
            drop("a.test", Qtypes::Only(28)).expires_in(Duration::from_millis(500)),
            drop("b.test", Qtypes::All).expires_in(Duration::from_secs(90)),
        ],
        "0 IPv4 address, 0 IPv6 address, 0 IPv4 range, 0 IPv6 range, 3 name, 0 suffix",
    );
}

#[test]
fn wrong_rules_are_numbered_and_located() {
    for (rule, words) in [
        (r#"{ kind = "address", value = "192.0.2.0/24" }"#, r#"kind = "range""#),
        (r#"{ kind = "address", value = "192.0.2.1:53" }"#, "port"),
        (r#"{ kind = "address", value = "192.0.2.1", qtype = "A" }"#, "remove `qtype`"),
        (
            r#"{ kind = "range", value = "192.0.2.0" }"#,
            r#"no prefix length: write a range like "192.0.2.0/24""#,
        ),
        (r#"{ kind = "range", value = "2001:db8::" }"#, r#"or "2001:db8::/32", or kind = "address""#),
        (r#"{ kind = "range", value = "192.0.2.0/33" }"#, "up to 32"),
        (r#"{ kind = "range", value = "2001:db8::/129" }"#, "128"),
        (r#"{ kind = "range", value = "192.0.2.0/255.255.255.0" }"#, r#"like "192.0.2.0/24""#),
        (r#"{ kind = "range", value = "a.test/24" }"#, "not a range"),
        (r#"{ kind = "range", value = "192.0.2.0/24", qtype = "ALL" }"#, "remove `qtype`"),
        (r#"{ kind = "qname", value = "a", action = "slip", slip = 128 }"#, "slip = 128: write 1 to answer"),
        (r#"{ kind = "qname", value = "a", action = "slip", slip = -1 }"#, "up to 127, or 0 to answer none"),
        (r#"{ kind = "qname", value = "a", slip = 2 }"#, r#"`slip` goes with action = "slip" alone"#),
        (r#"{ kind = "qname", value = "a", action = "truncate", slip = 2 }"#, "remove it, or change"),
        (r#"{ kind = "qname", value = "a..b" }"#, "a..b"),
        (r#"{ kind = "qname", value = "a", qtype = "BOGUS" }"#, "\"BOGUS\" is not a qtype"),
        (r#"{ kind = "qname", value = "a", qtype = 65536 }"#, "65536 is not a qtype"),
        (r#"{ kind = "qname", value = "a", qtype = [] }"#, "empty list"),
        (r#"{ kind = "qname", value = "a", qtype = ["A", "AAAA", "TXT"] }"#, "qnames_max = 3"),
        (r#"{ kind = "suffix", value = "a..b" }"#, "a..b"),
        (r#"{ kind = "suffix", value = "*.a.test" }"#, r#"write it without "*""#),
        (r#"{ kind = "suffix", value = "*" }"#, r#""." for every name"#),
        (r#"{ kind = "suffix", value = "a", qtype = "BOGUS" }"#, "\"BOGUS\" is not a qtype"),
        (r#"{ kind = "suffix", value = "a", qtype = [] }"#, "empty list"),
        (r#"{ kind = "suffix", value = "a", qtype = ["A", "AAAA", "TXT"] }"#, "suffixes_max = 2"),
        (
            r#"{ kind = "qname", value = "a", expires_in = "5" }"#,
            r#"expires_in = "5" is not a time (time unit"#,
        ),
        (r#"{ kind = "qname", value = "a", expires_in = "5 parsecs" }"#, r#"unknown time unit "parsecs""#),
        (r#"{ kind = "qname", value = "a", expires_in = "soon" }"#, r#"like "10s", "5m""#),
        (r#"{ kind = "qname", value = "a", expires_in = 300 }"#, "expires_in = 300 is not a time: write"),
        (
            r#"{ kind = "qname", value = "a", expires_in = "0s" }"#,
            r#"expires_in = "0s" ends the rule before"#,
        ),
    ] {
        let message = refusal(&with_rules(&[r#"{ kind = "qname", value = "ok.test" }"#, rule]));
        assert!(message.starts_with("/etc/resolver/test.toml:3:"), "{rule}: {message}");
        assert!(message.contains(": rule 2: ") && message.contains(words), "{rule}: {message}");
    }
}

#[test]
fn two_rules_for_one_match_are_an_error() {
    for (first, second, told) in [
        (
            r#"kind = "address", value = "192.0.2.7""#,
            r#"kind = "address", value = "::ffff:192.0.2.7", action = "pass""#,
            "192.0.2.7",
        ),
        (
            r#"kind = "range", value = "192.0.2.0/24""#,
            r#"kind = "range", value = "192.0.2.1/24", expires_in = "1h""#,
            "192.0.2.0/24",
        ),
        (
            r#"kind = "range", value = "192.0.2.0/24""#,
            r#"kind = "range", value = "::ffff:192.0.2.0/120""#,
            "192.0.2.0/24",
        ),
        (
            r#"kind = "range", value = "2001:db8::/32""#,
            r#"kind = "range", value = "2001:db8:ffff::/32""#,
            "[2001:db8::/32]",
        ),
        (
            r#"kind = "qname", value = "ok.test""#,
            r#"kind = "qname", value = "OK.test.", qtype = 255"#,
            "ok.test. 255",
        ),
        (
            r#"kind = "suffix", value = "ok.test", qtype = "A""#,
            r#"kind = "suffix", value = "OK.test.", qtype = ["AAAA", 1]"#,
            "*.ok.test. 1",
        ),
    ] {
        let message = refusal(&with_rules(&[&format!("{{ {first} }}"), &format!("{{ {second} }}")]));
        let expected = format!("rule 2: {told} has a rule in line 2 already: remove one");
        assert!(message.contains(&expected), "{message}");
    }

    let within_one = refusal(&with_rules(&[r#"{ kind = "qname", value = "a", qtype = ["A", 1] }"#]));
    assert!(within_one.contains("rule 1: a. 1 has a rule in line 2 already"), "{within_one}");
}

#[test]
fn kinds_do_not_stand_in_each_others_way() {
    assert_rules(
        &[
            r#"{ kind = "address", value = "192.0.2.7" }"#,
            r#"{ kind = "range", value = "192.0.2.7/32", action = "pass" }"#,
            r#"{ kind = "range", value = "192.0.2.7/31" }"#,
            r#"{ kind = "qname", value = "a.test" }"#,
            r#"{ kind = "suffix", value = "a.test", action = "pass" }"#,
        ],
        &[
            Rule::drop(Match::address([192, 0, 2, 7])),
            Rule::new(range("192.0.2.7/32"), Action::Pass),
            Rule::drop(range("192.0.2.6/31")),
            Rule::drop(Match::qname(name("a.test"), Qtypes::All)),
            Rule::new(Match::suffix(name("a.test"), Qtypes::All), Action::Pass),
        ],
        "1 IPv4 address, 0 IPv6 address, 2 IPv4 range, 0 IPv6 range, 1 name, 1 suffix",
    );
}

#[test]
fn a_kind_that_is_turned_off_takes_no_rule() {
    for (setting, rule) in [
        ("ipv4_max", r#"kind = "address", value = "127.0.0.1""#),
        ("ipv6_max", r#"kind = "address", value = "::1""#),
        ("ranges4_max", r#"kind = "range", value = "::ffff:127.0.0.0/104""#),
        ("ranges6_max", r#"kind = "range", value = "::/1""#),
        ("qnames_max", r#"kind = "qname", value = "a""#),
        ("suffixes_max", r#"kind = "suffix", value = "a""#),
    ] {
        let message = refusal(&format!("filter.{setting} = 0\nfilter.rules = [{{ {rule} }}]"));
        assert!(message.contains(&format!("rule 1: filter.{setting} = 0 has no room")), "{message}");
    }
}
