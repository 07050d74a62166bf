//! Names that lie close to each other: below one another, alike at a glance, or at the ends of what a name can be.

use ebpf_filter::QName;

use super::bytes::Bytes;
use crate::dns::wire_name;

/// Chosen most: these meet all the time.
const NESTED: [&[&[u8]]; 16] = [
    &[b"evil", b"example"],
    &[b"www", b"evil", b"example"],
    &[b"example"],
    &[],
    &[b"a", b"www", b"evil", b"example"],
    &[b"notevil", b"example"],
    &[b"vil", b"example"],
    &[b"evilexample"],
    &[b"evil.example"],
    &[b"evil", b"example", b"com"],
    &[b"com"],
    &[b"example", b"evil"],
    &[b"\0", b"example"],
    &[b"a.evil\0", b"example"],
    // A label that looks like two.
    &[b"evil\x07example"],
    &[b"[@`{\xc0\xe0", b"evil", b"example"],
];

const LABELS: [&[u8]; 16] = [
    b"example",
    b"evil",
    b"www",
    b"a",
    b"b",
    b"com",
    b"aa",
    b"notevil",
    b"\0",
    b".",
    b"\x04evil",
    b"\xff\x80",
    b"0-9_",
    b"a-label-of-24-bytes-total",
    b"this-label-has-thirty-three-bytes",
    &[b'x'; 63],
];

/// The most labels that a name can have.
const MOST_LABELS: usize = 127;

/// A name in wire form.
pub fn name(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let kind = bytes.byte();
    match kind {
        0..160 => wire_name(NESTED[usize::from(kind) % NESTED.len()]),
        160..224 => composed(bytes, usize::from(kind) % 8),
        224..232 => longest(usize::from(kind) % 4),
        232..240 => wire_name(&vec![&b"q"[..]; MOST_LABELS - bytes.below(MOST_LABELS + 1)]),
        240..248 => colliding(bytes.byte() & 3),
        248.. => arbitrary(bytes),
    }
}

/// A name for a rule.
///
/// # Panics
///
/// Never: what [`name`] makes is one.
pub fn qname(bytes: &mut Bytes<'_>) -> QName {
    QName::from_wire(&name(bytes)).expect("a name")
}

/// Some of the letters become upper case.
pub fn raise(wire: &mut [u8], pattern: u8) {
    for (at, byte) in wire.iter_mut().enumerate() {
        // Lengths of labels are no letters.
        if pattern >> (at % 8) & 1 == 1 {
            byte.make_ascii_uppercase();
        }
    }
}

/// 255 bytes, without the first labels.
fn longest(without: usize) -> Vec<u8> {
    let labels: [&[u8]; 4] = [&[b'd'; 61], &[b'x'; 63], &[b'y'; 63], &[b'z'; 63]];
    wire_name(&labels[without..])
}

fn composed(bytes: &mut Bytes<'_>, labels: usize) -> Vec<u8> {
    let mut labels: Vec<_> = (0..labels).map(|_| bytes.choose(&LABELS)).collect();
    while wire_name(&labels).len() > QName::MAX_LEN {
        labels.pop();
    }
    wire_name(&labels)
}

/// One label of whatever bytes there are.
fn arbitrary(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let len = bytes.below(64);
    match bytes.take(len) {
        [] => wire_name(&[]),
        label => wire_name(&[label]),
    }
}

/// Hosts that share the number by which suffixes are looked up: two of a letter in the first word of the name weigh as
/// much as one in the second.
pub fn colliding(which: u8) -> Vec<u8> {
    let mut label = *b"aaaaaaa-bbbbbbb";
    for bit in 0..7 {
        if which >> bit & 1 == 1 {
            label[bit] = b'c';
            label[bit + 8] = b'a';
        }
    }
    wire_name(&[&label])
}
