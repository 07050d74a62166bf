//! What `[dynblocks]` means, and how wrong rules are told.

use super::{complete_example, parse, refusal};

/// What a `[dynblocks]` with these lines becomes, as text.
fn meaning(lines: &str) -> String {
    format!("{:?}", parse(&format!("[dynblocks]\n{lines}")).unwrap().dynblocks.unwrap())
}

/// One rule with these lines, the first in line 2.
fn rule(lines: &str) -> String {
    format!("[[dynblocks.rules]]\n{lines}")
}

#[test]
fn without_the_section_nobody_is_counted() {
    assert!(parse("").unwrap().dynblocks.is_none());
    assert!(parse("[dynblocks]").unwrap().dynblocks.is_some());
}

#[test]
fn the_example_states_the_defaults() {
    let example = complete_example();
    for (key, value) in [
        ("port_bits", "0"),
        ("max_blocks", "8192"),
        ("max_blocks_per_network", "256"),
        ("action", "\"drop\""),
        ("quiet", "false"),
    ] {
        let line = format!("{key} = {value}");
        assert!(example.lines().any(|shown| shown == line), "{line}");
        assert_eq!(meaning(&line), meaning(""), "{line}");
    }
    // What has no default of its own here is the library's.
    for line in ["slots = 262144", "tiers4 = [[32, 1], [24, 32], [20, 256], [18, 768]]"] {
        assert!(example.lines().any(|shown| shown == line), "{line}");
    }
    let brief =
        meaning("[[dynblocks.rules]]\nkind = \"rcode-ratio\"\nrcode = 2\nratio = 0.5\nblock_for = \"1m\"");
    let long = "window = \"10s\"\nminimum = 1\ndry_run = false\nscope = \"client\"\ngrowth = false";
    assert_eq!(
        meaning(&format!(
            "[[dynblocks.rules]]\nkind = \"rcode-ratio\"\nrcode = \"SERVFAIL\"\nratio = 0.5\nblock_for = \"60s\"\n{long}"
        )),
        brief
    );
    let queries = "[[dynblocks.rules]]\nkind = \"suffix-rate\"\nlabels = 2\nrate = 9\nblock_for = \"60s\"";
    assert_eq!(meaning(queries), meaning(&format!("{queries}\ncount = \"queries\"")));
}

#[test]
fn switches_stand_for_the_numbers_in_the_example() {
    let with =
        |line| meaning(&rule(&format!("kind = \"query-rate\"\nrate = 20\nblock_for = \"60s\"\n{line}")));
    assert_eq!(with("ladder = true"), with("ladder = { slip = 2, second_limit = 10 }"));
    assert_eq!(with("ladder = true"), with("ladder = {}"));
    assert_eq!(with("ladder = false"), with(""));
    assert_eq!(with("action = \"slip\""), with("action = \"slip\"\nslip = 2"));
    assert_eq!(
        with("growth = true"),
        with("growth = { factor = 2, up_to = \"24h\", forgiven_after = \"1h\" }")
    );
    assert_eq!(with("growth = false"), with(""));
    assert_eq!(meaning("mask4 = 24"), meaning("tiers4 = [[24, 1]]"));
    assert_eq!(meaning("mask6 = 56"), meaning("tiers6 = [[56, 1]]"));
}

#[test]
fn the_filter_has_room_for_blocks_unless_it_is_told_otherwise() {
    let room = |text: &str| {
        let filter = parse(text).unwrap().filter;
        [
            filter.ipv4_max,
            filter.ipv6_max,
            filter.ranges4_max,
            filter.ranges6_max,
            filter.qnames_max,
            filter.suffixes_max,
        ]
    };
    assert_eq!(room(""), [1024; 6]);
    let more = 1024 + 8192;
    assert_eq!(room("[dynblocks]"), [more, more, more, more, 1024, more]);
    assert_eq!(room("[dynblocks]\nmax_blocks = 6"), [1030, 1030, 1030, 1030, 1024, 1030]);
    assert_eq!(room("filter.ipv4_max = 0\n[dynblocks]"), [0, more, more, more, 1024, more]);
}

#[test]
fn cache_misses_need_a_cache() {
    let rule = "[[dynblocks.rules]]\nkind = \"cache-miss-ratio\"\nratio = 0.5\nblock_for = \"60s\"";
    let message = refusal(rule);
    assert!(
        message.contains(":1:1: dynblocks rule 1: nothing comes from a cache without [forward]"),
        "{message}"
    );
    assert!(parse(&format!("forward.upstreams = [\"192.0.2.53\"]\n{rule}")).is_ok());
}

