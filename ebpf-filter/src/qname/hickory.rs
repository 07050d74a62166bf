//! Names that hickory has already parsed.

use hickory_proto::rr::{LowerName, Name};

use super::wire::WireBuilder;
use super::{QName, QNameError};

/// Takes the labels as they are. A relative name is taken as absolute, as it is when hickory puts it in a message.
///
/// ```
/// use ebpf_filter::QName;
/// use hickory_proto::rr::Name;
///
/// let name = QName::try_from(&Name::from_ascii("WWW.example.com.")?)?;
/// assert_eq!(name, "www.example.com".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl TryFrom<&Name> for QName {
    type Error = QNameError;

    fn try_from(name: &Name) -> Result<Self, QNameError> {
        let mut wire = WireBuilder::new();
        for label in name {
            for &byte in label {
                wire.push(byte)?;
            }
            wire.end_label();
        }
        wire.finish()
    }
}

/// As from a [`Name`].
impl TryFrom<&LowerName> for QName {
    type Error = QNameError;

    fn try_from(name: &LowerName) -> Result<Self, QNameError> {
        let name: &Name = name;
        name.try_into()
    }
}
