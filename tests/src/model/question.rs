//! Reading the question of a message.

use ebpf_filter::MalformedReason;
use hickory_proto::{
    op::Query,
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use super::what::Labels;
use crate::dns::HEADER;

/// The longest name and the longest label (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: u8 = 63;

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub name: Labels,
    /// The type.
    pub qtype: u16,
}

/// Whether the message says of itself that it is a response.
pub fn is_response(message: &[u8]) -> bool {
    message.len() >= HEADER && message[2] >= 0x80
}

/// The first question of a message.
///
/// # Errors
///
/// Says why it has none that can be read.
pub fn read(message: &[u8]) -> Result<Question, MalformedReason> {
    if message.len() < HEADER {
        return Err(MalformedReason::TooShort);
    }
    if message[4..6] == [0, 0] {
        return Err(MalformedReason::NoQuestion);
    }
    let mut name = Labels::new();
    let mut rest = &message[HEADER..];
    // With the root label, which has not come yet.
    let mut len = 1;
    loop {
        let (&label, behind) = rest.split_first().ok_or(MalformedReason::Truncated)?;
        match label {
            0 => {
                let [high, low, _, _, ..] = behind else { return Err(MalformedReason::Truncated) };
                name.reverse();
                return Ok(Question { name, qtype: u16::from_be_bytes([*high, *low]) });
            }
            1..=LONGEST_LABEL => {}
            0xc0.. => return Err(MalformedReason::Pointer),
            _ => return Err(MalformedReason::LabelTooLong),
        }
        len += 1 + usize::from(label);
        if len > LONGEST_NAME {
            return Err(MalformedReason::NameTooLong);
        }
        let (bytes, behind) = behind.split_at_checked(label.into()).ok_or(MalformedReason::Truncated)?;
        name.push(bytes.to_ascii_lowercase());
        rest = behind;
    }
}

/// What hickory-proto takes for the first question of a message.
pub fn hickory_reads(message: &[u8]) -> Option<Question> {
    if message.get(4..6)? == [0, 0] {
        return None;
    }
    let mut decoder = BinDecoder::new(message);
    decoder.read_slice(HEADER).ok()?;
    let query = Query::read(&mut decoder).ok()?;
    let mut name: Labels = query.name().iter().map(<[u8]>::to_ascii_lowercase).collect();
    name.reverse();
    Some(Question { name, qtype: query.query_type().into() })
}

/// Fails unless hickory-proto reads the same question, or none where there is none. It follows pointers, which we do not.
pub fn assert_as_hickory_reads(message: &[u8]) {
    match (read(message), hickory_reads(message)) {
        (Ok(ours), Some(theirs)) => assert_eq!(ours, theirs),
        (Err(MalformedReason::Pointer), _) | (Err(_), None) => {}
        (ours, theirs) => panic!("we read {ours:?}, hickory reads {theirs:?}"),
    }
}
