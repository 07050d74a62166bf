//! Names, with hickory-proto as the second opinion.
//!
//! Where hickory 0.26 differs, on purpose or not, and what the tests do about it:
//! - It prints and reads `\DDD` as octal (RFC 1035 §5.1 says decimal), so its output goes through [`decimal_escapes`].
//! - It prints bytes that it does not read back: `from_ascii` takes letters, digits, `_`, `.`, `-` except at the start of
//!   a label, and the label `*`, however they are escaped. So it reads our text only for names of those.
//! - It reads a pointer where something precedes the name; here nothing does, so it refuses every pointer as we do.
//! - It takes the empty text for a relative name without labels, and ignores a backslash at the end of the text.
//! - Its names may be relative; on the wire and to us they are all absolute.

use std::cmp::Ordering;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use ebpf_filter::{QName, QNameError};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::collection::vec;
use proptest::prelude::*;

/// A name of these labels on the wire, whatever its limits.
fn wire_of(labels: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels.iter().map(AsRef::as_ref) {
        wire.push(u8::try_from(label.len()).expect("a test's label fits its length byte"));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}

fn qname(labels: &[impl AsRef<[u8]>]) -> QName {
    QName::from_wire(&wire_of(labels)).expect("the test's labels make a name")
}

fn parse(text: &str) -> Result<QName, QNameError> {
    text.parse()
}

/// What hickory makes of the name that `wire` starts with: its labels in lower case, and its length.
fn hickory_read(wire: &[u8]) -> Option<(Name, usize)> {
    let mut decoder = BinDecoder::new(wire);
    let name = Name::read(&mut decoder).ok()?;
    Some((name, decoder.index()))
}

fn folded_labels(name: &Name) -> Vec<Vec<u8>> {
    name.iter().map(<[u8]>::to_ascii_lowercase).collect()
}

fn labels(name: &QName) -> Vec<Vec<u8>> {
    name.labels().map(<[u8]>::to_vec).collect()
}

fn hash(name: &QName) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The text with hickory's octal escapes as decimal ones.
fn decimal_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        out.push('\\');
        let len = if escape.starts_with(|c: char| c.is_ascii_digit()) { 3 } else { 1 };
        let (escaped, tail) = escape.split_at(len);
        if len == 3 {
            let byte = u8::from_str_radix(escaped, 8).expect("hickory's escapes are octal bytes");
            write!(out, "{byte:03}").expect("strings take all");
        } else {
            out.push_str(escaped);
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Bytes, the interesting ones more often than chance would have them.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => any::<u8>(),
        4 => proptest::char::range('A', 'z').prop_map(|c| c as u8),
        2 => proptest::sample::select(&b"\0.\\\"();@$ -_*09@[`{\x7f\x80\xc0\xff"[..]),
    ]
}

/// Labels that together may or may not be a name.
fn some_labels() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![
        4 => vec(vec(any_byte(), 1..12), 0..8),
        2 => vec(vec(any_byte(), 1..=63), 0..8),
        1 => vec(vec(any_byte(), 1..=3), 60..140),
        1 => vec(vec(any_byte(), 0..70), 0..6),
        2 => around_the_limit(),
    ]
}

/// Labels of a name of 250 to 259 bytes.
fn around_the_limit() -> impl Strategy<Value = Vec<Vec<u8>>> {
    (250..260_usize, vec(1..=63_usize, 130)).prop_flat_map(|(total, sizes)| {
        let mut left = total - 1;
        let mut lens = Vec::new();
        for size in sizes {
            if left < 2 {
                break;
            }
            let len = size.min(left - 1);
            lens.push(vec(any_byte(), len));
            left -= len + 1;
        }
        lens
    })
}

/// Labels that are a name, for what happens after it was accepted.
fn good_labels() -> impl Strategy<Value = Vec<Vec<u8>>> {
    some_labels().prop_map(|mut labels| {
        labels.retain(|label| (1..=63).contains(&label.len()));
        let mut used = 1;
        labels.retain(|label| {
            let fits = used + 1 + label.len() <= QName::MAX_LEN;
            if fits {
                used += 1 + label.len();
            }
            fits
        });
        labels
    })
}

