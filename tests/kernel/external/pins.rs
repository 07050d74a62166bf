//! What may be wrong with pins. Nothing is touched then.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::Barrier,
    thread,
    time::Duration,
};

use aya::maps::{HashMap, MapData};
use ebpf_filter::{BpfFilter, BpfFilterBuilder, ExternalError, ExternalMaps, PinError, Rule, Unavailable};
use ebpf_filter_tests::{child, pins::PinDir, require_kernel, shared_maps};

const MAPS: [&str; 5] = ["addr-v4", "addr-v6", "cidr4", "cidr6", "qnames"];

const NOBODY: u32 = 65534;
const THREADS: usize = 8;

fn build(maps: ExternalMaps) -> Result<(), PinError> {
    match BpfFilter::builder().external(maps).build() {
        Ok(_) => Ok(()),
        Err(ExternalError::Pin(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// A filter for IPv4 sources alone.
fn only_v4(path: impl Into<PathBuf>) -> ExternalMaps {
    ExternalMaps { addr_v4: Some(path.into()), ..Default::default() }
}

#[test]
fn pins_and_their_directories_are_for_this_user_alone() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let maps = ExternalMaps::in_directory(pins.pin("a/b"));
    build(maps).unwrap();
    let mode = |path: &str| fs::metadata(pins.pin(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("."), mode("a"), mode("a/b")], [0o700; 3]);
    for map in MAPS.into_iter().chain(["ends"]) {
        assert_eq!(mode(&format!("a/b/{map}")), 0o600, "{map}");
    }
}

#[test]
fn rules_outlive_the_filter() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    pins.external().insert_many(crate::every_kind()).unwrap();
    let rules = pins.external().stats().unwrap().rules;
    assert!(rules.into_iter().map(|found| found.rule).eq(crate::every_kind()));
}

/// Maps that somebody else has made, each wrong in one way.
#[test]
fn other_maps_are_refused() {
    require_kernel!(BPF | SYS_ADMIN);
    let create: [(&str, [&str; 5], &str, &str); 5] = [
        ("type", ["array", "4", "16", "1024", "0"], "Hash", "Array"),
        ("key_size", ["hash", "8", "16", "1024", "0"], "4", "8"),
        ("value_size", ["hash", "4", "8", "1024", "0"], "16", "8"),
        ("max_entries", ["hash", "4", "16", "1000", "0"], "1024", "1000"),
        ("map_flags", ["hash", "4", "16", "1024", "1"], "0", "1"),
    ];
    for (wrong, [kind, key, value, entries, flags], expected, found) in create {
        let pins = PinDir::new();
        fs::create_dir(pins.path()).unwrap();
        // The others come before and after it, and are not there.
        let pin = pins.pin("addr-v4");
        let created = Command::new("bpftool")
            .args(["map", "create"])
            .arg(&pin)
            .args([
                "type", kind, "key", key, "value", value, "entries", entries, "name", "other", "flags", flags,
            ])
            .output()
            .expect("bpftool is installed (Debian: bpftool)");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let before = fs::metadata(&pin).unwrap();
        let error = build(pins.maps()).unwrap_err();
        let text = error.to_string();
        let PinError::Mismatch { path, property, expected: wanted, found: got } = error else {
            panic!("{text}")
        };
        assert_eq!(
            (path.as_path(), property, wanted.as_str(), got.as_str()),
            (pin.as_path(), wrong, expected, found)
        );
        for part in [pin.to_str().unwrap(), wrong, expected, found] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(pins.pins(), ["addr-v4"]);
        let after = fs::metadata(&pin).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    }
}

/// What is wrong may be the last of them.
#[test]
fn nothing_is_created_beside_a_pin_that_is_wrong() {
    require_kernel!(BPF | SYS_ADMIN);
    for wrong in MAPS {
        let pins = PinDir::new();
        fs::create_dir(pins.path()).unwrap();
        shared_maps::create(&pins.pin(wrong), wrong, 7);
        let error = build(pins.maps()).unwrap_err();
        assert!(matches!(error, PinError::Mismatch { property: "max_entries", .. }), "{error}");
        assert_eq!(pins.pins(), [wrong]);
        assert_eq!(shared_maps::list(&pins.pin(wrong), wrong), [""; 0]);
    }
    let pins = PinDir::new();
    let maps = ExternalMaps { qnames: Some("/tmp/qnames".into()), ..pins.maps() };
    assert!(matches!(build(maps), Err(PinError::NotOnBpffs { .. })));
    assert!(!pins.path().exists());
}

/// The map of ends is checked like the others.
#[test]
fn ends_are_checked_too() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    pins.external();
    let more = BpfFilter::builder().ipv4_max(1024).ranges4_max(0);
    let error = more.external(pins.maps()).build().unwrap_err();
    let ExternalError::Pin(PinError::Mismatch { path, property, .. }) = error else { panic!("{error}") };
    assert_eq!((path, property), (pins.pin("ends"), "max_entries"));
}

#[test]
fn only_a_bpf_file_system_takes_pins() {
    require_kernel!(BPF | SYS_ADMIN);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("addr-v4");
    for create in [false, true] {
        if create {
            fs::write(&file, "a regular file").unwrap();
        }
        let error = build(only_v4(&file)).unwrap_err();
        assert!(error.to_string().contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        let PinError::NotOnBpffs { path, directory: looked_at } = error else { panic!("{error}") };
        assert_eq!((path.as_path(), looked_at.as_path()), (file.as_path(), directory.path()));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "a regular file");
    let below = directory.path().join("not/there");
    assert!(matches!(build(only_v4(&below)), Err(PinError::NotOnBpffs { .. })));
    assert!(!directory.path().join("not").exists());
}

#[test]
fn paths_that_no_pin_can_have_are_refused() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    pins.external();
    let directory = pins.path().to_str().unwrap();
    let odd = [
        "addr-v4",
        "",
        "/sys/fs/bpf/../addr",
        &format!("{directory}/"),
        &format!("{directory}/a.b"),
        &format!("{directory}/a.b/c"),
        &format!("{directory}/addr-v4/c"),
        &format!("{directory}/a\0b"),
    ]
    .map(PathBuf::from);
    for path in odd {
        let error = build(only_v4(&path)).unwrap_err();
        assert!(matches!(&error, PinError::Path { path: named, .. } if *named == path), "{path:?}: {error}");
    }
    assert_eq!(pins.pins(), ["addr-v4", "addr-v6", "cidr4", "cidr6", "ends", "qnames"]);
}

#[test]
fn what_is_no_map_is_refused() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    fs::create_dir_all(pins.pin("directory")).unwrap();
    let error = build(only_v4(pins.pin("directory"))).unwrap_err();
    assert!(matches!(&error, PinError::NotAMap { found, .. } if found == "directory"), "{error}");

    let mut loaded = aya::Ebpf::load(ebpf_prog::object::SOCKET_FILTER).unwrap();
    let program = loaded.program_mut(ebpf_prog::layout::programs::ADDRESS_ONLY).unwrap();
    let program: &mut aya::programs::SocketFilter = program.try_into().unwrap();
    program.load().unwrap();
    program.pin(pins.pin("program")).unwrap();
    let error = build(only_v4(pins.pin("program"))).unwrap_err();
    assert!(matches!(&error, PinError::NotAMap { found, .. } if found == "bpf-prog"), "{error}");
    assert_eq!(pins.pins(), ["directory", "program"]);
}

