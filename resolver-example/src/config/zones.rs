//! `[[zones]]`: what the server answers from.

use std::path::PathBuf;

use hickory_proto::rr::Name;

use super::{
    error::{ConfigError, Problem},
    schema,
    source::Source,
};

/// A zone and the file that has its records.
#[derive(Debug)]
pub(crate) struct ZoneFile {
    /// Fully qualified; different from every other zone's.
    pub(crate) origin: Name,
    pub(crate) file: PathBuf,
}

impl ZoneFile {
    pub(super) fn check(
        raw: Vec<schema::Zone>,
        forwards: bool,
        source: &Source<'_>,
    ) -> Result<Vec<Self>, ConfigError> {
        let mut zones: Vec<Self> = Vec::with_capacity(raw.len());
        let mut lines = Vec::with_capacity(raw.len());
        for schema::Zone { origin, file } in raw {
            let span = origin.span();
            let value = origin.into_inner();
            let origin = match Name::from_utf8(&value) {
                Ok(mut origin) => {
                    origin.set_fqdn(true);
                    origin
                }
                Err(reason) => return Err(source.invalid(&span, Problem::Origin { value, reason })),
            };
            if forwards && origin.is_root() {
                return Err(source.invalid(&span, Problem::RootZoneBesideForward));
            }
            if let Some(first) = zones.iter().position(|zone| zone.origin == origin) {
                return Err(source.invalid(&span, Problem::RepeatedOrigin { value, first: lines[first] }));
            }
            lines.push(source.line(&span));
            zones.push(Self { origin, file: source.folder().join(file) });
        }
        Ok(zones)
    }
}
