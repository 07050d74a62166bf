//! The configuration: what the file says (`schema`), checked and turned into what the rest of the program needs.

mod dynblocks;
mod error;
mod expiry;
mod filter;
mod forward;
mod listen;
mod matches;
mod qtype;
mod rule_problem;
mod rules;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod zones;

use std::{fs, path::Path};

use self::source::Source;
pub(crate) use self::{
    dynblocks::DynBlocks, error::ConfigError, filter::Filter, forward::Forward, listen::Listen, rules::Rules,
    zones::ZoneFile,
};

/// A configuration without contradictions.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Where to listen.
    pub(crate) listen: Listen,
    /// What to answer from; the embedded zone when empty.
    pub(crate) zones: Vec<ZoneFile>,
    /// Who answers everything else; nobody does when `None`.
    pub(crate) forward: Option<Forward>,
    /// What to drop.
    pub(crate) filter: Filter,
    /// Whom to block for a while.
    pub(crate) dynblocks: Option<DynBlocks>,
}

impl Config {
    /// Reads `file`. Zone files are named relative to its folder, and not read yet.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(source) => Err(ConfigError::Read { file: file.to_owned(), source }),
        }
    }

    fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let source = Source::new(file, text);
        let schema::File { listen, zones, forward, filter, dynblocks } = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => return Err(source.syntax(&error)),
        };
        let listen = Listen::check(listen, &source)?;
        let zones = ZoneFile::check(zones, forward.is_some(), &source)?;
        let forward = forward.map(|forward| Forward::check(forward, &listen, &source)).transpose()?;
        let dynblocks =
            dynblocks.map(|dynblocks| DynBlocks::check(dynblocks, forward.is_some(), &source)).transpose()?;
        let blocks = dynblocks.as_ref().map_or(0, DynBlocks::max_blocks);
        let filter = Filter::check(filter, blocks, &source)?;
        Ok(Self { listen, zones, forward, filter, dynblocks })
    }
}
