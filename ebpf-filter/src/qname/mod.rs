//! DNS names as the filter compares them: canonical wire form, checked when they are made.

mod error;
#[cfg(feature = "hickory")]
mod hickory;
mod text;
mod wire;

use std::cmp::Ordering;

use ebpf_prog::{canonical::canonical, name};

pub use self::error::QNameError;

/// A DNS name in canonical wire form: uncompressed ([RFC 1035 §3.1]) and in ASCII lower case ([RFC 4343],
/// [RFC 4034 §6.2]).
///
/// Two names that DNS holds for the same are equal and have the same hash, however they were written. A `QName` is
/// always absolute and never longer than [`QName::MAX_LEN`] bytes, and its labels may hold any bytes.
///
/// # From text
///
/// Text is read and printed as in zone files ([RFC 1035 §5.1], [RFC 4343 §2.1]): `\.` is a dot inside a label, `\X`
/// stands for the character `X` if that is no digit, and `\DDD` for the byte of that *decimal* value. The dot at the
/// end may be left out when reading and is always printed.
///
/// ```
/// use ebpf_filter::QName;
///
/// let name: QName = "WWW.Example.com".parse()?;
/// assert_eq!(name.to_string(), "www.example.com.");
/// assert_eq!(name, "www.eXample.com.".parse()?);
///
/// let odd: QName = r"two\ words.a\.b\000.example".parse()?;
/// assert_eq!(odd.to_string(), r"two\032words.a\.b\000.example.");
/// assert!(odd.labels().eq([&b"two words"[..], b"a.b\0", b"example"]));
/// # Ok::<(), ebpf_filter::QNameError>(())
/// ```
///
/// Only ASCII text is read. Names in other scripts are written in their ASCII form, `xn--bcher-kva.example`, as
/// queries carry them.
///
/// # From hickory
///
/// With the feature `hickory`, `QName::try_from` takes a `hickory_proto::rr::Name` or `LowerName`. Do not go through
/// text instead: hickory 0.26 prints and reads `\DDD` as *octal* numbers, and its `Display` turns `xn--` labels into
/// Unicode.
///
/// # Order
///
/// Names are ordered as in [RFC 4034 §6.1]: by their last labels first, so that a domain comes right before everything
/// below it.
///
/// [RFC 1035 §3.1]: https://www.rfc-editor.org/rfc/rfc1035#section-3.1
/// [RFC 1035 §5.1]: https://www.rfc-editor.org/rfc/rfc1035#section-5.1
/// [RFC 4034 §6.1]: https://www.rfc-editor.org/rfc/rfc4034#section-6.1
/// [RFC 4034 §6.2]: https://www.rfc-editor.org/rfc/rfc4034#section-6.2
/// [RFC 4343]: https://www.rfc-editor.org/rfc/rfc4343
/// [RFC 4343 §2.1]: https://www.rfc-editor.org/rfc/rfc4343#section-2.1
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct QName {
    wire: Box<[u8]>,
}

impl QName {
    /// The longest name in bytes of wire form, with the root label at its end ([RFC 1035 §2.3.4]).
    ///
    /// [RFC 1035 §2.3.4]: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
    pub const MAX_LEN: usize = name::MAX_LEN;

    /// The name of the root: no labels but the empty one.
    ///
    /// ```
    /// # use ebpf_filter::QName;
    /// assert_eq!(QName::root().to_string(), ".");
    /// assert_eq!(QName::root().as_wire(), [0]);
    /// ```
    pub fn root() -> Self {
        Self { wire: Box::new([0]) }
    }

    /// Reads `wire`, which is one uncompressed name and nothing else.
    ///
    /// ```
    /// use ebpf_filter::{QName, QNameError};
    ///
    /// assert_eq!(QName::from_wire(b"\x07EXAMPLE\x03com\0")?, "example.com".parse()?);
    /// assert_eq!(QName::from_wire(b"\x03com\0\0\x01"), Err(QNameError::TrailingBytes { count: 2 }));
    /// # Ok::<(), QNameError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`QName::from_wire_prefix`], and [`QNameError::TrailingBytes`].
    pub fn from_wire(wire: &[u8]) -> Result<Self, QNameError> {
        let (name, used) = Self::from_wire_prefix(wire)?;
        match wire.len() - used {
            0 => Ok(name),
            count => Err(QNameError::TrailingBytes { count }),
        }
    }

    /// Reads the uncompressed name that `wire` starts with. Also returns how many bytes that name takes.
    ///
    /// This is the parser that the kernel program runs on every packet.
    ///
    /// ```
    /// use ebpf_filter::QName;
    ///
    /// // The question of a query: name, type, class.
    /// let (name, used) = QName::from_wire_prefix(b"\x03com\0\0\x01\0\x01")?;
    /// assert_eq!(name.to_string(), "com.");
    /// assert_eq!(used, 5);
    /// # Ok::<(), ebpf_filter::QNameError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`QNameError::Truncated`] if the name does not end inside `wire`, [`QNameError::Compressed`] for a compression
    /// pointer, [`QNameError::LabelTooLong`] for a length byte between 64 and 191, [`QNameError::NameTooLong`] for more
    /// than [`QName::MAX_LEN`] bytes. If several are true, the one that shows first.
    pub fn from_wire_prefix(wire: &[u8]) -> Result<(Self, usize), QNameError> {
        let canonical = canonical(wire)?;
        let name = Self { wire: canonical.as_wire().into() };
        let used = name.wire.len();
        Ok((name, used))
    }

    /// The name in wire form: length-prefixed labels in lower case, and the root label.
    ///
    /// ```
    /// # use ebpf_filter::QName;
    /// assert_eq!("Example.COM".parse::<QName>()?.as_wire(), b"\x07example\x03com\0");
    /// # Ok::<(), ebpf_filter::QNameError>(())
    /// ```
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels from left to right, without the root label. Their bytes may be anything but ASCII upper case.
    ///
    /// ```
    /// # use ebpf_filter::QName;
    /// let name: QName = "www.example.com".parse()?;
    /// assert!(name.labels().eq([&b"www"[..], b"example", b"com"]));
    /// assert_eq!(QName::root().labels().count(), 0);
    /// # Ok::<(), ebpf_filter::QNameError>(())
    /// ```
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = self.as_wire();
        std::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(len.into())?;
            rest = tail;
            (!label.is_empty()).then_some(label)
        })
    }

    /// Whether this is the name of the root.
    pub fn is_root(&self) -> bool {
        matches!(self.as_wire(), [0])
    }
}

impl PartialOrd for QName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QName {
    fn cmp(&self, other: &Self) -> Ordering {
        let [ours, theirs] = [self, other].map(|name| name.labels().collect::<Vec<_>>());
        ours.iter().rev().cmp(theirs.iter().rev())
    }
}
