//! Pins that are not what they should be: the error says in what they differ, and nothing is touched.

use std::{
    error::Error,
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
    process::Command,
};

use ebpf_filter::{BpfFilter, BpfFilterBuilder, BuildError, Match, Mode, PinError, Unavailable};
use ebpf_filter_tests::{
    child,
    pins::{PinDir, PinnedMemory},
    require_kernel,
};

use super::{builder, filter};

const VERSION_AT: usize = 8;
const BLOCKED: [u8; 4] = [192, 0, 2, 1];

/// Pins with one rule.
fn pins() -> PinDir {
    let pins = PinDir::new();
    filter(pins.path()).block(BLOCKED).unwrap();
    pins
}

/// What building a filter says, in every mode that tries. Nothing has changed after that.
#[track_caller]
fn refused(builder: &BpfFilterBuilder, pins: &PinDir) -> PinError {
    let state = || {
        let names = pins.pins();
        let memory: Vec<_> = names
            .iter()
            .filter(|name| *name != "malformed" && fs::metadata(pins.pin(name)).is_ok_and(|it| it.is_file()))
            .filter_map(|name| Some((name.clone(), id(&pins.pin(name))?)))
            .collect();
        (names, memory)
    };
    let before = state();
    let errors = [Mode::Prefer, Mode::Require].map(|mode| match builder.clone().mode(mode).build() {
        Err(BuildError::Pins(error)) => error,
        other => panic!("{mode:?}: {other:?}"),
    });
    assert_eq!(state(), before);
    assert!(pins.siblings().is_empty());
    let [error, other] = errors;
    assert_eq!(error.to_string(), other.to_string());
    error
}

/// The number of the map, and all that is in it.
fn id(pin: &Path) -> Option<(u32, Vec<u8>)> {
    let map = aya::maps::MapData::from_pin(pin).ok()?;
    let info = map.info().ok()?;
    let bytes = if info.map_flags() == 1 << 10 { PinnedMemory::of(pin).bytes() } else { Vec::new() };
    Some((info.id(), bytes))
}

#[track_caller]
fn bpftool(arguments: &[&str]) {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Puts another map in the place of a pin.
#[track_caller]
fn replace(pins: &PinDir, pin: &str, kind: &str, [key, value, entries, flags]: [u32; 4]) {
    let path = pins.pin(pin);
    fs::remove_file(&path).unwrap();
    let [key, value, entries, flags] = [key, value, entries, flags].map(|number| number.to_string());
    bpftool(&[
        "map",
        "create",
        path.to_str().unwrap(),
        "type",
        kind,
        "key",
        &key,
        "value",
        &value,
        "entries",
        &entries,
        "name",
        "other",
        "flags",
        &flags,
    ]);
}

#[test]
fn another_version_of_the_layout() {
    require_kernel!();
    let pins = pins();
    PinnedMemory::of(&pins.pin("format")).write(VERSION_AT, &7_u32.to_ne_bytes());
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::Version { found: 7, expected: 1, .. }), "{error}");
    let remedy = format!("run `rm -r {}` to start anew", pins.path().display());
    assert!(error.to_string().contains(&remedy), "{error}");
    // Also if sizes are others, too.
    replace(&pins, "format", "array", [4, 4096, 1, 1 << 10]);
    let map = PinnedMemory::of(&pins.pin("format"));
    map.write(0, b"EBPFFLTR");
    map.write(VERSION_AT, &2_u32.to_ne_bytes());
    fs::remove_file(pins.pin("sieve")).unwrap();
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::Version { found: 2, .. }), "{error}");
}

#[test]
fn the_format_is_somebody_elses() {
    require_kernel!();
    let pins = pins();
    PinnedMemory::of(&pins.pin("format")).write(0, &[0; 8]);
    let error = refused(&builder(pins.path()), &pins);
    assert!(
        matches!(&error, PinError::Mismatch { property: "format", expected, .. } if expected == "EBPFFLTR"),
        "{error}"
    );
    replace(&pins, "format", "array", [4, 8, 1, 1 << 10]);
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::Mismatch { property: "value_size", .. }), "{error}");
}

