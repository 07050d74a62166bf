//! Directories for pins, and what is in them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use ebpf_filter::{BpfFilter, BpfFilterBuilder, ExternalFilter, ExternalMaps};

const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` in `linux/magic.h`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// A directory for the pins of one test, which goes with it. It is not created.
#[derive(Debug)]
pub struct PinDir(PathBuf);

impl PinDir {
    /// Mounts a BPF file system if there is none.
    #[track_caller]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        mount();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Path::new(BPFFS).join(format!("ebpf-filter-test-{}-{number}", std::process::id())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The pin with this name.
    pub fn pin(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Maps for programs of others, with their usual names.
    pub fn maps(&self) -> ExternalMaps {
        ExternalMaps::in_directory(&self.0)
    }

    /// A filter with these maps.
    #[track_caller]
    pub fn external(&self) -> ExternalFilter {
        self.external_with(BpfFilter::builder())
    }

    /// A filter with these maps, in these sizes.
    #[track_caller]
    pub fn external_with(&self, sizes: BpfFilterBuilder) -> ExternalFilter {
        sizes.external(self.maps()).build().expect("the kernel can")
    }

    /// The names of all pins; none if there is no directory.
    #[track_caller]
    pub fn pins(&self) -> Vec<String> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            entries => entries.expect("it can be read"),
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    /// What is beside it and begins with its name: what is being created, or was left.
    #[track_caller]
    pub fn siblings(&self) -> Vec<PathBuf> {
        let name = format!("{}-", self.0.file_name().expect("it has one").to_string_lossy());
        let entries = fs::read_dir(BPFFS).expect("it is mounted").map(|entry| entry.expect("an entry"));
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .map(|entry| entry.path())
            .collect()
    }
}

impl Default for PinDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        for directory in self.siblings().into_iter().chain([self.0.clone()]) {
            drop(fs::remove_dir_all(directory));
        }
    }
}

/// The memory of a pinned array map, as it is now and as it changes.
#[derive(Debug)]
pub struct PinnedMemory {
    map: File,
    memory: crate::sys::SharedMemory,
}

impl PinnedMemory {
    /// Of an array that may be mapped.
    #[track_caller]
    pub fn of(pin: &Path) -> Self {
        let map = aya::maps::MapData::from_pin(pin).expect("it is pinned");
        let info = map.info().expect("it is a map");
        let value = info.value_size().next_multiple_of(8) as usize;
        let len = (value * info.max_entries() as usize).next_multiple_of(rustix::param::page_size());
        let fd = std::os::fd::AsFd::as_fd(map.fd()).try_clone_to_owned().expect("a descriptor");
        let map = File::from(fd);
        let memory = crate::sys::SharedMemory::map(&map, len).expect("the map may be mapped");
        Self { map, memory }
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.memory.read()
    }

    /// Whether it is no longer what it was; then `before` becomes what it is now. Whoever else has this memory must be stopped.
    pub fn update(&self, before: &mut Vec<u8>) -> bool {
        self.memory.update(before)
    }

    /// Writes over some of it.
    #[track_caller]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.memory.write(offset, bytes);
    }

    /// Its descriptor.
    pub const fn map(&self) -> &File {
        &self.map
    }
}

#[track_caller]
fn mount() {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::allow_attributes,
        reason = "the type of the number differs between architectures"
    )]
    let is_mounted = || rustix::fs::statfs(BPFFS).is_ok_and(|it| it.f_type as u32 == BPF_FS_MAGIC);
    if !is_mounted() {
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]).status();
        // Another test may have been faster.
        assert!(
            mounted.is_ok_and(|status| status.success()) || is_mounted(),
            "no BPF file system at {BPFFS}"
        );
    }
}
