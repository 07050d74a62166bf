//! Maps that are pinned in a BPF file system: they outlive this process, and others can open them.
//!
//! A pin is input like any other. What is there already is checked whole before it is used, and before anything is created.

mod place;

use std::{fs, io, os::fd::AsRawFd as _, path::Path, sync::Arc};

use aya::{
    maps::{MapData, MapError, MapType},
    sys::SyscallError,
};

use super::diagnosis::{self, Facts};
use crate::{PinError, Unavailable};

pub(super) use place::check;

/// What a map must be. Nothing here is rounded by the kernel, for the types of maps that are pinned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) map_type: MapType,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// A map that is to be pinned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) path: &'a Path,
    /// As `bpftool map show` names it: up to 15 letters, digits, `_` or `.`.
    pub(super) name: &'a str,
    pub(super) shape: Shape,
}

/// A map that is pinned.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) map: MapData,
    /// Whether this process has created it just now.
    pub(super) is_new: bool,
}

/// Opens the maps that are there, and creates those that are not. If that fails, there is no pin that was not there before.
pub(super) fn open_or_create(wanted: &[Wanted<'_>]) -> Result<Vec<Pinned>, PinError> {
    for Wanted { path, .. } in wanted {
        check(path)?;
    }
    let opened = wanted.iter().map(|Wanted { path, shape, .. }| open(path, shape));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    // Creating is what may fail for lack of memory, so nothing is pinned before it.
    let maps = wanted.iter().zip(opened).map(|(wanted, opened)| match opened {
        Some(map) => Ok(Pinned { map, is_new: false }),
        None => Ok(Pinned { map: create(wanted)?, is_new: true }),
    });
    let maps = maps.collect::<Result<Vec<_>, PinError>>()?;
    let mut pinned: Vec<Pinned> = Vec::with_capacity(maps.len());
    for (Wanted { path, shape, .. }, Pinned { map, is_new }) in wanted.iter().zip(maps) {
        let outcome = if is_new { publish(path, map, shape) } else { Ok(Pinned { map, is_new }) };
        match outcome {
            Ok(one) => pinned.push(one),
            Err(error) => {
                for (Wanted { path, .. }, _) in wanted.iter().zip(&pinned).filter(|(_, one)| one.is_new) {
                    // Whoever else has removed it has done what was to be done.
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
        }
    }
    Ok(pinned)
}

/// The map that is pinned there, if it is what it should be; `None` if nothing is pinned there. [`check`] the path first.
pub(super) fn open(path: &Path, shape: &Shape) -> Result<Option<MapData>, PinError> {
    let map = look(path)?;
    map.map(|map| verify(path, &map, shape).map(|()| map)).transpose()
}

/// What is pinned there, which may be anything; `None` if nothing is. [`check`] the path first, and [`verify`] what is returned.
pub(super) fn look(path: &Path) -> Result<Option<MapData>, PinError> {
    if !place::is_pin(path)? {
        return Ok(None);
    }
    match MapData::from_pin(path).map_err(os_error) {
        Ok(map) => Ok(Some(map)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path, error)),
    }
}

/// A map that is not pinned yet.
pub(super) fn create(Wanted { path, name, shape }: &Wanted<'_>) -> Result<MapData, PinError> {
    let Shape { map_type, key_size, value_size, max_entries, flags } = *shape;
    let definition = aya_obj::Map::new_from_params(map_type as u32, key_size, value_size, max_entries, flags);
    MapData::create(definition, name, None).map_err(|error| {
        let source = os_error(error);
        let reason = diagnosis::of_map((*name).to_owned(), source, &Facts::gather());
        unavailable("create a map for", path, reason)
    })
}

/// Pins a map, in directories for this user alone if there are none yet. If somebody else was faster, their map is taken in its
/// place, if it has the same shape.
pub(super) fn publish(path: &Path, map: MapData, shape: &Shape) -> Result<Pinned, PinError> {
    /// How often somebody may pin and unpin in between.
    const ATTEMPTS: usize = 8;
    place::create_parent(path)?;
    for _ in 0..ATTEMPTS {
        match map.pin(path) {
            Ok(()) => return Ok(Pinned { map, is_new: true }),
            Err(error) => {
                let error = os_error(MapError::PinError { name: None, error });
                if error.kind() != io::ErrorKind::AlreadyExists {
                    return Err(failed("pin a map at", path, error));
                }
            }
        }
        if let Some(map) = open(path, shape)? {
            return Ok(Pinned { map, is_new: false });
        }
    }
    Err(failed("pin a map at", path, io::ErrorKind::AlreadyExists.into()))
}

/// Compares a map with what it should be.
pub(super) fn verify(path: &Path, map: &MapData, shape: &Shape) -> Result<(), PinError> {
    if let Some(found) = other_object(map) {
        return Err(PinError::NotAMap { path: path.to_owned(), found });
    }
    let info = map.info().map_err(|error| failed("look at", path, os_error(error)))?;
    let found_type = match info.map_type() {
        Ok(map_type) if map_type == shape.map_type => None,
        Ok(other) => Some(format!("{other:?}")),
        Err(error) => Some(error.to_string()),
    };
    let numbers = [
        ("key_size", shape.key_size, info.key_size()),
        ("value_size", shape.value_size, info.value_size()),
        ("max_entries", shape.max_entries, info.max_entries()),
        ("map_flags", shape.flags, info.map_flags()),
    ];
    let number = numbers.into_iter().find(|(_, expected, found)| expected != found);
    let number = number.map(|(name, expected, found)| (name, expected.to_string(), found.to_string()));
    let differs = found_type.map(|found| ("type", format!("{:?}", shape.map_type), found)).or(number);
    match differs {
        None => Ok(()),
        Some((property, expected, found)) => {
            Err(PinError::Mismatch { path: path.to_owned(), property, expected, found })
        }
    }
}

/// What a descriptor is if it is no map: programs and links are pinned as well, and opened by the same call.
fn other_object(map: &MapData) -> Option<String> {
    use std::os::fd::AsFd as _;
    let link = format!("/proc/self/fd/{}", map.fd().as_fd().as_raw_fd());
    // Without /proc, sizes that match have to do.
    let target = fs::read_link(link).ok()?;
    let target = target.to_string_lossy();
    (target != "anon_inode:bpf-map").then(|| target.trim_start_matches("anon_inode:").to_owned())
}

/// An error of a system call on a pin, and what it means.
pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> PinError {
    if source.raw_os_error() == Some(libc::EPERM) {
        return unavailable(action, path, Facts::gather().refusal(source));
    }
    PinError::Io { action, path: path.to_owned(), source }
}

fn unavailable(action: &'static str, path: &Path, reason: Unavailable) -> PinError {
    PinError::Unavailable { action, path: path.to_owned(), source: Arc::new(reason) }
}

/// The error of the system call in an error of aya.
pub(super) fn os_error(error: MapError) -> io::Error {
    if let MapError::SyscallError(SyscallError { io_error, .. })
    | MapError::CreateError { io_error, .. }
    | MapError::IoError(io_error)
    | MapError::PinError {
        error: aya::pin::PinError::SyscallError(SyscallError { io_error, .. }), ..
    } = error
    {
        return io_error;
    }
    io::Error::other(error)
}
