//! What configurations mean, and how wrong ones are told.

mod dynblocks;
mod pins;
mod rules;

use super::*;

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/resolver/test.toml"))
}

/// The message of the error that `text` must give.
fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// `config.example.toml` with the lines that show keys without a default.
fn complete_example() -> String {
    let uncomment = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first == '[' || first.is_ascii_lowercase()) => key,
        _ => line,
    };
    EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(format!("{:?}", parse("").unwrap()), format!("{:?}", Config::default()));
}

#[test]
fn the_example_states_the_defaults() {
    let example = parse(EXAMPLE).unwrap();
    assert!(!example.listen.optional_ipv6, "addresses that are written down are meant");

    let listen = Listen { optional_ipv6: true, ..example.listen };
    assert_eq!(format!("{:?}", Config { listen, ..example }), format!("{:?}", Config::default()));
}

#[test]
fn the_example_shows_every_key() {
    let text = complete_example();
    let config = parse(&text).unwrap();

    assert_eq!(config.zones.len(), 1);
    assert_eq!(config.zones[0].file, Path::new("/etc/resolver/zones/example.zone"));
    assert_eq!(config.forward.unwrap().upstreams.len(), 2);
    assert_eq!(
        config.filter.rules.to_string(),
        "1 IPv4 address, 1 IPv6 address, 2 IPv4 range, 1 IPv6 range, 4 name, 4 suffix rules"
    );
    // The schema cannot be listed, but a wrong key lists its table.
    assert_eq!(config.dynblocks.unwrap().rules.len(), 10);
    for table in [
        "",
        "[listen]",
        "[[zones]]",
        "[forward]",
        "[filter]",
        "[[filter.rules]]",
        "[dynblocks]",
        "[[dynblocks.rules]]",
    ] {
        let message = refusal(&format!("{table}\nno_such_key = 1"));
        let (_, keys) = message.split_once("expected ").unwrap_or_else(|| panic!("{message}"));
        for key in keys.split('`').skip(1).step_by(2) {
            let shown = [format!("{key} = "), format!("[{key}]"), format!("[{key}."), format!(".{key}]]")]
                .iter()
                .any(|form| text.contains(form));
            assert!(shown, "{key} of {table}");
        }
    }
}

#[test]
fn the_example_explains_every_word() {
    for (text, count) in [
        ("filter.mode = \"?\"", 3),
        ("filter.malformed = \"?\"", 2),
        ("[[filter.rules]]\nkind = \"?\"", 4),
        ("[[filter.rules]]\naction = \"?\"", 7),
        ("[dynblocks]\naction = \"?\"", 6),
        ("[[dynblocks.rules]]\nkind = \"?\"", 9),
        ("[[dynblocks.rules]]\naction = \"?\"", 6),
        ("[[dynblocks.rules]]\nscope = \"?\"", 3),
        ("[[dynblocks.rules]]\ncount = \"?\"", 3),
    ] {
        let message = refusal(text);
        let (_, words) = message.split_once("expected ").unwrap_or_else(|| panic!("{message}"));
        let words: Vec<_> = words.split('`').skip(1).step_by(2).collect();
        assert_eq!(words.len(), count, "{message}");
        for word in words {
            let explained = ["  ", " (", ":", ","].map(|after| format!("\"{word}\"{after}"));
            assert!(
                explained.iter().any(|text| EXAMPLE.contains(text))
                    || EXAMPLE.contains(&format!("or \"{word}\"")),
                "{word}"
            );
        }
    }
}

#[test]
fn the_example_cache_size_is_the_default() {
    let without = parse("[forward]\nupstreams = [\"192.0.2.53\"]").unwrap();
    let example = parse(&complete_example()).unwrap();
    assert_eq!(without.forward.unwrap().cache_size, example.forward.unwrap().cache_size);
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/test.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/test.toml"), "{error}");
}

#[test]
fn unknown_keys_and_words_are_located() {
    for (text, place, word) in [
        ("[listen]\n\nport = 53", ":3:1", "`port`"),
        ("[dynblock]", ":1:2", "`dynblock`"),
        ("[filter]\nmode = \"maybe\"", ":2:8", "`maybe`"),
        ("[filter]\nipv4_max = -1", ":2:12", "-1"),
        ("[filter]\nranges4_max = \"9\"", ":2:15", "string"),
        ("[filter]\nranges6_max = -1", ":2:15", "-1"),
        ("[filter]\nsuffixes_max = 0.5", ":2:16", "0.5"),
        ("[filter]\nsuffix_max = 1", ":2:1", "`suffix_max`"),
        ("[[filter.rules]]\nkind = \"regex\"\nvalue = \"a\"", ":2:8", "`regex`"),
        ("[[filter.rules]]\nkind = \"qname\"\nvalue = \"a\"\naction = \"tarpit\"", ":4:10", "`tarpit`"),
        ("[[filter.rules]]\nkind = \"qname\"\nvalue = \"a\"\nexpires = \"5m\"", ":4:1", "`expires`"),
        ("[[filter.rules]]\nkind = \"qname\"\nvalue = \"a\"\nqtype = true", ":4:9", "TYPE65"),
        ("[[filter.rules]]\nkind = \"qname\"", ":1:1", "`value`"),
        ("[[zones]]\norigin = \"a\"", ":1:1", "`file`"),
        ("[listen", ":1:8", "]"),
    ] {
        let message = refusal(text);
        assert!(message.starts_with(&format!("/etc/resolver/test.toml{place}: ")), "{text}: {message}");
        assert!(message.contains(word), "{text}: {message}");
    }
}

