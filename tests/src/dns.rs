//! DNS messages: well-formed ones from hickory-proto, and others by hand.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A as AddressData, opt::EdnsOption},
    },
};

/// The type of IPv4 addresses.
pub const A: u16 = 1;
/// The type of mail exchangers.
pub const MX: u16 = 15;
/// The type of texts.
pub const TXT: u16 = 16;
/// The type of IPv6 addresses.
pub const AAAA: u16 = 28;
/// The type that stands for every type in a query.
pub const ANY: u16 = 255;

/// The code of the EDNS option that is there to make messages longer (RFC 7830).
const PADDING: u16 = 12;

/// Length of the header of a message.
pub const HEADER: usize = 12;

/// A query for a name, as it is written, and a type.
#[track_caller]
pub fn query(name: &str, qtype: u16) -> Vec<u8> {
    message(name, qtype).to_vec().expect("a message")
}

/// A query of exactly `len` bytes, by means of EDNS padding.
#[track_caller]
pub fn padded_query(name: &str, qtype: u16, len: usize) -> Vec<u8> {
    let padded = |padding: usize| {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(EdnsOption::Unknown(PADDING, vec![0; padding]));
        let mut message = message(name, qtype);
        message.set_edns(edns);
        message.to_vec().expect("a message")
    };
    let message = padded(len - padded(0).len());
    assert_eq!(message.len(), len);
    message
}

/// A query for a name that is in wire form already, and need not be valid.
pub fn raw_query(name: &[u8], qtype: u16) -> Vec<u8> {
    let [high, low] = qtype.to_be_bytes();
    with_question(&[name, &[high, low, 0, 1]].concat())
}

/// The header of a query that announces one question, and these bytes.
pub fn with_question(question: &[u8]) -> Vec<u8> {
    [&[0x2a, 0x2a, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], question].concat()
}

/// A name in wire form.
pub fn wire_name(labels: &[&[u8]]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        wire.push(u8::try_from(label.len()).expect("the length of a label is one byte"));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}

/// The answer to a query: 192.0.2.1.
#[track_caller]
pub fn answer(query: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(query).expect("a query");
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    for question in &query.queries {
        answer.add_query(question.clone());
        let address = RData::A(AddressData(Ipv4Addr::new(192, 0, 2, 1)));
        answer.add_answer(Record::from_rdata(question.name().clone(), 60, address));
    }
    answer.to_vec().expect("a message")
}

/// These bytes are the answer to that query.
#[track_caller]
pub fn assert_is_answer(answer: &[u8], query: &[u8]) {
    let answer = Message::from_vec(answer).expect("an answer");
    let query = Message::from_vec(query).expect("a query");
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.queries, query.queries);
    assert_eq!(answer.answers.len(), 1);
}

fn message(name: &str, qtype: u16) -> Message {
    let name = Name::from_ascii(name).unwrap_or_else(|error| panic!("{name} is no name: {error}"));
    let mut message = Message::new(0x2a2a, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::from(qtype)));
    message
}
