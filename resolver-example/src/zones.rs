//! Zones: from text to a handler that answers from them.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

use hickory_proto::{
    rr::{Name, RecordSet, RecordType, RrKey},
    serialize::txt::{ParseError, Parser},
};
use hickory_server::{
    net::runtime::TokioRuntimeProvider,
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, ZoneType},
};
use thiserror::Error;

use crate::config::ZoneFile;

/// Served when the configuration lists no zones.
const EMBEDDED: &str = include_str!("../zones/example.zone");
const EMBEDDED_ORIGIN: &str = "example.";
const EMBEDDED_FILE: &str = "zones/example.zone (embedded)";

type Records = BTreeMap<RrKey, RecordSet>;

/// A zone that was read and can be served.
pub(crate) struct Zone {
    origin: Name,
    records: usize,
    handler: InMemoryZoneHandler<TokioRuntimeProvider>,
}

impl Zone {
    /// Reads every zone of the configuration; the embedded one when it lists none.
    pub(crate) fn load_all(files: &[ZoneFile]) -> Result<Vec<Self>, ZoneError> {
        if files.is_empty() {
            return Ok(vec![Self::embedded()?]);
        }
        files.iter().map(Self::load).collect()
    }

    fn embedded() -> Result<Self, ZoneError> {
        let origin = Name::from_ascii(EMBEDDED_ORIGIN).expect("the constant is a name");
        Self::parse(EMBEDDED, &ZoneFile { origin, file: EMBEDDED_FILE.into() })
    }

    fn load(zone: &ZoneFile) -> Result<Self, ZoneError> {
        match fs::read_to_string(&zone.file) {
            Ok(text) => Self::parse(&text, zone),
            Err(source) => Err(ZoneError::Read { file: zone.file.clone(), source }),
        }
    }

    fn parse(text: &str, zone: &ZoneFile) -> Result<Self, ZoneError> {
        let ZoneFile { origin, file } = zone;
        let records = match parse_records(text, zone) {
            Ok(records) => records,
            Err(source) => {
                let line = failing_line(text, zone, &source.to_string());
                return Err(ZoneError::Syntax { file: file.clone(), line, source });
            }
        };
        if let Some(outside) = records.keys().find(|key| !origin.zone_of(&key.name)) {
            let name = outside.name.to_string();
            return Err(ZoneError::Outside { file: file.clone(), origin: origin.to_string(), name });
        }
        if !records.contains_key(&RrKey::new(origin.into(), RecordType::SOA)) {
            return Err(ZoneError::MissingSoa { file: file.clone(), origin: origin.to_string() });
        }
        let count = records.values().map(|set| set.records_without_rrsigs().count()).sum();
        match InMemoryZoneHandler::new(origin.clone(), records, ZoneType::Primary, AxfrPolicy::Deny) {
            Ok(handler) => Ok(Self { origin: origin.clone(), records: count, handler }),
            Err(reason) => Err(ZoneError::Contradiction { file: file.clone(), reason }),
        }
    }

    /// The name at the top of the zone.
    pub(crate) fn origin(&self) -> &Name {
        &self.origin
    }

    /// How many records the zone has.
    pub(crate) fn record_count(&self) -> usize {
        self.records
    }

    /// Answers queries from the zone; refuses zone transfers.
    pub(crate) fn into_handler(self) -> InMemoryZoneHandler<TokioRuntimeProvider> {
        self.handler
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, records, handler: _ } = self;
        f.debug_struct("Zone").field("origin", origin).field("records", records).finish_non_exhaustive()
    }
}

fn parse_records(text: &str, zone: &ZoneFile) -> Result<Records, ParseError> {
    let ZoneFile { origin, file } = zone;
    let (_, records) = Parser::new(text, Some(file.clone()), Some(origin.clone())).parse()?;
    Ok(records)
}

/// The line at which parsing fails with `message`, which the parser does not say.
///
/// It reads from top to bottom, so every prefix that holds the faulty line fails alike, and no shorter one does
/// (it may fail in another way: inside parentheses). That makes the line a case for bisection.
fn failing_line(text: &str, zone: &ZoneFile, message: &str) -> usize {
    let ends: Vec<usize> = text
        .split_inclusive('\n')
        .scan(0, |end, line| {
            *end += line.len();
            Some(*end)
        })
        .collect();
    let before = ends.partition_point(|&end| match parse_records(&text[..end], zone) {
        Ok(_) => true,
        Err(error) => error.to_string() != message,
    });
    (before + 1).min(ends.len().max(1))
}

