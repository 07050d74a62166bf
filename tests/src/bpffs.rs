//! A directory for pins, of one test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use ebpf_filter::{BpfFilter, BpfFilterBuilder, ExternalFilter, ExternalMaps};

const BPFFS: &str = "/sys/fs/bpf";

/// A directory in the BPF file system, which goes with its pins when this is dropped. Nothing is there before a filter is built.
#[derive(Debug)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// A directory of its own. If no BPF file system is mounted, one is.
    #[track_caller]
    pub fn new() -> Self {
        static MOUNT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        MOUNT.call_once(|| {
            let mounts = fs::read_to_string("/proc/mounts").expect("proc is mounted");
            if !mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
                let mounted = Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]).status();
                assert!(mounted.expect("mount is installed").success(), "nothing is mounted at {BPFFS}");
            }
        });
        let name = format!("ebpf-filter-test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { directory: Path::new(BPFFS).join(name) }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a pin.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// All maps.
    pub fn maps(&self) -> ExternalMaps {
        ExternalMaps::in_directory(&self.directory)
    }

    /// A filter with these maps.
    #[track_caller]
    pub fn filter(&self) -> ExternalFilter {
        self.filter_with(BpfFilter::builder())
    }

    /// A filter with these maps, in these sizes.
    #[track_caller]
    pub fn filter_with(&self, sizes: BpfFilterBuilder) -> ExternalFilter {
        sizes.external(self.maps()).build().expect("the kernel can")
    }

    /// What is in the directory, by name.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<_> = entries.filter_map(name).collect();
        names.sort();
        names
    }
}

impl Default for Pins {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // A test may have built nothing.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
