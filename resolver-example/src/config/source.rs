//! Turns byte ranges of the configuration file into positions that an editor understands.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use super::error::{ConfigError, Problem};

/// The file that is being checked.
#[derive(Debug)]
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text }
    }

    /// The folder that paths in the file are relative to.
    pub(super) fn folder(&self) -> &'a Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// An error of the TOML parser, or of a type or name that the schema does not have.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let at = self.place(&error.span().unwrap_or(0..0));
        ConfigError::Syntax { at, message: error.message().trim_end().replace('\n', "; ") }
    }

    /// An error in what the file means.
    pub(super) fn invalid(&self, span: &Range<usize>, problem: impl Into<Problem>) -> ConfigError {
        ConfigError::Invalid { at: self.place(span), problem: problem.into() }
    }

    /// The number of the line in which `span` starts.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.place(span).line
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A position in a file, both numbers counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: PathBuf,
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column } = self;
        write!(f, "{}:{line}:{column}", file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new(Path::new("a.toml"), "é = 1\nü = 2");
        assert_eq!(source.place(&(0..1)).to_string(), "a.toml:1:1");
        assert_eq!(source.place(&(7..8)).to_string(), "a.toml:2:1");
        assert_eq!(source.place(&(10..11)).to_string(), "a.toml:2:3");
        assert_eq!(source.place(&(100..101)).to_string(), "a.toml:2:6");
    }
}
