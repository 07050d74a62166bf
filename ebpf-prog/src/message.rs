//! The part of a DNS message that a decision reads: the header and the first question.

use core::{hint::black_box, ops::ControlFlow};

use crate::{
    malformed::Malformed,
    name,
    shape::{Shape, Sum},
    words::{self, Forgotten},
};

mod suffix;

pub use suffix::{NameDigest, SuffixKey};

/// Length of a DNS header in bytes (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;

/// The most that a decision reads of a message: header, longest name, type and class of the question.
pub const MAX_READ: usize = HEADER_LEN + name::MAX_LEN + QUESTION_TAIL;

/// Type and class behind the name of a question (RFC 1035 §4.1.2).
const QUESTION_TAIL: usize = 4;

/// Bytes in front of the header, so that the name behind it starts on a word.
const LEAD: usize = 4;
const HEADER: usize = LEAD;
const NAME: usize = HEADER + HEADER_LEN;
/// Room for the longest name, in bytes and in words.
const BYTES_OF_NAME: usize = 256;
const NAME_WORDS: usize = BYTES_OF_NAME / 8;
/// Room for a canonical name and for the zeroes behind it, rounded up so that the verifier understands a mask.
pub(crate) const CANONICAL_WORDS: usize = 2 * NAME_WORDS;
/// Behind the longest name there is room for what is in reach of a suffix, wherever it starts.
const WORDS: usize = NAME / 8 + NAME_WORDS + CANONICAL_WORDS + 1;
const BYTES: usize = WORDS * 8;

const _: () = assert!(NAME.is_multiple_of(8) && HEADER + MAX_READ <= BYTES);

/// What the first question of a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Length of the name in bytes, its root label included: 1 to 255.
    pub name_len: usize,
    /// The type asked for.
    pub qtype: u16,
    /// The shape of the name.
    pub shape: Shape,
}

/// The first [`MAX_READ`] bytes of a DNS message.
///
/// In the kernel this is per-CPU scratch memory that still holds the previous packet, so no reader may look past
/// what was loaded. Programs on one CPU do not overlap: sockets are filtered with bottom halves disabled.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Message {
    words: [u64; WORDS],
    offset: Forgotten<usize>,
    available: Forgotten<usize>,
    sum: Forgotten<u64>,
    /// Of the words in front of each word of the name: see `suffix`.
    sums: [u64; NAME_WORDS],
    total: Forgotten<u64>,
    canonical: [u64; CANONICAL_WORDS],
    digest: Forgotten<u64>,
}

impl Message {
    /// An empty message, to be filled through [`Message::payload_mut`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [0; WORDS],
            offset: Forgotten::new(0),
            available: Forgotten::new(0),
            sum: Forgotten::new(0),
            sums: [0; NAME_WORDS],
            total: Forgotten::new(0),
            canonical: [0; CANONICAL_WORDS],
            digest: Forgotten::new(0),
        }
    }

    /// The first [`MAX_READ`] bytes of `payload`, and how many that is.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> (Self, usize) {
        let mut message = Self::new();
        let loaded = payload.len().min(MAX_READ);
        for (to, from) in message.payload_mut().iter_mut().zip(payload) {
            *to = *from;
        }
        (message, loaded)
    }

    /// The question for a canonical name in wire form, its root label included, as if it had been read from a packet.
    /// What is behind the 255th byte is not looked at.
    #[must_use]
    pub fn for_question(name: &[u8], qtype: u16) -> (Self, Question) {
        let mut message = Self::new();
        for (to, from) in message.payload_mut()[HEADER_LEN..HEADER_LEN + name::MAX_LEN].iter_mut().zip(name) {
            *to = *from;
        }
        (message, Question { name_len: name.len().min(name::MAX_LEN), qtype, shape: Shape::of(name) })
    }

    /// Where the message is loaded to, from its header on.
    #[inline(always)]
    pub fn payload_mut(&mut self) -> &mut [u8; MAX_READ] {
        let bytes: &mut [u8; BYTES] = zerocopy::transmute_mut!(&mut self.words);
        let (_, rest) = bytes.split_at_mut(HEADER);
        match rest.first_chunk_mut() {
            Some(payload) => payload,
            None => unreachable!(),
        }
    }

    /// Finds the first question of a message of which `loaded` bytes are here.
    ///
    /// Type of message, opcode and class are not looked at: whatever carries a question is decided by it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the message if it has no question that can be read.
    #[inline(always)]
    pub fn question(&mut self, loaded: usize) -> Result<Question, Malformed> {
        if loaded < HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        if self.u16_at(HEADER + 4) == 0 {
            return Err(Malformed::NoQuestion);
        }
        let available = loaded - HEADER_LEN;
        let question = self.walk(available)?;
        if question.name_len + QUESTION_TAIL > available {
            return Err(Malformed::Truncated);
        }
        Ok(question)
    }

    /// Whether the message says of itself that it is a response. It must have a header.
    #[inline(always)]
    pub fn is_response(&self) -> bool {
        // Read anew each time: what is known of it would double the ways that lead to and through the question.
        words::read(&self.words[HEADER / 8]).to_ne_bytes()[HEADER % 8 + 2] & 0x80 != 0
    }

    /// The question, provided that there are bytes enough behind its name, of which `available` bytes are here.
    #[inline(always)]
    pub(crate) fn walk(&mut self, available: usize) -> Result<Question, Malformed> {
        let mut sum = Sum::new();
        self.available.set(available);
        let Self { words, offset, available, .. } = self;
        offset.set(0);
        let mut cursor = words::Cursor::new(name_words(words));
        loop {
            let word = u64::from_le(cursor.word());
            match name::labels_starting_in(word, cursor.index(), offset, available) {
                ControlFlow::Continue(()) => sum.add(word),
                ControlFlow::Break(Ok(())) => break,
                ControlFlow::Break(Err(reason)) => return Err(reason),
            }
            if !cursor.advance() {
                return Err(Malformed::NameTooLong);
            }
        }
        self.sum.set(sum.value());
        let mut sum = Sum::from(self.sum.get());
        let root = self.offset.get() & 0xff;
        sum.add(u64::from_le(self.words[NAME / 8 + root / 8]) & (u64::MAX >> (56 - root % 8 * 8)));
        // Read here and nowhere later, where the verifier would know more of the offset on some ways than on others.
        let qtype = black_box(u64::from(self.u16_at(NAME + root + 1)));
        #[allow(clippy::cast_possible_truncation, reason = "it was 16 bits wide before")]
        Ok(Question { name_len: root + 1, qtype: qtype as u16, shape: sum.shape() })
    }

    /// The big-endian number at `at`, which must leave room for it.
    #[inline(always)]
    fn u16_at(&self, at: usize) -> u16 {
        let bytes: &[u8; BYTES] = zerocopy::transmute_ref!(&self.words);
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(high), Some(low)) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
fn name_words(words: &[u64; WORDS]) -> &[u64; NAME_WORDS] {
    let (_, rest) = words.split_at(NAME / 8);
    match rest.first_chunk() {
        Some(words) => words,
        None => unreachable!(),
    }
}