#[test]
fn listen_addresses_are_checked() {
    for (text, place, words) in [
        ("dns = []", ":2:7", "empty"),
        ("dns = [\"127.0.0.1\"]", ":2:8", "\"127.0.0.1\" is not an address"),
        ("dns = [\"localhost:53\"]", ":2:8", "localhost:53"),
        ("dns = [\"[::1]:53\",\n\"[::1]:53\"]", ":3:1", "twice"),
        ("udp_sockets = 0", ":2:15", "udp_sockets = 0"),
        ("udp_sockets = 257", ":2:15", "256"),
    ] {
        let message = refusal(&format!("[listen]\n{text}"));
        assert!(message.contains(&format!("{place}: ")) && message.contains(words), "{text}: {message}");
    }

    let listen = parse("[listen]\ndns = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nudp_sockets = 7").unwrap().listen;
    assert_eq!((listen.addresses.len(), listen.udp_sockets, listen.optional_ipv6), (2, 7, false));
}

#[test]
fn zones_are_relative_to_the_file_and_different() {
    let zones = parse(
        "[[zones]]\norigin = \"a.test\"\nfile = \"z/a\"\n[[zones]]\norigin = \"b.test.\"\nfile = \"/b\"",
    )
    .unwrap()
    .zones;
    assert_eq!(zones[0].origin.to_string(), "a.test.");
    assert_eq!(zones[0].file, Path::new("/etc/resolver/z/a"));
    assert_eq!(zones[1].file, Path::new("/b"));

    let message = refusal(
        "[[zones]]\norigin = \"a.test\"\nfile = \"a\"\n[[zones]]\norigin = \"A.Test.\"\nfile = \"b\"",
    );
    assert!(message.contains(":5:10: ") && message.contains("line 2"), "{message}");

    let message = refusal("[[zones]]\norigin = \"a..b\"\nfile = \"a\"");
    assert!(message.contains(":2:10: ") && message.contains("a..b"), "{message}");

    let message = refusal("forward.upstreams = [\"192.0.2.53\"]\n[[zones]]\norigin = \".\"\nfile = \"a\"");
    assert!(message.contains(":3:10: ") && message.contains("root"), "{message}");
}

#[test]
fn upstreams_have_a_default_port() {
    let forward = parse("[forward]\nupstreams = [\"192.0.2.53\", \"2001:db8::53\", \"[2001:db8::53]:5353\"]")
        .unwrap()
        .forward
        .unwrap();
    assert_eq!(
        forward.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.53:53", "[2001:db8::53]:53", "[2001:db8::53]:5353"]
    );
}

#[test]
fn upstreams_are_checked() {
    for (upstreams, words) in [
        ("[]", "empty"),
        ("[\"dns.test\"]", "dns.test"),
        ("[\"0.0.0.0\"]", "0.0.0.0"),
        ("[\"192.0.2.53:0\"]", ":0"),
        ("[\"192.0.2.53\", \"192.0.2.53:53\"]", "twice"),
        ("[\"127.0.0.1:5300\"]", "this server itself"),
    ] {
        let message = refusal(&format!("[forward]\nupstreams = {upstreams}"));
        assert!(message.contains(":2:") && message.contains(words), "{upstreams}: {message}");
    }
    assert!(refusal("[forward]").contains("`upstreams`"));
}

#[test]
fn there_is_room_of_each_kind() {
    use ebpf_filter::Kind;

    let settings = Kind::ALL.into_iter().enumerate();
    let settings: Vec<_> =
        settings.map(|(index, kind)| format!("filter.{} = {index}", kind.setting())).collect();
    let (set, default) = (parse(&settings.join("\n")).unwrap().filter, Config::default().filter);
    for (index, kind) in (0..).zip(Kind::ALL) {
        assert_eq!((set.max(kind), default.max(kind)), (index, 1024), "{kind}");
    }
}
