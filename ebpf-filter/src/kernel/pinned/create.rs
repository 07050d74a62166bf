//! Creating and removing the directory of pins.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::maps::{MapData, MapError};
use ebpf_prog::{
    format::{Format, Parameters},
    layout::maps,
};
use rustix::fs::FlockOperation;

use super::{
    map_memory,
    parts::{self, FORMAT, PARTS},
};
use crate::{
    PinError,
    kernel::{
        lock::flock,
        pin::{self, Shape, Wanted},
    },
};

/// Creates all pins at once: in a directory beside the one that they are for, which then takes its place. Whoever is killed
/// meanwhile leaves nothing in it. Says whether nobody else was faster.
pub(super) fn create(
    directory: &Path,
    shapes: &[Shape; PARTS.len()],
    parameters: &Parameters,
) -> Result<bool, PinError> {
    // What may fail for lack of memory comes before anything can be seen.
    let mut maps = Vec::with_capacity(PARTS.len() + 1);
    for ((map, pin), shape) in PARTS.iter().zip(shapes) {
        // The name of the section is none that the kernel takes.
        let name = if *map == maps::POLICY { "POLICY" } else { map };
        maps.push((*pin, pin::create(&Wanted { path: &directory.join(pin), name, shape: *shape })?));
    }
    let path = directory.join(FORMAT);
    let format = pin::create(&Wanted { path: &path, name: "FORMAT", shape: parts::format() })?;
    map_memory::<Format>(&path, &format)?[0].begin(parameters);
    maps.push((FORMAT, format));

    let parent = directory.parent().unwrap_or(directory);
    let make = |recursive, path: &Path| DirBuilder::new().recursive(recursive).mode(0o700).create(path);
    make(true, parent).map_err(|error| pin::failed("create the directory", parent, error))?;
    let prefix = format!("{}-new-", directory.file_name().unwrap_or_default().to_string_lossy());
    remove_abandoned(parent, &prefix);
    let new = parent.join(format!("{prefix}{}", unique()));
    make(false, &new).map_err(|error| pin::failed("create the directory", &new, error))?;
    let Err(error) = publish(&new, &maps, directory) else { return Ok(true) };
    // Whatever is left is removed by the next one who comes here.
    let _ = remove(&new);
    let is_late = matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists);
    if is_late { Ok(false) } else { Err(pin::failed("pin maps in", directory, error)) }
}

fn publish(new: &Path, maps: &[(&str, MapData)], directory: &Path) -> io::Result<()> {
    // By this others know that somebody is at work here.
    let lock = File::open(new)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    for (pin, data) in maps {
        let pinned = data.pin(new.join(pin));
        pinned.map_err(|error| pin::os_error(MapError::PinError { name: None, error }))?;
    }
    fs::rename(new, directory)
}

/// What no other filter is called that is built now.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what somebody has left who died while creating pins. It is no harm if that fails.
fn remove_abandoned(parent: &Path, prefix: &str) {
    let is_number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let is_own = || {
            entry.metadata().is_ok_and(|metadata| {
                metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw()
            })
        };
        if rest.is_some_and(is_number)
            && is_own()
            && let Ok(lock) = File::open(entry.path())
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes the pins of a filter in a directory, and then the directory, if nothing else is in it.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    // The format goes last: without it, nobody takes the others for a filter's.
    for pin in PARTS.iter().map(|(_, pin)| *pin).chain([FORMAT]) {
        match fs::remove_file(directory.join(pin)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
