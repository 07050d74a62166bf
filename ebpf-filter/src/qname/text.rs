//! Names as text: the master-file form of RFC 1035 §5.1, with the escapes that RFC 4343 §2.1 spells out.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::wire::WireBuilder;
use super::{QName, QNameError};

impl FromStr for QName {
    type Err = QNameError;

    fn from_str(text: &str) -> Result<Self, QNameError> {
        match text {
            "" => return Err(QNameError::Empty),
            "." => return Ok(Self::root()),
            _ => {}
        }
        let mut wire = WireBuilder::new();
        let mut bytes = text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'.' if wire.label_is_empty() => return Err(QNameError::EmptyLabel { at }),
                b'.' => wire.end_label(),
                b'\\' => wire.push(unescape(at, &mut bytes)?)?,
                b'!'..=b'~' => wire.push(byte)?,
                0..=b' ' | 0x7f => return Err(QNameError::NotPrintable { at }),
                0x80.. => return Err(QNameError::NotAscii { at }),
            }
        }
        wire.finish()
    }
}

impl TryFrom<&str> for QName {
    type Error = QNameError;

    fn try_from(text: &str) -> Result<Self, QNameError> {
        text.parse()
    }
}

/// The byte that the escape stands for whose backslash is `at`, and whose rest comes next.
fn unescape(at: usize, rest: &mut impl Iterator<Item = (usize, u8)>) -> Result<u8, QNameError> {
    let bad = QNameError::BadEscape { at };
    let (next, first) = rest.next().ok_or(bad)?;
    if !first.is_ascii() {
        return Err(QNameError::NotAscii { at: next });
    }
    let Some(hundreds) = digit(first) else { return Ok(first) };
    let mut value = hundreds;
    for _ in 0..2 {
        let (_, byte) = rest.next().ok_or(bad)?;
        value = value * 10 + digit(byte).ok_or(bad)?;
    }
    u8::try_from(value).map_err(|_| bad)
}

fn digit(byte: u8) -> Option<u16> {
    byte.is_ascii_digit().then(|| u16::from(byte - b'0'))
}

/// The text with a dot at its end, `.` for the root.
///
/// What a zone file would take for something else is escaped as `\X`, what is no printable ASCII (and the space) as
/// `\DDD` with the decimal value of the byte. Width and alignment work as for strings.
impl fmt::Display for QName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.pad(".");
        }
        let mut text = String::with_capacity(self.as_wire().len());
        for label in self.labels() {
            for &byte in label {
                write_escaped(&mut text, byte)?;
            }
            text.push('.');
        }
        f.pad(&text)
    }
}

impl fmt::Debug for QName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QName").field(&format_args!("{self}")).finish()
    }
}

fn write_escaped(text: &mut String, byte: u8) -> fmt::Result {
    match byte {
        b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => text.extend(['\\', byte.into()]),
        b'!'..=b'~' => text.push(byte.into()),
        0..=b' ' | 0x7f.. => write!(text, "\\{byte:03}")?,
    }
    Ok(())
}
