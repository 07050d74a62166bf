//! Why a message is no well-formed query.

/// Why a message is no query with a question that can be read. The discriminant is the index of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Malformed {
    /// The message is shorter than a DNS header.
    TooShort = 0,
    /// The header announces no question.
    NoQuestion = 1,
    /// A label is longer than 63 bytes (RFC 1035 §2.3.4), or has a reserved type (RFC 6891 §5).
    LabelTooLong = 2,
    /// The name is longer than 255 bytes (RFC 1035 §2.3.4).
    NameTooLong = 3,
    /// The message ends inside the question.
    Truncated = 4,
    /// The question holds a compression pointer: there is nothing in front of it that one could mean.
    Pointer = 5,
    /// The message is a response (RFC 1035 §4.1.1, QR): nobody asks a server with one.
    Response = 6,
}

impl Malformed {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::TooShort,
        Self::NoQuestion,
        Self::LabelTooLong,
        Self::NameTooLong,
        Self::Truncated,
        Self::Pointer,
        Self::Response,
    ];
}