#[test]
fn pins_of_others_are_refused() {
    require_kernel!(BPF | SYS_ADMIN | CHOWN);
    let foreign = |path: &Path| {
        chown(path, Some(NOBODY), None).unwrap();
    };
    let refused = |pins: &PinDir, expected: &Path| {
        let error = build(pins.maps()).unwrap_err();
        assert!(error.to_string().contains("chown 0"), "{error}");
        let PinError::Owner { path, expected: 0, found: NOBODY } = error else { panic!("{error}") };
        assert_eq!(path, expected);
    };
    let pins = PinDir::new();
    pins.external();
    foreign(&pins.pin("qnames"));
    refused(&pins, &pins.pin("qnames"));
    let pins = PinDir::new();
    fs::create_dir(pins.path()).unwrap();
    foreign(pins.path());
    refused(&pins, pins.path());
    assert_eq!(pins.pins(), [""; 0]);
}

#[test]
fn pins_that_everybody_may_write_to_are_refused() {
    require_kernel!(BPF | SYS_ADMIN);
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = |pins: &PinDir, expected: &Path| {
        let error = build(pins.maps()).unwrap_err();
        assert!(error.to_string().contains("chmod o-w"), "{error}");
        let PinError::Writable { path, found: 0o666 } = error else { panic!("{error}") };
        assert_eq!(path, expected);
    };
    let pins = PinDir::new();
    pins.external();
    open(&pins.pin("cidr4"));
    refused(&pins, &pins.pin("cidr4"));
    let pins = PinDir::new();
    fs::create_dir(pins.path()).unwrap();
    open(pins.path());
    refused(&pins, pins.path());
    // A group may be let in.
    fs::set_permissions(pins.path(), fs::Permissions::from_mode(0o770)).unwrap();
    pins.external();
}

