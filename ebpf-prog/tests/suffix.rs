//! The suffixes of a name: their keys, and their canonical form.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_prog::{
    Malformed,
    canonical::canonical,
    message::{HEADER_LEN, MAX_READ, Message, SuffixKey},
    name::MAX_LEN,
    rule::Seed,
    shape::Shape,
    turns::Plain,
};
use proptest::{collection::vec, prelude::*};

fn header() -> Vec<u8> {
    vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// The suffixes of the name in a query, as a decision goes through them: key, whether it is the whole name, canonical form.
fn suffixes(query: &[u8], before: &[u8]) -> Vec<(SuffixKey, bool, Vec<u8>)> {
    let (mut message, _) = Message::from_payload(before);
    let loaded = query.len().min(MAX_READ);
    message.payload_mut()[..loaded].copy_from_slice(&query[..loaded]);
    let len = message.question(loaded).unwrap().name_len;
    message.start_suffixes::<Plain>(len);
    let mut suffixes = Vec::new();
    let mut at = 0;
    while let Some(key) = message.suffix() {
        message.canonicalize::<Plain>(Seed::new(1, 2));
        let bytes = message.canonical_bytes();
        let padded = ((len - at).next_multiple_of(8) + 16).min(bytes.len());
        assert!(bytes[len - at..padded].iter().all(|byte| *byte == 0), "zeroes follow: {bytes:02x?}");
        suffixes.push((key, message.is_whole(), bytes[..len - at].to_vec()));
        at += usize::from(query[HEADER_LEN + at]) + 1;
        message.next_suffix();
    }
    suffixes
}

fn key_alone(name: &[u8]) -> SuffixKey {
    let (mut message, question) = Message::for_question(name, 0);
    message.start_suffixes::<Plain>(question.name_len);
    assert!(message.is_whole());
    message.suffix().unwrap()
}

/// The number of a name, in so many words: a byte counts without its case, 256 times as much as the one before.
fn number(name: &[u8]) -> u64 {
    let modulus = (1 << 63) - 1;
    let number = name.iter().rev().fold(0_u128, |sum, byte| (sum * 256 + u128::from(byte & !0x20)) % modulus);
    u64::try_from(number).unwrap()
}

fn query(name: &[u8], rest: &[u8]) -> Vec<u8> {
    [&header()[..], name, &[0, 1, 0, 1], rest].concat()
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(proptest::char::range('!', 'z').prop_map(|c| c as u8), 1..12),
        1 => vec(any::<u8>(), 1..=63),
        1 => vec(prop_oneof![Just(0xff_u8), Just(0xdf), Just(0)], 1..=63),
    ]
}

/// A name that is no longer than names may be.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(label(), 0..8), vec(label(), 0..127), vec(vec(any::<u8>(), 1), 120..=127)].prop_map(
        |labels| {
            let mut name = Vec::new();
            for label in labels {
                if name.len() + label.len() + 2 > MAX_LEN {
                    break;
                }
                name.push(u8::try_from(label.len()).unwrap());
                name.extend(label);
            }
            name.push(0);
            name
        },
    )
}

/// Where the suffixes of a name start.
fn starts(name: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    while name[at] != 0 {
        at += usize::from(name[at]) + 1;
        starts.push(at);
    }
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Wherever a suffix starts in a word, in any case, and whatever the buffer held before.
    #[test]
    fn a_suffix_has_the_key_and_the_form_that_it_has_alone(
        name in name(),
        upper in any::<bool>(),
        rest in vec(any::<u8>(), 0..30),
        before in vec(any::<u8>(), MAX_READ),
    ) {
        let written = if upper { name.to_ascii_uppercase() } else { name.clone() };
        let suffixes = suffixes(&query(&written, &rest), &before);
        let starts = starts(&name);
        prop_assert_eq!(suffixes.len(), starts.len());
        for ((key, whole, form), start) in suffixes.into_iter().zip(starts) {
            let alone = name[start..].to_ascii_lowercase();
            prop_assert_eq!(whole, start == 0);
            prop_assert_eq!(&form, &alone);
            prop_assert_eq!(key, key_alone(&alone));
            prop_assert_eq!(key.number(), number(&alone));
            prop_assert_eq!(Shape::of_suffix(key), Shape::of_suffix(key_alone(&name[start..])));
        }
    }

    /// Labels of every length in front move a suffix through all words.
    #[test]
    fn alignment_does_not_matter(name in name(), len in 1..=63_usize, byte in any::<u8>()) {
        let label = [&[u8::try_from(len).unwrap()][..], &vec![byte; len]].concat();
        let start = starts(&name).into_iter().find(|start| label.len() + name.len() - start <= MAX_LEN).unwrap();
        let name = &name[start..];
        let longer = [&label[..], name].concat();
        let keys = |name: &[u8]| suffixes(&query(name, &[]), &[]).into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        prop_assert_eq!(&keys(&longer)[1..], &keys(name)[..]);
    }

    #[test]
    fn canonical_names_are_lower_case(name in name(), rest in vec(any::<u8>(), 0..20)) {
        let with_rest = [&name[..], &rest].concat();
        prop_assert_eq!(canonical(&with_rest).unwrap().as_wire().to_vec(), name.to_ascii_lowercase());
    }
}

#[test]
fn no_name_has_more_suffixes() {
    let most = [&b"\x01q".repeat(127)[..], &[0]].concat();
    assert_eq!(suffixes(&query(&most, &[]), &[]).len(), Message::MAX_SUFFIXES);
    assert_eq!(suffixes(&query(&[0], &[]), &[]).len(), 1);
}

/// A number of all ones is the modulus, which is zero: the same wherever the name starts.
#[test]
fn the_modulus_is_zero() {
    for len in 1..=60 {
        let name = [&[len][..], &vec![0xff; len.into()], &[0]].concat();
        assert_eq!(key_alone(&name).number(), number(&name), "{len}");
    }
}

/// Easily made: two of a letter in one word weigh as much as one in the next. Such names differ in their bytes alone.
#[test]
fn other_names_may_have_the_same_key() {
    let [one, other] = [&b"\x0faaaaaaa-bbbbbbb\x00"[..], b"\x0fcaaaaaa-abbbbbb\x00"];
    assert_ne!(one, other);
    assert_eq!(key_alone(one), key_alone(other));
}

#[test]
fn only_names_are_canonical() {
    assert_eq!(canonical(b"\x03www").unwrap_err(), Malformed::Truncated);
    assert_eq!(canonical(b"").unwrap_err(), Malformed::Truncated);
    assert_eq!(canonical(b"\xc0\x0c").unwrap_err(), Malformed::Pointer);
    assert_eq!(canonical(b"\x40").unwrap_err(), Malformed::LabelTooLong);
    assert_eq!(canonical(&b"\x01a".repeat(128)).unwrap_err(), Malformed::NameTooLong);
}
