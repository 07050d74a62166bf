//! Building a filter for programs of others.

use std::{
    error::Error,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{ExternalFilter, Format};
use crate::{BpfFilterBuilder, Kind, PinError, Unavailable, sizes::Sizes};

/// Where the maps are pinned that a program of somebody else looks at. A kind without a path is not used, nor is one whose
/// maximum is 0.
///
/// The paths are in a BPF file system, /sys/fs/bpf mostly. What is missing of their directories is created for this user alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalMaps {
    /// The map of IPv4 sources, as many as [`BpfFilterBuilder::ipv4_max`] says.
    pub addr_v4: Option<PathBuf>,
    /// The map of IPv6 sources, as many as [`BpfFilterBuilder::ipv6_max`] says.
    pub addr_v6: Option<PathBuf>,
    /// The map of names, as many as [`BpfFilterBuilder::qnames_max`] says.
    pub qnames: Option<PathBuf>,
    /// The map of ranges of IPv4 sources, as many as [`BpfFilterBuilder::ranges4_max`] says.
    pub cidr4: Option<PathBuf>,
    /// The map of ranges of IPv6 sources, as many as [`BpfFilterBuilder::ranges6_max`] says.
    pub cidr6: Option<PathBuf>,
    /// The map of this library's own that says when rules end, which no program looks at. If there is no path, it is that of the
    /// first of the others with `-ends` behind it.
    pub ends: Option<PathBuf>,
}

impl ExternalMaps {
    /// All maps in one directory, with the names that dnsdist's own program for XDP expects in /sys/fs/bpf/dnsdist: `addr-v4`,
    /// `addr-v6`, `qnames`, `cidr4` and `cidr6`; and `ends`.
    ///
    /// ```
    /// # use ebpf_filter::ExternalMaps;
    /// let maps = ExternalMaps::in_directory("/sys/fs/bpf/dnsdist");
    /// assert_eq!(maps.addr_v4, Some("/sys/fs/bpf/dnsdist/addr-v4".into()));
    /// ```
    pub fn in_directory(directory: impl AsRef<Path>) -> Self {
        let path = |name| Some(directory.as_ref().join(name));
        Self {
            addr_v4: path("addr-v4"),
            addr_v6: path("addr-v6"),
            qnames: path("qnames"),
            cidr4: path("cidr4"),
            cidr6: path("cidr6"),
            ends: path("ends"),
        }
    }

    pub(crate) fn of(&self, kind: Kind) -> Option<&Path> {
        match kind {
            Kind::Ipv4 => self.addr_v4.as_deref(),
            Kind::Ipv6 => self.addr_v6.as_deref(),
            Kind::Range4 => self.cidr4.as_deref(),
            Kind::Range6 => self.cidr6.as_deref(),
            Kind::Qname => self.qnames.as_deref(),
            Kind::Suffix => None,
        }
    }

    /// Where the map of ends is, if this is the first of the others.
    pub(crate) fn ends_beside(&self, first: &Path) -> PathBuf {
        self.ends.clone().unwrap_or_else(|| {
            let mut path = OsString::from(first);
            path.push("-ends");
            path.into()
        })
    }
}

/// Builds an [`ExternalFilter`]: [`BpfFilterBuilder::external`].
#[derive(Clone, Debug)]
#[must_use = "nothing is built before `build` is called"]
pub struct ExternalFilterBuilder {
    sizes: Sizes,
    maps: ExternalMaps,
    format: Format,
}

impl ExternalFilterBuilder {
    pub(crate) const fn new(sizes: Sizes, maps: ExternalMaps) -> Self {
        Self { sizes, maps, format: Format { every_qtype: 255 } }
    }

    /// The number that stands for every type in the key of a name. 255 unless set, which is what programs for dnsdist before 2.0 look
    /// for; those for dnsdist 2.0 and later look for 65535. A rule for the one type that has this number cannot be said then.
    pub const fn every_qtype(mut self, number: u16) -> Self {
        self.format.every_qtype = number;
        self
    }

    /// Opens the maps that are pinned, and creates and pins the others. Entries that are there already stay; those whose end has
    /// come while nobody was there to remove them go at once.
    ///
    /// # Errors
    ///
    /// If there is no path at all, if no pin can be at one of the paths, if what is pinned there is anything else than this filter
    /// needs, or if the kernel refuses. Nothing was created or changed then.
    pub fn build(self) -> Result<ExternalFilter, ExternalError> {
        let Self { sizes, maps, format } = self;
        let used = |kind| if maps.of(kind).is_some() { sizes.of(kind) } else { 0 };
        let sizes = Sizes {
            ipv4: used(Kind::Ipv4),
            ipv6: used(Kind::Ipv6),
            ranges4: used(Kind::Range4),
            ranges6: used(Kind::Range6),
            qnames: used(Kind::Qname),
            suffixes: 0,
        };
        ExternalFilter::open(sizes, &maps, format)
    }
}

impl BpfFilterBuilder {
    /// The rules are for a program of somebody else, which looks at pinned maps in dnsdist's format "with actions": what is built
    /// from here on is an [`ExternalFilter`]. Of what was set before, the maxima count; there is no mode, and nothing is attached.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use ebpf_filter::{BpfFilter, ExternalMaps};
    ///
    /// let maps = ExternalMaps::in_directory("/sys/fs/bpf/dnsdist");
    /// let filter = BpfFilter::builder().ipv4_max(100_000).external(maps).every_qtype(65535).build()?;
    /// filter.block([192, 0, 2, 1])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn external(self, maps: ExternalMaps) -> ExternalFilterBuilder {
        ExternalFilterBuilder::new(self.sizes, maps)
    }
}

/// Why a filter for programs of others cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// No map is used.
    #[error("no map is used: give the path of one at least, with a maximum above 0")]
    NoMaps,
    /// Something about the pins.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The kernel does not let this process use the maps.
    #[error("the kernel lets nobody use the maps")]
    Kernel(#[source] Arc<Unavailable>),
}

/// Anything that should not go wrong once the maps are open.
pub(crate) fn unavailable(
    action: &'static str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> ExternalError {
    ExternalError::Kernel(Arc::new(Unavailable::Other { action, source: source.into() }))
}
