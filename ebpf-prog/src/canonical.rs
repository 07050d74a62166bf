//! Names in canonical form, for the host: what rules are made of.

use crate::{
    malformed::Malformed,
    message::{HEADER_LEN, Message},
    rule::Seed,
    turns::Plain,
};

/// A name in canonical form: lower case, uncompressed (RFC 4034 §6.2).
#[derive(Clone, Debug)]
pub struct CanonicalName {
    message: Message,
    len: usize,
}

impl CanonicalName {
    /// The name in wire form, its root label included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.message.canonical_bytes()[..self.len]
    }
}

/// Reads the name at the start of `wire`; what follows it is not looked at.
///
/// # Errors
///
/// Says what is wrong if `wire` does not start with an uncompressed name that ends inside it.
pub fn canonical(wire: &[u8]) -> Result<CanonicalName, Malformed> {
    let mut message = Message::new();
    let room = &mut message.payload_mut()[HEADER_LEN..];
    let available = wire.len().min(room.len());
    room[..available].copy_from_slice(&wire[..available]);
    let len = message.walk(available)?.name_len;
    message.start_suffixes::<Plain>(len);
    message.canonicalize::<Plain>(Seed::new(0, 0));
    Ok(CanonicalName { message, len })
}