#[test]
fn no_map_is_no_filter() {
    let none = |builder: BpfFilterBuilder, maps| {
        let error = builder.external(maps).build().unwrap_err();
        assert!(matches!(error, ExternalError::NoMaps), "{error}");
    };
    none(BpfFilter::builder(), ExternalMaps::default());
    none(BpfFilter::builder().ipv4_max(0), only_v4("/sys/fs/bpf/addr-v4"));
    none(BpfFilter::builder(), ExternalMaps { ends: Some("/sys/fs/bpf/ends".into()), ..Default::default() });
}

#[test]
fn a_map_that_is_too_large_leaves_no_pins() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let error = BpfFilter::builder().qnames_max(u32::MAX).external(pins.maps()).build().unwrap_err();
    let ExternalError::Pin(PinError::Unavailable { path, source, .. }) = error else { panic!("{error}") };
    assert_eq!(path, pins.pin("qnames"));
    assert!(matches!(&*source, Unavailable::MapTooLarge { .. }), "{source}");
    assert!(!pins.path().exists());
}

/// Whoever is first pins the maps, and the others open those.
#[test]
fn several_at_once_share_the_maps() {
    require_kernel!(BPF | SYS_ADMIN);
    for _ in 0..20 {
        let pins = PinDir::new();
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for host in 0..THREADS {
                let (pins, barrier) = (&pins, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    pins.external().block([192, 0, 2, u8::try_from(host).unwrap()]).unwrap();
                });
            }
        });
        let map = MapData::from_pin(pins.pin("addr-v4")).unwrap();
        let map: HashMap<_, [u8; 4], [u8; 16]> = aya::maps::Map::HashMap(map).try_into().unwrap();
        let keys: BTreeSet<_> = map.keys().map(Result::unwrap).collect();
        assert_eq!(keys.len(), THREADS);
    }
}

/// To create maps takes a capability. Those that are pinned may be opened by whom the permissions of the file let in.
#[test]
fn without_capabilities_there_are_no_new_maps() {
    require_kernel!(BPF | SYS_ADMIN | SETPCAP);
    let pins = PinDir::new();
    if !child::is_child() {
        pins.external();
    }
    child::without_capabilities_and(
        "pins::without_capabilities_there_are_no_new_maps",
        pins.path(),
        |directory| {
            let maps = ExternalMaps::in_directory(directory);
            let filter = BpfFilter::builder().external(maps.clone()).build().unwrap();
            filter.insert_many(crate::every_kind()).unwrap();
            filter
                .insert(Rule::drop(crate::address("192.0.2.9")).expires_in(Duration::from_secs(60)))
                .unwrap();
            filter.reset_hits().unwrap();
            assert_eq!(filter.stats().unwrap().rules.len(), 6);
            filter.clear().unwrap();

            let maps = ExternalMaps { addr_v6: Some(directory.join("new")), ..maps };
            let error = BpfFilter::builder().external(maps).build().unwrap_err();
            let ExternalError::Pin(PinError::Unavailable { source, path, .. }) = error else {
                panic!("{error}")
            };
            assert_eq!(path, directory.join("new"));
            assert!(
                matches!(&*source, Unavailable::MissingCapability { capability: "CAP_BPF", .. }),
                "{source}"
            );
            assert!(source.to_string().contains("AmbientCapabilities=CAP_BPF"), "{source}");
        },
    );
    if !child::is_child() {
        assert_eq!(pins.pins(), ["addr-v4", "addr-v6", "cidr4", "cidr6", "ends", "qnames"]);
    }
}

/// `CAP_BPF` creates maps, and whoever may write to the directory pins them.
#[test]
fn cap_bpf_alone_is_enough() {
    require_kernel!(BPF | SYS_ADMIN | SETPCAP);
    let options = ["--bounding-set", "-all,+bpf", "--inh-caps", "-all"];
    // A BPF file system must be mounted already.
    let mounted = PinDir::new();
    child::under_setpriv("pins::cap_bpf_alone_is_enough", &options, || {
        let pins = PinDir::new();
        let filter = pins.external();
        filter.insert_many(crate::every_kind()).unwrap();
        assert_eq!(filter.stats().unwrap().rules.len(), 5);
        pins.external().clear().unwrap();
    });
    drop(mounted);
}
