//! What can be wrong with a name.

use ebpf_prog::Malformed;

use super::QName;

/// Why something is not a [`QName`]. Positions are byte offsets in the text, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QNameError {
    /// The text is empty.
    #[error("the name is empty: write \".\" if the root is meant")]
    Empty,

    /// A dot has no label in front of it, as in `a..b` or `.a`.
    #[error(
        "no label in front of the dot at byte {at}: remove the dot, or write \"\\.\" if it is part of a label"
    )]
    EmptyLabel {
        /// Where the dot is.
        at: usize,
    },

    /// A label is longer than 63 bytes, or what says its length on the wire is a reserved label type
    /// ([RFC 6891 §5](https://www.rfc-editor.org/rfc/rfc6891#section-5)).
    #[error("a label is longer than 63 bytes: no query can carry this name, check where a dot is missing")]
    LabelTooLong,

    /// The name takes more than [`QName::MAX_LEN`] bytes on the wire.
    #[error("the name is longer than {max} bytes on the wire: no query can carry it, shorten it", max = QName::MAX_LEN)]
    NameTooLong,

    /// A backslash is the last character, or is not followed by a character or by three digits up to 255.
    #[error(
        "bad escape at byte {at}: write \"\\DDD\" with a decimal number from 000 to 255 for a byte, \
         \"\\X\" for any X that is no digit, or \"\\\\\" for the backslash itself"
    )]
    BadEscape {
        /// Where the backslash is.
        at: usize,
    },

    /// White space or a control character that is not escaped.
    #[error(
        "white space or control character at byte {at}: remove it, or write it as \"\\DDD\" if it is part of the name"
    )]
    NotPrintable {
        /// Where the character is.
        at: usize,
    },

    /// A character outside ASCII.
    #[error(
        "character outside ASCII at byte {at}: write the label in punycode, as queries carry it (\"xn--...\"), \
         or single bytes as \"\\DDD\""
    )]
    NotAscii {
        /// Where the character starts.
        at: usize,
    },

    /// The bytes end before the name does.
    #[error("the bytes end before the name does: pass the whole name, with the zero byte at its end")]
    Truncated,

    /// The name holds a compression pointer.
    #[error("the name is compressed: expand it first, or pass the question's name, which never is")]
    Compressed,

    /// There are bytes behind the name.
    #[error(
        "{count} bytes behind the end of the name: cut them off, or read the name with `from_wire_prefix`"
    )]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl From<Malformed> for QNameError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::LabelTooLong => Self::LabelTooLong,
            Malformed::NameTooLong => Self::NameTooLong,
            Malformed::Pointer => Self::Compressed,
            // The others are about whole messages; a name can only be cut short.
            Malformed::TooShort | Malformed::NoQuestion | Malformed::Response | Malformed::Truncated => {
                Self::Truncated
            }
        }
    }
}
