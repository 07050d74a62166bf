//! Messages: queries, and what is sent in their place.

use super::{bytes::Bytes, names};

/// Types that rules are about, and others.
pub const QTYPES: [u16; 8] = [1, 28, 255, 1, 28, 1, 0, 65535];

/// The first bytes of the flags: of queries, responses, notifications, updates, and all at once.
const FLAGS: [u8; 8] = [0x01, 0x01, 0x01, 0x00, 0x80, 0x84, 0x20, 0xff];

const QUESTIONS: [u16; 8] = [1, 1, 1, 1, 1, 2, 0, 0x0100];

/// A message.
pub fn message(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let kind = bytes.byte();
    match kind {
        0..144 => query(bytes),
        144..160 => response(bytes),
        160..208 => damaged(bytes),
        208..216 => pointing(bytes),
        216..224 => too_long(bytes),
        224..236 => filled(bytes),
        236.. => {
            let len = bytes.below(24);
            bytes.take(len).to_vec()
        }
    }
}

fn header(flags: u8, questions: u16) -> Vec<u8> {
    let [high, low] = questions.to_be_bytes();
    vec![0x12, 0x34, flags, 0x10, high, low, 0, 0, 0, 0, 0, 0]
}

fn push_question(message: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let mut name = names::name(bytes);
    names::raise(&mut name, bytes.byte());
    message.extend(name);
    message.extend(bytes.choose(&QTYPES).to_be_bytes());
    message.extend([0, 1]);
}

/// A query that can be read. What is behind its question may be anything.
fn query(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut message = header(FLAGS[0], 1);
    push_question(&mut message, bytes);
    let more = bytes.below(24);
    message.extend(bytes.take(more));
    message
}

/// Any type of message, with any number of questions.
fn response(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let questions = bytes.choose(&QUESTIONS);
    let mut message = header(bytes.choose(&FLAGS), questions);
    for _ in 0..questions.clamp(1, 2) {
        push_question(&mut message, bytes);
    }
    message
}

/// A message of which bytes were changed, or that was cut off.
fn damaged(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let changes = bytes.below(4);
    let mut message = response(bytes);
    for _ in 0..changes {
        let at = bytes.below(message.len());
        message[at] = bytes.byte();
    }
    if changes != 1 {
        message.truncate(bytes.below(message.len() + 1));
    }
    message
}

/// A name that ends in a compression pointer.
fn pointing(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut message = header(FLAGS[0], 1);
    let mut name = names::name(bytes);
    name.pop();
    message.extend(name);
    message.extend([0xc0 | bytes.byte() & 0x3f, bytes.byte(), 0, 1, 0, 1]);
    message
}

/// A name that is a little too long, or just not.
fn too_long(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut message = header(bytes.choose(&FLAGS), 1);
    let label = 1 + bytes.below(63);
    let len = 250 + bytes.below(10);
    for at in 0..len {
        let byte = if at % (label + 1) == 0 { label.to_le_bytes()[0] } else { b'l' };
        message.push(byte);
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// One byte or two, over and over.
fn filled(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let len = 2 * bytes.below(200);
    let mut message = header(bytes.choose(&FLAGS), 1);
    message.extend([bytes.byte(), bytes.byte()].repeat(len));
    message.truncate(len);
    message
}
