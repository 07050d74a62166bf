//! Maps of a filter that are pinned: in one directory of a BPF file system, all of them or none.

mod create;
mod parts;

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
};

use aya::maps::MapData;
use ebpf_prog::{
    format::{Format, Head, Parameters},
    layout::{VERSION, maps},
};
use rustix::fs::FlockOperation;

use self::{
    create::{create, remove},
    parts::{FORMAT, PARTS, shapes},
};
use super::{
    lock::{Lock, flock},
    pin::{self, Shape},
    sys::Mapping,
};
use crate::{Kind, PinError, engine::Lens};

/// How often somebody may be faster in creating or removing the directory.
const ATTEMPTS: usize = 8;

/// The pins of a filter. Nobody else changes its rules while this lives.
#[derive(Debug)]
pub(super) struct Opened {
    directory: PathBuf,
    lock: File,
    /// Of the maps, as the kernel numbers them.
    ids: [u32; PARTS.len()],
    pub(super) format: Mapping<Format>,
    pub(super) policy: Mapping<AtomicU64>,
    /// Whether there were none before.
    is_new: bool,
}

impl Opened {
    /// Opens the pins of a directory, or creates them. What is there is not touched unless it is all that it should be.
    pub(super) fn open(directory: &Path, lens: &Lens, parameters: &Parameters) -> Result<Self, PinError> {
        let mut is_new = false;
        for _ in 0..ATTEMPTS {
            pin::check(&directory.join(FORMAT))?;
            if is_absent(directory)? {
                is_new = create(directory, &shapes(lens), parameters)?;
            }
            let lock = match File::open(directory) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(pin::failed("open", directory, error)),
            };
            flock(&lock, FlockOperation::LockExclusive)
                .map_err(|error| pin::failed("lock", directory, error))?;
            if is_still(&lock, directory) && !is_absent(directory)? {
                return Self::look(directory, lock, &shapes(lens), parameters, is_new);
            }
        }
        Err(pin::failed("open", directory, io::ErrorKind::ResourceBusy.into()))
    }

    fn look(
        directory: &Path,
        lock: File,
        shapes: &[Shape; PARTS.len()],
        parameters: &Parameters,
        is_new: bool,
    ) -> Result<Self, PinError> {
        let format = open_format(directory, parameters)?;
        complete(directory)?;
        let mut ids = [0; PARTS.len()];
        let mut policy = None;
        for (((map, pin), shape), id) in PARTS.iter().zip(shapes).zip(&mut ids) {
            let path = directory.join(pin);
            let data = pin::open(&path, shape)?.ok_or_else(|| PinError::Incomplete {
                directory: directory.to_owned(),
                missing: vec![pin],
            })?;
            let failed = |error| pin::failed("look at", &path, pin::os_error(error));
            *id = data.info().map_err(failed)?.id();
            if *map == maps::POLICY {
                policy = Some(map_memory(&path, &data)?);
            }
        }
        let policy = policy.unwrap_or_else(|| unreachable!("the policy is one of the parts"));
        Ok(Self { directory: directory.to_owned(), lock, ids, format, policy, is_new })
    }

    /// Which map of the object is pinned where.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> + '_ {
        PARTS.into_iter().map(|(map, pin)| (map, self.directory.join(pin)))
    }

    /// Whether the maps with these names are those that were looked at.
    pub(super) fn are(&self, id_of: impl Fn(&str) -> Option<u32>) -> bool {
        PARTS.iter().zip(&self.ids).all(|((map, _), id)| id_of(map) == Some(*id))
    }

    /// Lets others change rules.
    pub(super) fn release(self) -> Result<(Mapping<Format>, Mapping<AtomicU64>, Lock), PinError> {
        let Self { directory, lock, format, policy, .. } = self;
        flock(&lock, FlockOperation::Unlock).map_err(|error| pin::failed("unlock", &directory, error))?;
        Ok((format, policy, Lock::new(lock, directory)))
    }

    /// Undoes what [`Opened::open`] has created.
    pub(super) fn remove_if_new(self) {
        if self.is_new {
            // Whatever cannot be removed is opened the next time.
            let _ = remove(&self.directory);
        }
    }
}

impl Lock {
    /// Removes the pins, unless others have been put in their place.
    pub(crate) fn unpin(&self) -> Result<(), PinError> {
        let directory = self.directory();
        let failed = |error| pin::failed("remove the pins in", directory, error);
        let _held = self.hold().map_err(|error| failed(error.source))?;
        if is_still(self.file(), directory) { remove(directory).map_err(failed) } else { Ok(()) }
    }
}

/// Whether there is nothing in this place: no directory, or an empty one.
fn is_absent(directory: &Path) -> Result<bool, PinError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(pin::failed("look at", directory, error)),
    }
}

/// Whether the directory that was opened is the one that is there.
fn is_still(opened: &File, directory: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    opened.metadata().map(id).ok() == fs::metadata(directory).map(id).ok()
}

/// Whether every pin is there.
fn complete(directory: &Path) -> Result<(), PinError> {
    let pins = PARTS.into_iter().map(|(_, pin)| pin).chain([FORMAT]);
    let missing: Vec<_> = pins.filter(|pin| !directory.join(pin).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(PinError::Incomplete { directory: directory.to_owned(), missing })
}

/// Looks at what is the same in every version first.
fn open_format(directory: &Path, parameters: &Parameters) -> Result<Mapping<Format>, PinError> {
    let path = directory.join(FORMAT);
    let differs = |property, expected: String, found: String| {
        Err(PinError::Mismatch { path: path.clone(), property, expected, found })
    };
    let Some(data) = pin::look(&path)? else {
        complete(directory)?;
        return Err(PinError::Incomplete { directory: directory.to_owned(), missing: vec![FORMAT] });
    };
    let info = data.info().map_err(|error| pin::failed("look at", &path, pin::os_error(error)))?;
    let shape = parts::format();
    pin::verify(&path, &data, &Shape { value_size: info.value_size(), ..shape })?;
    let wrong_size = || differs("value_size", shape.value_size.to_string(), info.value_size().to_string());
    if (info.value_size() as usize) < size_of::<Head>() {
        return wrong_size();
    }
    let head: Mapping<Head> = map_memory(&path, &data)?;
    if head[0].magic() != Head::MAGIC {
        let text = |magic: u64| magic.to_ne_bytes().escape_ascii().to_string();
        return differs("format", text(Head::MAGIC), text(head[0].magic()));
    }
    let found = head[0].version();
    if found != VERSION {
        return Err(PinError::Version { directory: directory.to_owned(), expected: VERSION, found });
    }
    if info.value_size() != shape.value_size {
        return wrong_size();
    }
    let format: Mapping<Format> = map_memory(&path, &data)?;
    let found = format[0].parameters();
    for kind in Kind::ALL {
        let [expected, found] = [parameters, &found].map(|of| of.maxima[kind as usize]);
        if expected != found {
            return differs(kind.setting(), expected.to_string(), found.to_string());
        }
    }
    if found.payload_offset != parameters.payload_offset {
        let [expected, found] = [parameters, &found].map(|of| of.payload_offset.to_string());
        return differs("payload_offset", expected, found);
    }
    Ok(format)
}

/// Maps the one element of an array.
fn map_memory<T: zerocopy::FromBytes>(path: &Path, data: &MapData) -> Result<Mapping<T>, PinError> {
    Mapping::new(data.fd().as_fd(), 1).map_err(|error| pin::failed("map into memory", path, error))
}