#[test]
fn other_sizes_are_named_as_they_are_set() {
    require_kernel!();
    let pins = pins();
    for (setting, builder) in [
        ("ipv4_max", builder(pins.path()).ipv4_max(63)),
        ("ipv6_max", builder(pins.path()).ipv6_max(65)),
        ("ranges4_max", builder(pins.path()).ranges4_max(0)),
        ("ranges6_max", builder(pins.path()).ranges6_max(1)),
        ("qnames_max", builder(pins.path()).qnames_max(4096)),
        ("suffixes_max", builder(pins.path()).suffixes_max(1)),
        ("payload_offset", builder(pins.path()).payload_offset(28)),
    ] {
        let error = refused(&builder, &pins);
        assert!(matches!(&error, PinError::Mismatch { property, .. } if *property == setting), "{error}");
    }
    let error = refused(&builder(pins.path()).ipv4_max(63), &pins);
    let expected = format!(
        "the map pinned at {} has another ipv4_max: 64, where 63 is expected",
        pins.pin("format").display()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(filter(pins.path()).rule(&Match::address(BLOCKED)).is_some());
}

#[test]
fn every_property_of_a_map() {
    require_kernel!();
    for (pin, kind, numbers, property, expected, found) in [
        ("ipv4", "hash", [4, 32, 64, 0], "type", "Array", "Hash"),
        ("ipv4", "array", [4, 40, 64, 1 << 10], "value_size", "32", "40"),
        ("ipv6", "array", [4, 48, 32, 1 << 10], "max_entries", "64", "32"),
        ("sieve", "array", [4, 8, 64, 0], "map_flags", "1024", "0"),
        ("malformed", "hash", [8, 8, 6, 0], "type", "PerCpuArray", "Hash"),
        ("policy", "array", [4, 16, 1, 1 << 10], "value_size", "8", "16"),
        ("format", "array", [4, 168, 2, 1 << 10], "max_entries", "1", "2"),
        ("format", "hash", [8, 168, 1, 0], "type", "Array", "Hash"),
        ("format", "array", [4, 168, 1, 0], "map_flags", "1024", "0"),
    ] {
        let pins = pins();
        replace(&pins, pin, kind, numbers);
        let error = refused(&builder(pins.path()), &pins);
        let PinError::Mismatch { path, property: differs, expected: wanted, found: there } = &error else {
            panic!("{error}")
        };
        assert_eq!((&**path, *differs), (&*pins.pin(pin), property));
        assert_eq!((&**wanted, &**there), (expected, found));
    }
}

#[test]
fn a_pin_is_missing() {
    require_kernel!();
    for name in pins().pins() {
        let pins = pins();
        fs::remove_file(pins.pin(&name)).unwrap();
        let error = refused(&builder(pins.path()), &pins);
        assert!(matches!(&error, PinError::Incomplete { missing, .. } if *missing == [&*name]), "{error}");
        assert!(error.to_string().contains(&format!("there is no {name};")), "{error}");
    }
    // A directory for something else.
    let other = PinDir::new();
    fs::create_dir(other.path()).unwrap();
    fs::create_dir(other.pin("something")).unwrap();
    let error = refused(&builder(other.path()), &other);
    assert!(matches!(&error, PinError::Incomplete { missing, .. } if missing.len() == 12), "{error}");
}

#[test]
fn somebody_else_owns_them() {
    const NOBODY: u32 = 65534;
    require_kernel!(BPF | CHOWN);
    let pins = pins();
    chown(pins.pin("names"), Some(NOBODY), None).unwrap();
    let error = refused(&builder(pins.path()), &pins);
    assert!(
        matches!(&error, PinError::Owner { path, found: NOBODY, .. } if *path == pins.pin("names")),
        "{error}"
    );
    chown(pins.pin("names"), Some(0), None).unwrap();
    chown(pins.path(), Some(NOBODY), None).unwrap();
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::Owner { path, found: NOBODY, .. } if path == pins.path()), "{error}");
    chown(pins.path(), Some(0), None).unwrap();

    let everybody = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    everybody(&pins.pin("ipv4"), 0o606);
    let error = refused(&builder(pins.path()), &pins);
    assert!(
        matches!(&error, PinError::Writable { path, found: 0o606 } if *path == pins.pin("ipv4")),
        "{error}"
    );
    everybody(&pins.pin("ipv4"), 0o600);
    everybody(pins.path(), 0o707);
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::Writable { path, .. } if path == pins.path()), "{error}");
    everybody(pins.path(), 0o700);
    assert!(filter(pins.path()).rule(&Match::address(BLOCKED)).is_some());
}

