//! Names: every input is read as wire form and as text, taken through every conversion, and compared with
//! hickory-proto. `ebpf-filter/tests/qname.rs` says where the two differ and why.

#![no_main]

use std::fmt::Write as _;

use ebpf_filter::{QName, QNameError};
use hickory_proto::rr::{LowerName, Name};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    wire(data);
    if let Ok(data) = std::str::from_utf8(data) {
        text(data);
    }
});

fn wire(data: &[u8]) {
    let mut decoder = BinDecoder::new(data);
    let theirs = Name::read(&mut decoder);
    match (QName::from_wire_prefix(data), theirs) {
        (Ok((ours, used)), Ok(theirs)) => {
            assert_eq!(used, decoder.index());
            assert_eq!(ours.as_wire(), data[..used].to_ascii_lowercase());
            let expected = match data.len() - used {
                0 => Ok(ours.clone()),
                count => Err(QNameError::TrailingBytes { count }),
            };
            assert_eq!(QName::from_wire(data), expected);
            name(&ours, &theirs);
            // hickory's text holds the same name once its octal escapes are decimal.
            assert_eq!(decimal_escapes(&theirs.to_ascii()).parse(), Ok(ours));
        }
        (Err(error), Err(_)) => assert_eq!(QName::from_wire(data), Err(error)),
        (ours, theirs) => panic!("wire: we say {ours:?}, hickory {theirs:?}"),
    }
}

fn text(data: &str) {
    let ours = data.parse::<QName>();
    assert_eq!(ours, data.try_into());
    if let Ok(ours) = &ours {
        assert!(data.is_ascii());
        let theirs = Name::from_labels(ours.labels()).expect("hickory takes any labels within the limits");
        name(ours, &theirs);
    }
    if means_the_same_to_hickory(data) {
        match (ours, Name::from_ascii(data)) {
            (Ok(ours), Ok(theirs)) => same_labels(&ours, &theirs),
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("text: we say {ours:?}, hickory {theirs:?}"),
        }
    }
}

/// What holds for every name.
fn name(ours: &QName, theirs: &Name) {
    same_labels(ours, theirs);
    assert_eq!(QName::try_from(theirs).as_ref(), Ok(ours));
    assert_eq!(QName::try_from(&LowerName::from(theirs)).as_ref(), Ok(ours));
    assert_eq!(QName::from_wire(ours.as_wire()).as_ref(), Ok(ours));
    assert_eq!(ours.is_root(), theirs.is_root());

    let text = ours.to_string();
    assert!(text.ends_with('.') && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    assert_eq!(text.parse().as_ref(), Ok(ours));
    assert_eq!(text.to_ascii_uppercase().parse().as_ref(), Ok(ours));
}

fn same_labels(ours: &QName, theirs: &Name) {
    assert!(ours.labels().eq(theirs.iter().map(<[u8]>::to_ascii_lowercase)), "{ours}, {theirs}");
}

/// Whether hickory's text parser and ours have to agree: it takes few bytes in a label, and has octal escapes.
fn means_the_same_to_hickory(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
}

fn decimal_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c != '\\' {
            continue;
        }
        let first = chars.next().expect("hickory finishes its escapes");
        if first.is_ascii_digit() {
            let value = [Some(first), chars.next(), chars.next()]
                .into_iter()
                .map(|digit| digit.and_then(|digit| digit.to_digit(8)).expect("hickory's escapes are octal"))
                .fold(0, |value, digit| value * 8 + digit);
            write!(out, "{value:03}").expect("strings take all");
        } else {
            out.push(first);
        }
    }
    out
}