/// Labels of the bytes that hickory reads from text.
fn plain_labels() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof!["[A-Za-z0-9_.][A-Za-z0-9_.-]{0,20}", Just("*".to_owned())], 0..10)
}

/// Checks one input of any kind against hickory.
fn same_as_hickory(wire: &[u8]) -> Result<(), TestCaseError> {
    let ours = QName::from_wire_prefix(wire);
    match hickory_read(wire) {
        None => prop_assert!(ours.is_err(), "hickory refuses what we read as {ours:?}"),
        Some((theirs, used)) => {
            let (name, ours_used) =
                ours.map_err(|error| TestCaseError::fail(format!("{theirs:?}: {error}")))?;
            prop_assert_eq!(labels(&name), folded_labels(&theirs));
            prop_assert_eq!(ours_used, used);
            prop_assert_eq!(name.as_wire(), wire[..used].to_ascii_lowercase());
            let whole = QName::from_wire(wire);
            match wire.len() - used {
                0 => prop_assert_eq!(whole, Ok(name)),
                count => prop_assert_eq!(whole, Err(QNameError::TrailingBytes { count })),
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn wire_names_are_read_as_by_hickory(labels in some_labels(), behind in vec(any::<u8>(), 0..6)) {
        let mut wire = wire_of(&labels);
        wire.extend(behind);
        same_as_hickory(&wire)?;
    }

    #[test]
    fn damaged_wire_names_are_read_as_by_hickory(
        labels in good_labels(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut wire = wire_of(&labels);
        let at = at.index(wire.len());
        wire[at] = byte;
        same_as_hickory(&wire)?;
        same_as_hickory(&wire[..keep.index(wire.len() + 1)])?;
    }

    #[test]
    fn any_bytes_are_read_as_by_hickory(wire in vec(prop_oneof![any::<u8>(), 0..4_u8], 0..300)) {
        same_as_hickory(&wire)?;
    }

    #[test]
    fn text_round_trips(labels in good_labels()) {
        let name = qname(&labels);
        let text = name.to_string();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{}", text);
        prop_assert!(text.ends_with('.'));
        prop_assert_eq!(parse(&text), Ok(name.clone()));
        prop_assert_eq!(format!("{name:?}"), format!("QName({text})"));
    }

    #[test]
    fn hickory_reads_our_text(labels in plain_labels()) {
        let Ok(name) = QName::from_wire(&wire_of(&labels)) else { return Ok(()) };
        let theirs = Name::from_ascii(name.to_string()).expect("hickory reads plain names");
        prop_assert_eq!(folded_labels(&theirs), self::labels(&name));
        prop_assert!(theirs.is_fqdn());
    }

    #[test]
    fn we_read_hickorys_text(labels in good_labels()) {
        let theirs = Name::from_labels(labels.iter().map(Vec::as_slice)).expect("good labels");
        prop_assert_eq!(parse(&decimal_escapes(&theirs.to_ascii())), Ok(qname(&labels)));
    }

    /// Dots, escaped or not, in all places; too long labels and names.
    #[test]
    fn plain_text_is_accepted_as_by_hickory(
        parts in vec(prop_oneof![6 => "[a-zA-Z0-9_]{1,30}", 5 => Just(".".to_owned()), 1 => Just(r"\.".to_owned())], 1..40),
    ) {
        let text = parts.concat();
        match (parse(&text), Name::from_ascii(&text)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(labels(&ours), folded_labels(&theirs)),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{:?}: {:?}, but hickory {:?}", text, ours, theirs),
        }
    }

    #[test]
    fn any_text_is_an_error_or_round_trips(text in r"(\PC|[.\\0-9a-z]|\\[0-9]{0,4}){0,80}") {
        if let Ok(name) = parse(&text) {
            prop_assert!(text.is_ascii());
            prop_assert_eq!(QName::from_wire(name.as_wire()), Ok(name.clone()));
            prop_assert_eq!(QName::try_from(name.to_string().as_str()), Ok(name));
        }
    }

    #[test]
    fn case_does_not_matter(labels in good_labels(), flips in vec(any::<bool>(), 255)) {
        let flipped: Vec<Vec<u8>> = labels
            .iter()
            .map(|label| label.iter().zip(&flips).map(|(&byte, &flip)| flip_case(byte, flip)).collect())
            .collect();
        let (name, other) = (qname(&labels), qname(&flipped));
        prop_assert_eq!(&name, &other);
        prop_assert_eq!(hash(&name), hash(&other));
        prop_assert_eq!(name.cmp(&other), Ordering::Equal);
    }

    /// One bit apart, so that what only looks like a letter of the other case is tried too.
    #[test]
    fn nothing_but_case_is_folded(labels in good_labels(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let count = labels.iter().map(Vec::len).sum();
        prop_assume!(count > 0);
        let mut changed = labels.clone();
        let byte = changed.iter_mut().flatten().nth(at.index(count)).expect("the index is in range");
        *byte ^= 1 << bit;
        let [theirs, theirs_changed] =
            [&labels, &changed].map(|labels| Name::from_labels(labels.iter().map(Vec::as_slice)).expect("good labels"));
        prop_assert_eq!(qname(&labels) == qname(&changed), theirs == theirs_changed);
    }

    #[test]
    fn names_are_ordered_as_by_hickory(
        mut ours in vec(good_labels(), 2),
        shared in vec(vec(proptest::sample::select(&b"aAbB\0\xff"[..]), 1..3), 0..3),
    ) {
        for labels in &mut ours {
            labels.truncate(2);
            labels.retain(|label| label.len() < 60);
            labels.extend(shared.iter().cloned());
        }
        let names = ours.iter().map(|labels| qname(labels)).collect::<Vec<_>>();
        let theirs = ours
            .iter()
            .map(|labels| Name::from_labels(labels.iter().map(Vec::as_slice)).expect("good labels"))
            .collect::<Vec<_>>();
        prop_assert_eq!(names[0].cmp(&names[1]), theirs[0].cmp(&theirs[1]));
        prop_assert_eq!(names[0] == names[1], theirs[0] == theirs[1]);
    }
}

fn flip_case(byte: u8, flip: bool) -> u8 {
    if flip && byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte }
}

#[test]
fn the_root_is_one_zero_byte() {
    let root = QName::root();
    assert_eq!(root.as_wire(), [0]);
    assert_eq!(root.to_string(), ".");
    assert_eq!(root.labels().count(), 0);
    assert!(root.is_root());
    assert_eq!(QName::from_wire(&[0]), Ok(root.clone()));
    assert_eq!(QName::from_wire_prefix(&[0, 1, 2]), Ok((root.clone(), 1)));
    assert_eq!(parse("."), Ok(root));
    assert!(!qname(&["a"]).is_root());
}

#[test]
fn a_label_has_one_to_63_bytes() {
    assert_eq!(parse("a").unwrap().as_wire(), b"\x01a\0");
    let longest = "x".repeat(63);
    assert_eq!(parse(&longest).unwrap().to_string(), format!("{longest}."));
    assert_eq!(QName::from_wire(&wire_of(&[&longest])), parse(&longest));

    for len in [64, 65, 191, 192, 255, 256, 300, 70_000] {
        assert_eq!(parse(&"x".repeat(len)), Err(QNameError::LabelTooLong), "{len}");
        assert_eq!(parse(&format!("a.{}.com", r"\120".repeat(len))), Err(QNameError::LabelTooLong), "{len}");
    }
    for len in [64, 65, 127, 128, 191] {
        assert_eq!(QName::from_wire(&wire_of(&["x".repeat(len)])), Err(QNameError::LabelTooLong), "{len}");
    }
}

#[test]
fn a_name_has_at_most_255_bytes() {
    let label = "x".repeat(63);
    let longest = [label.as_str(), &label, &label, &label[..61]];
    assert_eq!(wire_of(&longest).len(), 255);
    let name = qname(&longest);
    assert_eq!(name.as_wire().len(), QName::MAX_LEN);
    let text = longest.join(".");
    assert_eq!(parse(&text), Ok(name.clone()));
    assert_eq!(parse(&format!("{text}.")), Ok(name.clone()));
    assert_eq!(QName::from_wire_prefix(&[name.as_wire(), b"\0\x01\0\x01"].concat()), Ok((name, 255)));

    let longer = [label.as_str(), &label, &label, &label[..62]];
    assert_eq!(wire_of(&longer).len(), 256);
    assert_eq!(QName::from_wire(&wire_of(&longer)), Err(QNameError::NameTooLong));
    let text = longer.join(".");
    assert_eq!(parse(&text), Err(QNameError::NameTooLong));
    assert_eq!(parse(&format!("{text}.")), Err(QNameError::NameTooLong));
}

#[test]
fn a_name_has_at_most_127_labels() {
    let name = qname(&["a"; 127]);
    assert_eq!(name.as_wire().len(), 255);
    assert_eq!(name.labels().count(), 127);
    assert_eq!(name.to_string(), "a.".repeat(127));
    assert_eq!(parse(&name.to_string()), Ok(name));

    assert_eq!(QName::from_wire(&wire_of(&["a"; 128])), Err(QNameError::NameTooLong));
    assert_eq!(parse(&"a.".repeat(128)), Err(QNameError::NameTooLong));
    assert_eq!(parse(&("a.".repeat(127) + ".")), Err(QNameError::EmptyLabel { at: 254 }));
}

#[test]
fn wire_errors_say_what_is_wrong() {
    for (wire, error) in [
        (&b""[..], QNameError::Truncated),
        (b"\x03", QNameError::Truncated),
        (b"\x03co", QNameError::Truncated),
        (b"\x03com", QNameError::Truncated),
        (b"\xc0\x0c", QNameError::Compressed),
        (b"\xff", QNameError::Compressed),
        (b"\x03www\xc0\x00", QNameError::Compressed),
        (b"\x40", QNameError::LabelTooLong),
        (b"\x03www\x80\0", QNameError::LabelTooLong),
        (b"\x03com\0\0", QNameError::TrailingBytes { count: 1 }),
        (b"\0\x03com\0", QNameError::TrailingBytes { count: 5 }),
    ] {
        assert_eq!(QName::from_wire(wire), Err(error), "{wire:02x?}");
    }
}

#[test]
fn text_errors_say_where() {
    for (text, error) in [
        ("", QNameError::Empty),
        ("..", QNameError::EmptyLabel { at: 0 }),
        (".a", QNameError::EmptyLabel { at: 0 }),
        ("a..b", QNameError::EmptyLabel { at: 2 }),
        ("a.b..", QNameError::EmptyLabel { at: 4 }),
        (r"a\", QNameError::BadEscape { at: 1 }),
        (r"\1", QNameError::BadEscape { at: 0 }),
        (r"\12", QNameError::BadEscape { at: 0 }),
        (r"\12.a", QNameError::BadEscape { at: 0 }),
        (r"ab.\256", QNameError::BadEscape { at: 3 }),
        (r"\999", QNameError::BadEscape { at: 0 }),
        ("example.com ", QNameError::NotPrintable { at: 11 }),
        ("a\tb", QNameError::NotPrintable { at: 1 }),
        ("a\0", QNameError::NotPrintable { at: 1 }),
        ("a\u{7f}", QNameError::NotPrintable { at: 1 }),
        ("bücher.example", QNameError::NotAscii { at: 1 }),
        (r"\ü", QNameError::NotAscii { at: 1 }),
        (r"\1ü3", QNameError::BadEscape { at: 0 }),
    ] {
        assert_eq!(parse(text), Err(error), "{text:?}");
        assert_eq!(QName::try_from(text), Err(error), "{text:?}");
    }
}

#[test]
fn error_messages_are_complete() {
    assert_eq!(
        QNameError::NameTooLong.to_string(),
        "the name is longer than 255 bytes on the wire: no query can carry it, shorten it"
    );
    assert_eq!(
        QNameError::EmptyLabel { at: 7 }.to_string(),
        r#"no label in front of the dot at byte 7: remove the dot, or write "\." if it is part of a label"#
    );
    assert!(QNameError::NotAscii { at: 1 }.to_string().contains(r#""xn--..."), or single bytes as "\DDD""#));
}

#[test]
fn escapes_are_read_and_written() {
    for (text, label, printed) in [
        (r"a\.b", &b"a.b"[..], r"a\.b."),
        (r"a\046b", b"a.b", r"a\.b."),
        (r"a\\b", b"a\\b", r"a\\b."),
        (r"\097\066", b"ab", "ab."),
        (r"\000", b"\0", r"\000."),
        (r"\032", b" ", r"\032."),
        (r"\ ", b" ", r"\032."),
        ("\\\t", b"\t", r"\009."),
        (r"\255\127\128", b"\xff\x7f\x80", r"\255\127\128."),
        (r"\0651", b"a1", "a1."),
        (r"\@$;", b"@$;", r"\@\$\;."),
        (r#""(q)""#, b"\"(q)\"", r#"\"\(q\)\"."#),
        ("!#%&'*+,-/:<=>?[]^_`{|}~", b"!#%&'*+,-/:<=>?[]^_`{|}~", "!#%&'*+,-/:<=>?[]^_`{|}~."),
    ] {
        let name = parse(text).unwrap();
        assert!(name.labels().eq([label]), "{text}");
        assert_eq!(name.to_string(), printed, "{text}");
        assert_eq!(parse(printed), Ok(name), "{text}");
    }
}

#[test]
fn dots_and_zeros_inside_labels_do_not_end_them() {
    let name = qname(&[&b"a\0b"[..], b".", b"\0", b"com"]);
    assert_eq!(name.to_string(), r"a\000b.\..\000.com.");
    assert_eq!(name.labels().count(), 4);
    assert_ne!(qname(&["a.b"]), qname(&["a", "b"]));
    assert_ne!(qname(&["a\x01b"]), qname(&["a", "b"]));
}

#[test]
fn only_ascii_letters_are_folded() {
    assert_eq!(parse("WwW.ExAmPlE").unwrap().as_wire(), b"\x03www\x07example\0");
    assert_eq!(parse(r"@[`{\192\224").unwrap().as_wire(), b"\x06@[`{\xc0\xe0\0");
}

/// The list of RFC 4034 §6.1.
#[test]
fn the_order_is_the_canonical_one() {
    let sorted = [
        ".",
        "example",
        "a.example",
        "yljkjljk.a.example",
        "Z.a.example",
        "zABC.a.EXAMPLE",
        "z.example",
        r"\001.z.example",
        "*.z.example",
        r"\200.z.example",
    ]
    .map(|text| parse(text).unwrap());
    assert!(sorted.is_sorted_by(|a, b| a < b));
}

#[test]
fn names_can_be_padded() {
    assert_eq!(format!("[{:>6}]", parse("a").unwrap()), "[    a.]");
    assert_eq!(format!("[{:<3}]", QName::root()), "[.  ]");
}

/// If this fails, hickory writes decimal escapes at last: [`decimal_escapes`] and a note on `QName` can go.
#[test]
fn hickory_writes_octal_escapes() {
    let name = Name::from_labels([&b"a b"[..]]).unwrap();
    assert_eq!(name.to_ascii(), r"a\040b.");
    assert_eq!(qname(&["a b"]).to_string(), r"a\032b.");
}

#[cfg(feature = "hickory")]
mod from_hickory {
    use hickory_proto::rr::LowerName;

    use super::*;

    proptest! {
        #[test]
        fn names_keep_their_labels(labels in good_labels(), absolute in any::<bool>()) {
            let mut theirs = Name::from_labels(labels.iter().map(Vec::as_slice)).expect("good labels");
            theirs.set_fqdn(absolute);
            prop_assert_eq!(QName::try_from(&theirs), Ok(qname(&labels)));
            prop_assert_eq!(QName::try_from(&LowerName::from(theirs)), Ok(qname(&labels)));
        }
    }

    #[test]
    fn the_limits_are_the_same() {
        assert_eq!(QName::try_from(&Name::root()), Ok(QName::root()));
        let longest = ["a"; 127];
        assert_eq!(QName::try_from(&Name::from_labels(longest).unwrap()), Ok(qname(&longest)));
    }
}
