//! Blocks that outlive the process, in a file.

use std::{
    fs, io,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::dynblock::{
    DynBlockGroup, Scope, StateError, Subject, entry::Entry, life::Sentence, meter::Pace, time::nanos,
};
use crate::{Action, QName, QNameError};

const VERSION: u32 = 1;

/// What every version of the file has.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

/// The file: JSON.
#[derive(Debug, Deserialize, Serialize)]
struct File {
    version: u32,
    blocks: Vec<Saved>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    subject: SavedSubject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    qtype: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<Name>,
    action: SavedAction,
    reason: String,
    #[serde(default)]
    warning: bool,
    #[serde(default)]
    dry_run: bool,
    /// When it ends, in milliseconds since 1970 by the clock of the system.
    until_unix_ms: u64,
    /// How long it lasts from the last excess.
    length_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pace: Option<SavedPace>,
    /// How many there were before, if blocks of this source get longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offence: Option<u32>,
}

/// A name as text.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Name(QName);

impl TryFrom<String> for Name {
    type Error = QNameError;

    fn try_from(text: String) -> Result<Self, QNameError> {
        text.parse().map(Self)
    }
}

impl From<Name> for String {
    fn from(Name(name): Name) -> Self {
        name.to_string()
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum SavedSubject {
    Source(ipnet::IpNet),
    Ports { address: std::net::Ipv4Addr, first: u16, last: u16 },
    Suffix(Name),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum SavedAction {
    Pass,
    Drop,
    Count,
    Truncate,
    Refused,
    NxDomain,
    Slip(u8),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct SavedPace {
    milli_per_second: u64,
    window: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second_milli_per_second: Option<u64>,
}

impl DynBlockGroup {
    /// Writes all blocks to a file, with the times when they end. The file is replaced as a whole, so whoever is killed
    /// meanwhile leaves the one before.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, file: impl AsRef<Path>) -> Result<(), StateError> {
        let file = file.as_ref();
        let now = self.inner.time.now();
        let wall = unix_ms(SystemTime::now());
        let book = self.inner.book();
        let blocks = book
            .iter()
            .filter(|(_, entry)| !entry.is_over(now))
            .map(|(subject, entry)| Saved::of(subject, entry, now, wall))
            .collect();
        drop(book);
        let failed = |source| StateError::Write { file: file.to_owned(), source };
        let text = serde_json::to_vec_pretty(&File { version: VERSION, blocks })
            .map_err(|error| failed(error.into()))?;
        replace(file, &text).map_err(failed)
    }

    /// Adds the blocks of a file that [`DynBlockGroup::save`] has written, for as long as they would still have lasted, and
    /// says how many. Time counts while no process runs; a block never lasts longer than when it was new, whatever became of
    /// the clock. A file that is not there has no blocks in it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is something else.
    pub fn restore(&self, file: impl AsRef<Path>) -> Result<usize, StateError> {
        let file = file.as_ref();
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(StateError::Read { file: file.to_owned(), source }),
        };
        let format = |source| StateError::Format { file: file.to_owned(), source };
        let Versioned { version } = serde_json::from_slice(&text).map_err(format)?;
        if version != VERSION {
            return Err(StateError::Version { file: file.to_owned(), found: version, expected: VERSION });
        }
        let File { blocks, .. } = serde_json::from_slice(&text).map_err(format)?;
        let wall = unix_ms(SystemTime::now());
        let inner = &*self.inner;
        let now = inner.time.now();
        let sentences = blocks.into_iter().filter_map(|block| block.sentence(now, wall));
        Ok(inner.change(|book, events| {
            let add = |(subject, scope, sentence): (Subject, _, _)| {
                inner.sentence(book, subject.canonical(), scope, &sentence, now, events).is_ok()
            };
            sentences.map(add).filter(|restored| *restored).count()
        }))
    }
}

impl Saved {
    fn of(subject: &Subject, entry: &Entry, now: u64, wall: u64) -> Self {
        let (qtype, below) = match &entry.scope {
            Scope::All => (None, None),
            Scope::Qtype(qtype) => (Some(*qtype), None),
            Scope::Suffix(name) => (None, Some(Name(name.clone()))),
        };
        Self {
            subject: match subject {
                Subject::Source(net) => SavedSubject::Source(*net),
                Subject::Ports { address, first, last } => {
                    SavedSubject::Ports { address: *address, first: *first, last: *last }
                }
                Subject::Suffix(name) => SavedSubject::Suffix(Name(name.clone())),
            },
            qtype,
            below,
            action: entry.action.into(),
            reason: entry.reason.to_string(),
            warning: entry.warning,
            dry_run: entry.dry_run,
            until_unix_ms: wall.saturating_add(entry.until.saturating_sub(now) / MILLISECOND),
            length_ms: entry.length / MILLISECOND,
            pace: entry.pace.map(|pace| SavedPace {
                milli_per_second: pace.milli_per_second,
                window: pace.window,
                second_milli_per_second: pace.second_milli_per_second,
            }),
            offence: entry.grows.then_some(entry.offence),
        }
    }

    /// What the block is to be now; `None` if it has ended.
    fn sentence(self, now: u64, wall: u64) -> Option<(Subject, Scope, Sentence)> {
        let left = self.until_unix_ms.checked_sub(wall).filter(|left| *left > 0)?.min(self.length_ms);
        let subject = match self.subject {
            SavedSubject::Source(net) => Subject::Source(net),
            SavedSubject::Ports { address, first, last } => Subject::Ports { address, first, last },
            SavedSubject::Suffix(Name(name)) => Subject::Suffix(name),
        };
        let scope = match (self.qtype, self.below) {
            (Some(qtype), _) => Scope::Qtype(qtype),
            (None, Some(Name(name))) => Scope::Suffix(name),
            (None, None) => Scope::All,
        };
        let sentence = Sentence {
            action: self.action.into(),
            reason: Arc::from(self.reason),
            warning: self.warning,
            dry_run: self.dry_run,
            length: self.length_ms.saturating_mul(MILLISECOND),
            until: Some(now.saturating_add(left.saturating_mul(MILLISECOND))),
            growth: None,
            offence: self.offence,
            pace: self.pace.map(|pace| Pace {
                milli_per_second: pace.milli_per_second,
                window: pace.window,
                second_milli_per_second: pace.second_milli_per_second,
            }),
            by_hand: false,
        };
        Some((subject, scope, sentence))
    }
}

impl From<Action> for SavedAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Pass => Self::Pass,
            Action::Drop => Self::Drop,
            Action::Count => Self::Count,
            Action::Truncate => Self::Truncate,
            Action::Refused => Self::Refused,
            Action::NxDomain => Self::NxDomain,
            Action::Slip(every) => Self::Slip(every),
        }
    }
}

impl From<SavedAction> for Action {
    fn from(action: SavedAction) -> Self {
        match action {
            SavedAction::Pass => Self::Pass,
            SavedAction::Drop => Self::Drop,
            SavedAction::Count => Self::Count,
            SavedAction::Truncate => Self::Truncate,
            SavedAction::Refused => Self::Refused,
            SavedAction::NxDomain => Self::NxDomain,
            SavedAction::Slip(every) => Self::Slip(every),
        }
    }
}

const MILLISECOND: u64 = 1_000_000;

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time: Duration| nanos(time) / MILLISECOND)
}

/// Writes a new file, and puts it in the place of the old one.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}