/// Why a zone cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ZoneError {
    /// The file cannot be read.
    #[error("cannot read the zone file {}: check `file` in [[zones]] (relative to the configuration's folder) and its permissions", .file.display())]
    Read { file: PathBuf, source: io::Error },
    /// The file is not a zone file.
    #[error("{}:{line}: not valid zone file syntax (RFC 1035 section 5): correct this line", .file.display())]
    Syntax { file: PathBuf, line: usize, source: ParseError },
    /// The file has a record that does not belong to the zone.
    #[error("{}: {name} lies outside the zone {origin}: remove the record, or correct `origin` in [[zones]] (names without a final dot are relative to it)", .file.display())]
    Outside { file: PathBuf, origin: String, name: String },
    /// The file has no SOA record at its origin.
    #[error("{}: no SOA record at {origin}: add one, or correct `origin` in [[zones]]", .file.display())]
    MissingSoa { file: PathBuf, origin: String },
    /// A record cannot be served: it is beside a CNAME, or not of class IN.
    #[error("{}: {reason}: only class IN is served, and a name with a CNAME can have no other records", .file.display())]
    Contradiction { file: PathBuf, reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOA: &str = "@ 60 IN SOA ns hostmaster ( 1 60 60\n 60 60 )\n";

    fn zone(text: &str) -> Result<Zone, ZoneError> {
        let origin = Name::from_ascii("test.").unwrap();
        Zone::parse(text, &ZoneFile { origin, file: "test.zone".into() })
    }

    #[test]
    fn the_embedded_zone_has_what_the_guide_promises() {
        let origin = Name::from_ascii(EMBEDDED_ORIGIN).unwrap();
        let records = parse_records(EMBEDDED, &ZoneFile { origin, file: EMBEDDED_FILE.into() }).unwrap();
        let texts = |name, record_type| {
            let key = RrKey::new(Name::from_ascii(name).unwrap().into(), record_type);
            records[&key].records_without_rrsigs().map(|record| record.data.to_string()).collect::<Vec<_>>()
        };

        assert_eq!(texts("www.example.", RecordType::A), ["192.0.2.1"]);
        assert_eq!(texts("www.example.", RecordType::AAAA), ["2001:db8::1"]);
        for record_type in [RecordType::SOA, RecordType::NS, RecordType::MX, RecordType::TXT] {
            assert!(!texts("example.", record_type).is_empty(), "{record_type}");
        }
    }

    #[test]
    fn records_that_exclude_each_other_are_an_error() {
        for contradiction in ["a 60 IN CNAME b\na 60 IN A 192.0.2.1\n", "a 60 CH A 192.0.2.1\n"] {
            let error = zone(&format!("{SOA}{contradiction}")).unwrap_err();
            assert!(matches!(error, ZoneError::Contradiction { .. }), "{error}");
        }
    }

    #[test]
    fn no_zones_means_the_embedded_one() {
        let zones = Zone::load_all(&[]).unwrap();
        assert_eq!(zones.len(), 1);
        assert!(zones[0].record_count() > 10);
    }

    #[test]
    fn a_missing_file_is_named() {
        let file = ZoneFile { origin: Name::root(), file: "/nonexistent/test.zone".into() };
        let error = Zone::load(&file).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/test.zone"), "{error}");
    }

    #[test]
    fn a_syntax_error_is_located() {
        for (text, line) in [
            ("a 60 IN A 192.0.2.1\nb 60 IN A 192.0.2.2\nc 60 IN A nonsense\nd 60 IN A 192.0.2.4\n", 5),
            ("a 60 IN NOTYPE x\n", 3),
            ("a 60 IN A 192.0.2.300", 3),
        ] {
            let error = zone(&format!("{SOA}{text}")).unwrap_err();
            let ZoneError::Syntax { line: found, .. } = &error else { panic!("{error}") };
            assert_eq!(*found, line, "{text}");
        }
    }

    #[test]
    fn an_empty_file_has_no_soa() {
        assert!(matches!(zone(""), Err(ZoneError::MissingSoa { .. })));
    }

    #[test]
    fn a_record_outside_the_zone_is_an_error() {
        let error = zone(&format!("{SOA}www.other. 60 IN A 192.0.2.1\n")).unwrap_err();
        assert!(matches!(&error, ZoneError::Outside { name, .. } if name == "www.other."), "{error}");
    }

    #[test]
    fn a_soa_elsewhere_does_not_count() {
        let error = zone("sub 60 IN SOA ns hostmaster 1 60 60 60 60\n").unwrap_err();
        assert!(matches!(error, ZoneError::MissingSoa { .. }), "{error}");
    }

    #[test]
    fn records_are_counted_one_by_one() {
        let zone = zone(&format!("{SOA}a 60 IN A 192.0.2.1\na 60 IN A 192.0.2.2\n")).unwrap();
        assert_eq!(zone.record_count(), 3);
    }
}
