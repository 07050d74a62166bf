//! The part of a DNS message that a decision reads: the header and the first question.

use core::ops::ControlFlow;

use crate::{
    malformed::Malformed,
    name::{self, Labels},
    words::{self, Offset},
};

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
const WORDS: usize = 36;
const BYTES: usize = WORDS * 8;

const _: () =
    assert!(NAME.is_multiple_of(8) && NAME + 256 + QUESTION_TAIL <= BYTES && HEADER + MAX_READ <= BYTES);

/// What the first question of a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Length of the name in bytes, its root label included: 1 to 255.
    pub name_len: usize,
    /// The type asked for.
    pub qtype: u16,
}

/// The first [`MAX_READ`] bytes of a DNS message.
///
/// In the kernel this is per-CPU scratch memory that still holds the previous packet, so no reader may look past
/// what was loaded. Programs on one CPU do not overlap: sockets are filtered with bottom halves disabled.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Message {
    words: [u64; WORDS],
    offset: Offset,
}

impl Message {
    /// An empty message, to be filled through [`Message::payload_mut`].
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS], offset: Offset::new() }
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
        (message, Question { name_len: name.len().min(name::MAX_LEN), qtype })
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

    /// Reads the first question of a message of which `loaded` bytes are here. Its name is lower-cased where it stands,
    /// the rest of its last word zeroed, and every word of it handed to `each`, in little-endian order.
    ///
    /// Type of message, opcode and class are not looked at: whatever carries a question is decided by it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the message if it has no question that can be read.
    #[inline(always)]
    pub fn question(&mut self, loaded: usize, each: impl FnMut(u64)) -> Result<Question, Malformed> {
        if loaded < HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        if self.u16_at(HEADER + 4) == 0 {
            return Err(Malformed::NoQuestion);
        }
        let available = loaded - HEADER_LEN;
        let (name_len, qtype) = self.name(available, each)?;
        if name_len + QUESTION_TAIL > available {
            return Err(Malformed::Truncated);
        }
        Ok(Question { name_len, qtype })
    }

    /// Reads the name, of which `available` bytes are here: lower-cases it where it stands, zeroes the rest of its last
    /// word, and hands every word of it to `each`, in little-endian order. Returns its length, root label included,
    /// and the number behind it.
    ///
    /// Whole words can be folded without a look at the labels: a length byte is at most 63, and `A` is 65.
    #[inline(always)]
    pub(crate) fn name(
        &mut self,
        available: usize,
        mut each: impl FnMut(u64),
    ) -> Result<(usize, u16), Malformed> {
        let (words, offset) = self.name_words_and_offset();
        offset.set(0);
        let walk = words::try_each(words, |index, word| {
            let bytes = u64::from_le(*word);
            match Labels::starting_in(bytes, index, offset, available) {
                ControlFlow::Continue(()) => {
                    let folded = name::fold(bytes);
                    *word = folded.to_le();
                    each(folded);
                    ControlFlow::Continue(())
                }
                ControlFlow::Break(end) => ControlFlow::Break(end),
            }
        });
        match walk {
            ControlFlow::Continue(()) => return Err(Malformed::NameTooLong),
            ControlFlow::Break(Err(reason)) => return Err(reason),
            ControlFlow::Break(Ok(())) => {}
        }
        let root = self.offset.get() & 0xff;
        let behind = self.u16_at(NAME + root + 1);
        let last = &mut self.name_words_mut()[root / 8];
        let folded = name::fold(u64::from_le(*last) & (u64::MAX >> (56 - root % 8 * 8)));
        *last = folded.to_le();
        each(folded);
        Ok((root + 1, behind))
    }

    /// Whether the name of `len` bytes that was read is the zero-padded canonical name in `words`.
    ///
    /// Names in wire form end themselves, so two that agree up to the end of one agree whole.
    #[inline(always)]
    pub fn name_is(&self, len: usize, words: &[u64; 32]) -> bool {
        words::equal(self.name_words(), words, len)
    }

    /// The bytes of the name, of which the first [`Question::name_len`] mean something.
    #[inline(always)]
    pub fn name_bytes(&self) -> &[u8; 256] {
        zerocopy::transmute_ref!(self.name_words())
    }

    #[inline(always)]
    fn name_words(&self) -> &[u64; 32] {
        let (_, rest) = self.words.split_at(NAME / 8);
        match rest.first_chunk() {
            Some(words) => words,
            None => unreachable!(),
        }
    }

    #[inline(always)]
    fn name_words_mut(&mut self) -> &mut [u64; 32] {
        self.name_words_and_offset().0
    }

    #[inline(always)]
    fn name_words_and_offset(&mut self) -> (&mut [u64; 32], &mut Offset) {
        let (_, rest) = self.words.split_at_mut(NAME / 8);
        match rest.first_chunk_mut() {
            Some(words) => (words, &mut self.offset),
            None => unreachable!(),
        }
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