#[test]
fn something_else_is_pinned_there() {
    require_kernel!();
    let pins = pins();
    let open = filter(pins.path());
    let program = open.status().programs[0].id.to_string();
    let path = pins.pin("control");
    fs::remove_file(&path).unwrap();
    bpftool(&["prog", "pin", "id", &program, path.to_str().unwrap()]);
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::NotAMap { found, .. } if found == "bpf-prog"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = refused(&builder(pins.path()), &pins);
    assert!(matches!(&error, PinError::NotAMap { found, .. } if found == "directory"), "{error}");
}

#[test]
fn not_in_a_bpf_file_system() {
    require_kernel!();
    let folder = tempfile::tempdir().unwrap();
    for directory in [folder.path().join("pins"), folder.path().join("a/b")] {
        let error = builder(&directory).build().unwrap_err();
        let BuildError::Pins(error) = error else { panic!("{error}") };
        assert!(matches!(error, PinError::NotOnBpffs { .. }), "{error}");
        assert!(error.to_string().contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    for directory in ["pins", "", "/sys/fs/bpf/../x", "/sys/fs/bpf/a.b"] {
        let error = builder(Path::new(directory)).build().unwrap_err();
        assert!(matches!(error, BuildError::Pins(PinError::Path { .. })), "{directory}: {error:?}");
    }
    // A link to another place is followed, and that place is looked at.
    let pins = PinDir::new();
    symlink(folder.path(), pins.path()).unwrap();
    let error = builder(pins.path()).build().unwrap_err();
    assert!(matches!(error, BuildError::Pins(PinError::NotOnBpffs { .. })), "{error:?}");
    fs::remove_file(pins.path()).unwrap();
}

#[test]
fn without_privileges_user_space_enforces() {
    require_kernel!();
    child::without_capabilities("mismatch::without_privileges_user_space_enforces", || {
        let pins = PinDir::new();
        let filter = builder(pins.path()).mode(Mode::Prefer).build().unwrap();
        let status = filter.status();
        assert!(matches!(status.reason.as_deref(), Some(Unavailable::MissingCapability { .. })), "{status}");
        assert_eq!(status.pin_dir, None);
        assert!(!pins.path().exists());
        let error = builder(pins.path()).mode(Mode::Require).build().unwrap_err();
        assert!(matches!(error, BuildError::Kernel(_)), "{error}");
        assert!(error.source().unwrap().to_string().contains("CAP_BPF"));
    });
    // Nobody asks for them.
    let pins = PinDir::new();
    let off = builder(pins.path()).mode(Mode::Off).build().unwrap();
    off.block(BLOCKED).unwrap();
    assert_eq!(off.status().pin_dir, None);
    assert!(!pins.path().exists());
}

/// What a process leaves that dies while it creates pins is cleared away by the next one that does.
#[test]
fn what_was_abandoned_is_removed() {
    require_kernel!();
    let pins = PinDir::new();
    let beside = |suffix: &str| {
        pins.path().with_file_name(format!("{}-{suffix}", pins.path().file_name().unwrap().to_str().unwrap()))
    };
    let (abandoned, busy, other) = (beside("new-1-0"), beside("new-1-1"), beside("new-x"));
    for directory in [&abandoned, &busy, &other] {
        fs::create_dir(directory).unwrap();
        bpftool(&[
            "map",
            "create",
            directory.join("ipv4").to_str().unwrap(),
            "type",
            "array",
            "key",
            "4",
            "value",
            "8",
            "entries",
            "1",
            "name",
            "x",
        ]);
    }
    let lock = fs::File::open(&busy).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let _filter: BpfFilter = filter(pins.path());
    assert!(!abandoned.exists() && busy.exists() && other.exists());
    assert_eq!(pins.pins().len(), 12);
}
