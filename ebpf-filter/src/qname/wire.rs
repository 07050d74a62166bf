//! Puts a name together from its labels.

use super::{QName, QNameError};

const MAX_LABEL: u8 = 63;

/// A wire form under construction. The label that is open when the name is finished becomes part of it, unless it is
/// empty: then its length byte, zero, is the root label.
pub(super) struct WireBuilder {
    wire: [u8; QName::MAX_LEN],
    /// Where the length byte of the open label is.
    start: usize,
    /// Bytes in the open label.
    len: u8,
}

impl WireBuilder {
    pub(super) fn new() -> Self {
        Self { wire: [0; QName::MAX_LEN], start: 0, len: 0 }
    }

    /// Appends to the open label.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), QNameError> {
        if self.len == MAX_LABEL {
            return Err(QNameError::LabelTooLong);
        }
        let end = self.end();
        *self.wire.get_mut(end).ok_or(QNameError::NameTooLong)? = byte;
        self.len += 1;
        Ok(())
    }

    /// Closes the open label and opens the next one.
    pub(super) fn end_label(&mut self) {
        if let Some(length) = self.wire.get_mut(self.start) {
            *length = self.len;
        }
        self.start = self.end();
        self.len = 0;
    }

    pub(super) fn label_is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fails if there is no room for the root label, or if the wire parser objects.
    pub(super) fn finish(mut self) -> Result<QName, QNameError> {
        if !self.label_is_empty() {
            self.end_label();
        }
        QName::from_wire(self.wire.get(..=self.start).ok_or(QNameError::NameTooLong)?)
    }

    /// Where the next byte of the open label goes.
    fn end(&self) -> usize {
        self.start + 1 + usize::from(self.len)
    }
}
