//! Rules for programs of others, in pinned maps.

mod builder;
mod changes;
mod ends;
mod format;
mod reading;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::builder::{ExternalError, ExternalFilterBuilder, ExternalMaps};
use self::ends::Ends;
pub(crate) use self::{
    builder::unavailable,
    ends::{End, EndKey},
    format::{Format, Key, Value},
};
use crate::{
    KernelError, Kind, Match, RuleError, clock,
    kernel::SharedMaps,
    reaper::{Reap, Reaper},
    sizes::Sizes,
};

/// Rules for a program of somebody else: in pinned maps, byte for byte in dnsdist's format "with actions", so that dnsdist itself
/// and the programs that were written for it see them. Clones share one set of rules.
///
/// This filter loads no program and is attached to nothing. Others may change the same maps at any time: what it says is what
/// the kernel says in that moment, and an entry of somebody else is like one of its own. Every call is a system call or a few, of
/// about a microsecond; those that say so walk over whole maps.
///
/// The format has the actions [`Pass`](crate::Action::Pass), [`Drop`](crate::Action::Drop) and
/// [`Truncate`](crate::Action::Truncate), and no suffixes: any other rule is refused. `docs/EXTERNAL.md` describes it byte by byte.
///
/// # Rules that end
///
/// The format does not say when an entry ends, so a thread of this process removes it, within milliseconds. When it ends is
/// written to a map of its own beside the others: whoever builds a filter on the same pins after this process has ended, or was
/// killed, removes what is over at once, and the rest in its time. Until then such entries stay, also after every clone was
/// dropped. Entries without an end stay for as long as the pins: use [`ExternalFilter::reconcile`] at the start to have none but
/// those of the configuration.
///
/// If somebody else removes an entry that ends and adds one for the same match, that one is spared if it has another action, or
/// fewer hits than the one before had when this filter was last told its end. Otherwise nothing tells it from the one before,
/// and it ends with it. Two filters at the same pins do not know of ends that the other was told since it was built.
///
/// # Example
///
/// ```no_run
/// use std::time::Duration;
///
/// use ebpf_filter::{Action, BpfFilter, ExternalMaps, IpNet, Match, Rule};
///
/// let maps = ExternalMaps::in_directory("/sys/fs/bpf/dnsdist");
/// let filter = BpfFilter::builder().external(maps).build()?;
/// let friends: IpNet = "192.0.2.0/24".parse()?;
/// filter.reconcile([Rule::new(Match::range(friends), Action::Pass)])?;
/// filter.insert(Rule::drop(Match::address([198, 51, 100, 1])).expires_in(Duration::from_secs(60)))?;
/// print!("{}", filter.stats()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ExternalFilter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sizes: Sizes,
    format: Format,
    maps: SharedMaps,
    /// Whoever holds this changes entries.
    ends: Mutex<Ends>,
    reaper: Arc<Reaper>,
}

impl ExternalFilter {
    fn open(sizes: Sizes, paths: &ExternalMaps, format: Format) -> Result<Self, ExternalError> {
        let maps = SharedMaps::open(paths, sizes)?;
        let ends = Ends::read(&maps).map_err(|error| unavailable("read when entries end", error))?;
        let inner = Inner { sizes, format, maps, ends: Mutex::new(ends), reaper: Arc::default() };
        let filter = Self { inner: Arc::new(inner) };
        let next = filter.inner.reap();
        filter.expect(next);
        Ok(filter)
    }

    /// The most rules of this kind that there may be.
    pub fn capacity(&self, kind: Kind) -> u32 {
        self.inner.sizes.of(kind)
    }

    fn used(&self, kind: Kind) -> Result<(), RuleError> {
        if self.capacity(kind) == 0 { Err(RuleError::KindNotUsed(kind)) } else { Ok(()) }
    }

    /// The key for what a rule matches.
    fn key(&self, of: &Match) -> Result<Key, RuleError> {
        let missing = |what| Err(RuleError::NotInFormat { of: of.clone(), missing: what });
        match self.inner.format.key(of) {
            Some(key) => self.used(of.kind()).map(|()| key),
            None if of.kind() == Kind::Suffix => missing("rules for suffixes".to_owned()),
            None => missing(format!(
                "rules for the one type {}, which means every type",
                self.inner.format.every_qtype
            )),
        }
    }

    /// Has an entry removed then.
    fn expect(&self, at: Option<u64>) {
        if let Some(at) = at {
            self.inner.reaper.expect(at, &self.inner);
        }
    }
}

impl Inner {
    /// Changes are one at a time, and those that are over have ended before the next.
    fn changing(&self) -> Result<MutexGuard<'_, Ends>, KernelError> {
        let mut ends = self.ends();
        self.end(&mut ends)?;
        Ok(ends)
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is over.
    fn end(&self, ends: &mut Ends) -> Result<(), KernelError> {
        let now = clock::now();
        while let Some((key, deadline)) = ends.due(now) {
            // Somebody else may have put another entry in its place.
            if self.maps.lookup(&key)?.is_some_and(|value| deadline.is_for(&value)) {
                self.maps.remove(&key)?;
            }
            ends.forget(&self.maps, &key)?;
        }
        Ok(())
    }
}

impl Reap for Inner {
    /// Removes what is over, and says when something is over next.
    fn reap(&self) -> Option<u64> {
        /// In nanoseconds. The kernel may have been out of memory.
        const RETRY: u64 = 1_000_000_000;
        let mut ends = self.ends();
        match self.end(&mut ends) {
            Ok(()) => ends.first(),
            Err(error) => {
                tracing::warn!(%error, "cannot remove an entry that has ended");
                Some(clock::now() + RETRY)
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reaper.stop();
    }
}
