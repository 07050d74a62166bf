//! The parser against hickory-proto: whatever bytes come, both read the same question or neither reads one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_prog::{
    Malformed,
    message::{HEADER_LEN, MAX_READ, Message},
    name,
    rule::Seed,
    shape::Shape,
    turns::Plain,
};
use hickory_proto::{
    op::Query,
    rr::Name,
    serialize::binary::{BinDecodable as _, BinDecoder},
};
use proptest::{collection::vec, prelude::*, sample::Index};

/// What our parser makes of a datagram: the canonical name and the type.
fn ours(datagram: &[u8]) -> Result<(Vec<u8>, u16), Malformed> {
    let (mut message, loaded) = Message::from_payload(datagram);
    let question = message.question(loaded)?;
    let name = canonical(&mut message, question.name_len);
    assert_eq!(question.shape, Shape::of(&name), "the case of a name does not change its shape");
    Ok((name, question.qtype))
}

/// The canonical name in a message that was read.
fn canonical(message: &mut Message, len: usize) -> Vec<u8> {
    message.start_suffixes::<Plain>(len);
    message.canonicalize::<Plain>(Seed::new(1, 2));
    let bytes = message.canonical_bytes();
    let padded = (len.next_multiple_of(8) + 16).min(bytes.len());
    assert!(bytes[len..padded].iter().all(|byte| *byte == 0), "zeroes follow: {bytes:02x?}");
    bytes[..len].to_vec()
}

/// What hickory makes of it, for a name without compression.
fn theirs(datagram: &[u8]) -> Option<(Vec<u8>, u16)> {
    if u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]) == 0 {
        return None;
    }
    let mut decoder = BinDecoder::new(datagram);
    decoder.read_slice(HEADER_LEN).ok()?;
    let query = Query::read(&mut decoder).ok()?;
    Some((wire(query.name()), query.query_type().into()))
}

fn wire(name: &Name) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.to_ascii_lowercase());
    }
    wire.push(0);
    wire
}

fn header(questions: u16) -> Vec<u8> {
    let mut header = vec![0x12, 0x34, 0x01, 0x00];
    header.extend(questions.to_be_bytes());
    header.extend([0; 6]);
    header
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(proptest::char::range('!', 'z').prop_map(|c| c as u8), 1..12),
        1 => vec(any::<u8>(), 1..=63),
    ]
}

/// A query whose name may be too long.
fn query() -> impl Strategy<Value = Vec<u8>> {
    (vec(label(), 0..130), any::<u16>(), vec(any::<u8>(), 0..20)).prop_map(|(labels, qtype, rest)| {
        let mut query = header(1);
        for label in labels {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label);
        }
        query.push(0);
        query.extend(qtype.to_be_bytes());
        query.extend([0, 1]);
        query.extend(rest);
        query
    })
}

/// A query that was cut off, or of which bytes were changed.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    (query(), vec((any::<Index>(), any::<u8>()), 0..4), any::<Index>()).prop_map(
        |(mut query, changes, end)| {
            for (at, byte) in changes {
                let at = at.index(query.len());
                query[at] = byte;
            }
            let end = end.index(query.len() + 1);
            query.truncate(end);
            query
        },
    )
}

fn agree(datagram: &[u8]) {
    match (ours(datagram), theirs(datagram)) {
        (Ok(ours), Some(theirs)) => assert_eq!(ours, theirs),
        (Err(Malformed::Pointer), _) | (Err(_), None) => {}
        (ours, theirs) => panic!("we read {ours:?}, hickory reads {theirs:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn queries_are_read_as_hickory_reads_them(query in query()) {
        agree(&query);
    }

    #[test]
    fn broken_queries_are_refused_as_hickory_refuses_them(datagram in broken()) {
        agree(&datagram);
    }

    #[test]
    fn any_bytes_are_read_as_hickory_reads_them(datagram in vec(any::<u8>(), 0..300)) {
        agree(&datagram);
    }

    #[test]
    fn folding_is_ascii_lower_case(bytes in any::<[u8; 8]>()) {
        prop_assert_eq!(name::fold(u64::from_le_bytes(bytes)).to_le_bytes().to_vec(), bytes.to_ascii_lowercase());
    }

    /// In the kernel, the buffer still holds the packet before: nothing of it may be read.
    #[test]
    fn what_was_in_the_buffer_does_not_matter(before in vec(any::<u8>(), MAX_READ), datagram in broken()) {
        let loaded = datagram.len().min(MAX_READ);
        let (mut used, _) = Message::from_payload(&before);
        used.payload_mut()[..loaded].copy_from_slice(&datagram[..loaded]);
        let read = used.question(loaded).map(|question| {
            assert_eq!(question.shape, Shape::of(&canonical(&mut used.clone(), question.name_len)));
            (canonical(&mut used, question.name_len), question.qtype)
        });
        prop_assert_eq!(read, ours(&datagram));
    }
}

fn with_name(name: &[u8]) -> Vec<u8> {
    let mut query = header(1);
    query.extend(name);
    query.extend([0, 1, 0, 1]);
    query
}

#[test]
fn every_truncation_of_a_query_is_malformed() {
    let query = with_name(b"\x03www\x07example\x00");
    for end in 0..query.len() {
        let expected = if end < HEADER_LEN { Malformed::TooShort } else { Malformed::Truncated };
        assert_eq!(ours(&query[..end]), Err(expected), "cut off after {end} bytes");
    }
    assert_eq!(ours(&query), Ok((b"\x03www\x07example\x00".to_vec(), 1)));
}

#[test]
fn reasons_are_told_apart() {
    assert_eq!(ours(&header(0)), Err(Malformed::NoQuestion));
    assert_eq!(ours(&with_name(b"\x40")), Err(Malformed::LabelTooLong));
    assert_eq!(ours(&with_name(b"\x80")), Err(Malformed::LabelTooLong));
    assert_eq!(ours(&with_name(b"\x01a\xbf")), Err(Malformed::LabelTooLong));
    assert_eq!(ours(&with_name(b"\xc0\x0c")), Err(Malformed::Pointer));
    assert_eq!(ours(&with_name(b"\x01a\xff")), Err(Malformed::Pointer));
}

#[test]
fn the_longest_name_has_255_bytes() {
    let mut labels = [b"\x3f".to_vec(), vec![b'A'; 63]].concat().repeat(3);
    labels.extend([b"\x3d".to_vec(), vec![b'b'; 61]].concat());
    labels.push(0);
    assert_eq!(labels.len(), 255);
    assert_eq!(ours(&with_name(&labels)), Ok((labels.to_ascii_lowercase(), 1)));

    labels.pop();
    labels.extend(b"\x01c\x00");
    assert_eq!(ours(&with_name(&labels)), Err(Malformed::NameTooLong));

    let mut letters = b"\x01x".repeat(127);
    letters.push(0);
    assert_eq!(ours(&with_name(&letters)), Ok((letters.clone(), 1)));
}

#[test]
fn the_root_is_a_name() {
    assert_eq!(ours(&with_name(b"\x00")), Ok((b"\x00".to_vec(), 1)));
}

/// A pointer can only mean bytes in front of it, and those are the header: hickory follows it, we do not.
#[test]
fn hickory_follows_a_pointer_into_the_header() {
    let sneaky = with_name(b"\x04evil\xc0\x04");
    assert_eq!(ours(&sneaky), Err(Malformed::Pointer));
    assert_eq!(theirs(&sneaky).map(|(name, _)| name), Some(b"\x04evil\x00".to_vec()));
}