#[test]
fn the_state_file_is_relative_to_the_configuration() {
    assert!(meaning("state_file = \"a.json\"").contains("\"/etc/resolver/a.json\""));
}

#[test]
fn wrong_settings_are_located() {
    for (line, column, words) in [
        ("mask4 = 33", 9, "mask4 = 33: choose 0 to 32"),
        ("mask6 = 129", 9, "mask6 = 129: choose 0 to 128"),
        ("mask4 = 24\ntiers4 = [[32, 1]]", 9, "`mask4` and `tiers4` exclude each other"),
        ("tiers4 = 32", 10, "like [[32, 1], [24, 32]]"),
        ("tiers4 = []", 10, "1 to 8 pairs"),
        ("tiers4 = [[32]]", 10, "tiers4 = [[32]] is no list"),
        ("tiers4 = [[33, 1]]", 10, "up to 32"),
        ("tiers4 = [[32, 0]]", 10, "a multiple from 1"),
        ("tiers6 = [[64, 1], [64, 2]]", 10, "each length once"),
        ("port_bits = 17", 13, "choose 0 to 16"),
        ("port_bits = 2\nmask4 = 24", 13, "prefixes of length 32"),
        ("exclude = [\"a.test\"]", 12, "\"a.test\" is neither an IP address nor a range"),
        ("include = [\"192.0.2.0/33\"]", 12, "like \"192.0.2.7\", \"192.0.2.0/24\""),
        ("include = [\"192.0.2.1\"]\nexclude = [\"192.0.2.1/32\"]", 12, "in `exclude` and in `include`"),
        ("exclude_suffixes = [\"*.a.test\"]", 21, "without \"*\""),
        ("exclude_suffixes = [\"a..b\"]", 21, "a..b"),
        ("slots = 0", 9, "slots = 0: choose 1 to"),
        ("max_blocks = 0", 14, "max_blocks = 0: choose 1 to"),
        ("max_blocks_per_network = 0", 26, "choose 1 to"),
        ("slip = 2", 8, "add that, or remove `slip`"),
        ("action = \"pass\"", 10, "`pass`"),
        ("mask = 24", 1, "`mask`"),
        ("quiet = 1", 9, "boolean"),
    ] {
        let message = refusal(&format!("[dynblocks]\n{line}"));
        assert!(message.starts_with(&format!("/etc/resolver/test.toml:2:{column}: ")), "{line}: {message}");
        assert!(message.contains(words), "{line}: {message}");
    }
}

