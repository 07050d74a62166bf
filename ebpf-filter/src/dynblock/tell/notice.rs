//! Who is told what becomes of blocks.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::broadcast;

use crate::dynblock::{DynBlock, view::name_of};

/// Something has become of a block.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DynBlockEvent {
    /// What.
    pub kind: DynBlockEventKind,
    /// The block, as it is now; or as it would have been, if there is none.
    pub block: DynBlock,
}

/// What can become of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DynBlockEventKind {
    /// It is new, or was a warning before.
    Inserted,
    /// The warning level was exceeded for the first time.
    Warned,
    /// The limit was exceeded again: it lasts longer, or does more.
    Refreshed,
    /// It was about to end while the kernel still dropped too much from the source: it lasts longer.
    Extended,
    /// It has ended.
    Expired,
    /// Somebody has removed it.
    Removed,
    /// There are as many as there may be, so there is none. At most one a second is reported.
    RefusedByCap,
}

pub(crate) type Hook = Arc<dyn Fn(&DynBlockEvent) + Send + Sync>;

/// Everybody who is told.
pub(crate) struct Notices {
    hooks: Vec<Hook>,
    stream: broadcast::Sender<DynBlockEvent>,
    quiet: bool,
    queue: Mutex<Queue>,
    refused: Sometimes,
    pub(crate) degraded: Sometimes,
}

/// Events that nobody was told of yet.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<DynBlockEvent>,
    /// Somebody is about to tell them.
    telling: bool,
}

impl Notices {
    pub(crate) fn new(hooks: Vec<Hook>, buffered: usize, quiet: bool) -> Self {
        let (stream, _) = broadcast::channel(buffered.max(1));
        Self {
            hooks,
            stream,
            quiet,
            queue: Mutex::default(),
            refused: Sometimes::default(),
            degraded: Sometimes::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DynBlockEvent> {
        self.stream.subscribe()
    }

    /// Takes events in, in the order in which they happen.
    pub(crate) fn file(&self, events: impl IntoIterator<Item = DynBlockEvent>) {
        self.queue().waiting.extend(events);
    }

    /// Tells everybody what has been filed. One thread does it at a time, for others as well, so that everybody hears of a
    /// change before the next one. Nobody may hold a lock of the group: a hook may use it.
    pub(crate) fn tell(&self) {
        while let Some((event, _telling)) = self.next() {
            self.log(&event);
            for hook in &self.hooks {
                hook(&event);
            }
            if self.stream.receiver_count() > 0 {
                // Nobody may be left by now.
                let _ = self.stream.send(event);
            }
        }
    }

    fn next(&self) -> Option<(DynBlockEvent, Telling<'_>)> {
        let mut queue = self.queue();
        if queue.telling {
            return None;
        }
        let event = queue.waiting.pop_front()?;
        queue.telling = true;
        Some((event, Telling(self)))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refusal is to be reported: one a second.
    pub(crate) fn reports_refusal(&self, now: u64) -> bool {
        const SECOND: u64 = 1_000_000_000;
        self.refused.is_due(now, SECOND)
    }

    fn log(&self, event: &DynBlockEvent) {
        let DynBlockEvent { kind, block } = event;
        let DynBlock { subject, scope, reason, remaining, .. } = block;
        let seconds = remaining.as_secs_f64();
        if self.quiet {
            return;
        }
        let what = match (block.dry_run, block.warning) {
            (true, _) => "nothing (dry run)".to_owned(),
            (_, true) => "nothing (warning)".to_owned(),
            _ => name_of(block.action),
        };
        match kind {
            DynBlockEventKind::Inserted | DynBlockEventKind::Warned => {
                tracing::info!(
                    "dynamic block for {subject}{scope}, {seconds:.0} seconds: {reason}; action: {what}, enforced by {}",
                    by(block)
                );
            }
            DynBlockEventKind::Expired => {
                tracing::info!("the dynamic block for {subject}{scope} has ended; hits: {}", block.hits);
            }
            DynBlockEventKind::Removed => {
                tracing::info!("the dynamic block for {subject}{scope} is removed; hits: {}", block.hits);
            }
            DynBlockEventKind::Extended => {
                tracing::debug!(
                    "the dynamic block for {subject}{scope} goes on for {seconds:.0} seconds: {reason}"
                );
            }
            DynBlockEventKind::Refreshed | DynBlockEventKind::RefusedByCap => {}
        }
    }
}

/// Somebody tells of an event; others may once this is dropped, also by a hook that panics.
struct Telling<'a>(&'a Notices);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.queue().telling = false;
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices")
            .field("hooks", &self.hooks.len())
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

fn by(block: &DynBlock) -> &'static str {
    match block.enforced_by {
        crate::Enforcement::Kernel => "the kernel",
        crate::Enforcement::UserSpace => "user space",
    }
}

/// Something that is said now and then, however often it happens.
#[derive(Debug, Default)]
pub(crate) struct Sometimes {
    next: AtomicU64,
}

impl Sometimes {
    /// Whether it is said this time; not again for so many nanoseconds.
    pub(crate) fn is_due(&self, now: u64, pause: u64) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        now >= next
            && self
                .next
                .compare_exchange(next, now.saturating_add(pause), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