#[test]
fn wrong_rules_are_numbered_and_located() {
    let queries = |line: &str| format!("kind = \"query-rate\"\nrate = 20\nblock_for = \"60s\"\n{line}");
    let ratio = |line: &str| format!("kind = \"rcode-ratio\"\nratio = 0.5\nblock_for = \"60s\"\n{line}");
    let suffix = |line: &str| format!("kind = \"suffix-rate\"\nrate = 20\nblock_for = \"60s\"\n{line}");
    for (lines, place, words) in [
        (
            "kind = \"query-rate\"\nblock_for = \"60s\"".to_owned(),
            "1:1",
            "a query-rate rule needs `rate`: add it, like rate = 20",
        ),
        ("kind = \"query-rate\"\nrate = 20".to_owned(), "1:1", "block_for = \"60s\""),
        ("kind = \"qtype-rate\"\nrate = 20\nblock_for = \"60s\"".to_owned(), "1:1", "qtype = \"ANY\""),
        ("kind = \"rcode-rate\"\nrate = 20\nblock_for = \"60s\"".to_owned(), "1:1", "rcode = \"SERVFAIL\""),
        ("kind = \"rcode-ratio\"\nrcode = 2\nblock_for = \"60s\"".to_owned(), "1:1", "ratio = 0.2"),
        ("kind = \"allowed-rcodes-ratio\"\nratio = 0.2\nblock_for = \"60s\"".to_owned(), "1:1", "rcodes = ["),
        (suffix(""), "1:1", "needs `suffixes` or `labels`"),
        (suffix("suffixes = [\"a\"]\nlabels = 2"), "6:10", "exclude each other"),
        (suffix("suffixes = []"), "5:12", "empty list"),
        (suffix("suffixes = [\"*.a\"]"), "5:13", "without \"*\""),
        (suffix("labels = 0"), "5:10", "labels = 0: choose 1 to 127"),
        (
            suffix("labels = 2\nscope = \"qtype\""),
            "6:9",
            "a suffix-rate rule has no `scope`: remove it; such a rule has",
        ),
        (suffix("labels = 2\nladder = true"), "6:10", "no `ladder`"),
        (queries("ratio = 0.5"), "5:9", "a query-rate rule has no `ratio`"),
        (queries("qtype = \"A\""), "5:9", "a query-rate rule has no `qtype`"),
        (queries("window = 10"), "5:10", "window = 10 is not a time: write numbers with units"),
        (queries("window = \"10 parsecs\""), "5:10", "unknown time unit \"parsecs\""),
        (queries("window = \"25h\""), "5:10", "from 1 ms to 24 hours"),
        (queries("warning_rate = 20"), "5:16", "comes too late"),
        (queries("action = \"slip\"\nslip = 128"), "6:8", "up to 127"),
        (queries("slip = 2"), "5:8", "`slip` goes with action"),
        (queries("scope = \"suffix\""), "5:9", "add scope_labels = 2"),
        (queries("scope_labels = 2"), "5:16", "scope = \"suffix\""),
        (queries("scope = \"suffix\"\nscope_labels = 0"), "6:16", "scope_labels = 0"),
        (queries("ladder = true\naction = \"drop\""), "5:10", "remove the action, or the ladder"),
        (queries("ladder = { second_limit = 1 }"), "5:10", "second limit"),
        (queries("growth = { factor = 1 }"), "5:10", "factor of 2"),
        (queries("growth = { up_to = \"10s\" }"), "5:10", "ceiling"),
        (queries("growth = { up_to = 10 }"), "5:10", "up_to = 10 is not a time"),
        ("kind = \"query-rate\"\nrate = 0\nblock_for = \"60s\"".to_owned(), "3:8", "at least 1"),
        ("kind = \"query-rate\"\nrate = 20\nblock_for = \"0s\"".to_owned(), "4:13", "a millisecond"),
        (ratio("rcode = 4096"), "5:9", "4096 is not a response code"),
        (ratio("rcode = \"NX\""), "5:9", "\"NX\" is not a response code"),
        (ratio("rcode = 2\nladder = true"), "6:10", "no `ladder`"),
        (ratio("rcode = 2\nminimum = 0"), "6:11", "from 1 to"),
        (ratio("rcode = 2\nwarning_ratio = 0.5"), "6:17", "too late"),
        (
            "kind = \"rcode-ratio\"\nrcode = 2\nratio = 1.5\nblock_for = \"60s\"".to_owned(),
            "4:9",
            "0.0 to below 1.0",
        ),
        (
            "kind = \"allowed-rcodes-ratio\"\nratio = 0.5\nrcodes = []\nblock_for = \"60s\"".to_owned(),
            "4:10",
            "empty list",
        ),
        (
            "kind = \"cache-miss-ratio\"\nratio = 0.5\nminimum_global_hits = 2\nblock_for = \"60s\""
                .to_owned(),
            "4:23",
            "0.0 to 1.0",
        ),
        (
            "kind = \"qtype-rate\"\nqtype = \"ALL\"\nrate = 5\nblock_for = \"60s\"".to_owned(),
            "3:9",
            "kind = \"query-rate\"",
        ),
    ] {
        let message = refusal(&rule(&lines));
        assert!(
            message.starts_with(&format!("/etc/resolver/test.toml:{place}: dynblocks rule 1: ")),
            "{lines}: {message}"
        );
        assert!(message.contains(words), "{lines}: {message}");
    }
    for (lines, place, words) in [
        ("rate = 20", "1:1", "`kind`"),
        ("kind = \"regex\"", "2:8", "`query-rate`"),
        ("kind = \"query-rate\"\nrate = -1", "3:8", "-1"),
        ("kind = \"query-rate\"\nlimit = 1", "3:1", "`limit`"),
        ("kind = \"query-rate\"\nladder = 2", "3:10", "ladder = { slip = 2, second_limit = 10 }"),
        ("kind = \"query-rate\"\ngrowth = { by = 2 }", "3:10", "growth = { factor = 2"),
        ("kind = \"rcode-rate\"\nrcode = true", "3:9", "NXDOMAIN"),
    ] {
        let message = refusal(&rule(lines));
        assert!(message.starts_with(&format!("/etc/resolver/test.toml:{place}: ")), "{lines}: {message}");
        assert!(message.contains(words), "{lines}: {message}");
    }
}
