//! The filter: rules that are added and removed at run time, and the sockets that they apply to.

mod answers;
mod changes;
mod pins;
mod reconcile;
mod shortcuts;
mod watch;

pub(crate) use self::{answers::blocking, shortcuts::short_forms};

use std::{
    collections::HashSet,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    AttachError, BpfFilterBuilder, Enforcement, KernelError, Kind, Match, Mode, RuleError, Status,
    Unavailable, clock,
    engine::{Changing, Engine, Which, Writer},
    kernel::{Kernel, Payload},
    reaper::{Reap, Reaper},
    sizes::Sizes,
};

pub use reconcile::Reconciled;

/// A set of rules, and the kernel programs that enforce it. Clones share one set.
///
/// # When every clone is dropped
///
/// A socket that the filter is attached to goes on being filtered by the last rules until it is closed or gets another
/// filter: the kernel keeps the program of a socket, and the maps of a program. Nobody can change the rules any more
/// then, so call [`BpfFilter::detach`] first if the socket is to live on without them.
#[derive(Clone, Debug)]
pub struct BpfFilter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    sizes: Sizes,
    mode: Mode,
    kernel: Result<Kernel, Arc<Unavailable>>,
    engine: Engine,
    reaper: Arc<Reaper>,
    attached: AtomicU64,
    degraded: Degraded,
    /// What dynamic blocks of another process have made rules for, before this one opened the pins.
    inherited: Mutex<HashSet<Match>>,
}

impl Inner {
    /// Who changes rules holds this.
    fn writer(self: &Arc<Self>) -> Result<Changing<'_>, KernelError> {
        let mut writer = self.engine.writer()?;
        // Others may have added rules that end sooner, and be gone by then.
        if writer.take_caught_up()
            && let Some(soonest) = writer.soonest()
        {
            self.reaper.expect(soonest, self);
        }
        Ok(writer)
    }

    /// Tells the programs and the engine which kinds of rules there are.
    fn publish(&self, writer: &Writer) -> Result<(), KernelError> {
        let policy = writer.policy();
        self.engine.set_policy(policy);
        self.kernel.as_ref().map_or(Ok(()), |kernel| kernel.set_policy(policy))
    }

    /// Clears away the rules that have expired, and says when the next one does. Changes by others come in between.
    fn try_reap(&self) -> Result<Option<u64>, KernelError> {
        /// So many places are looked at before others have a turn.
        const PLACES: u32 = 4096;
        let (memory, now) = (self.engine.memory(), clock::now());
        // If other processes have a turn, it takes a longer look at what they have done.
        let places = if memory.shared.is_some() { u32::MAX } else { PLACES };
        let mut soonest: Option<u64> = None;
        for table in Which::ALL {
            let mut from = Some(0);
            while let Some(place) = from {
                let mut writer = self.engine.writer()?;
                let reaped = writer.reap(memory, table, place, places, now);
                if reaped.removed > 0 {
                    self.publish(&writer)?;
                }
                soonest = soonest.into_iter().chain(reaped.soonest).min();
                from = reaped.next;
            }
        }
        Ok(soonest)
    }
}

/// Rules that have expired do nothing any more as it is; this gives their places back.
impl Reap for Inner {
    const PAUSE: Duration = Duration::from_secs(1);

    fn reap(&self) -> Option<u64> {
        self.try_reap().unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel is not told that rules have expired");
            None
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reaper.stop();
    }
}

/// Sockets that the kernel refused to filter.
#[derive(Debug, Default)]
struct Degraded {
    sockets: AtomicU64,
    reason: Mutex<Option<Arc<AttachError>>>,
}

impl BpfFilter {
    /// Starts building a filter.
    pub const fn builder() -> BpfFilterBuilder {
        BpfFilterBuilder::new()
    }

    pub(crate) fn new(
        sizes: Sizes,
        mode: Mode,
        kernel: Result<Kernel, Arc<Unavailable>>,
        engine: Engine,
        drop_malformed: bool,
    ) -> Result<Self, KernelError> {
        let inner = Inner {
            sizes,
            mode,
            kernel,
            engine,
            reaper: Arc::default(),
            attached: AtomicU64::new(0),
            degraded: Degraded::default(),
            inherited: Mutex::default(),
        };
        let inner = Arc::new(inner);
        let mut writer = inner.writer()?;
        writer.set_drop_malformed(inner.engine.memory(), drop_malformed);
        inner.publish(&writer)?;
        let inherited = writer.blocks(inner.engine.memory());
        drop(writer);
        *inner.inherited.lock().unwrap_or_else(PoisonError::into_inner) = inherited;
        Ok(Self { inner })
    }

    /// Filters what `socket` receives from now on, in place of any filter that it has: a tokio, std or socket2 socket,
    /// before or after it is bound. Says who enforces the rules at it.
    ///
    /// UDP sockets are filtered by source and name, TCP sockets by source. Attached to a listener, a TCP filter drops
    /// the SYN of a blocked source, and accepted connections inherit it. For UDP sockets that receive anything but
    /// plain DNS (QUIC, `DNSCrypt`, the PROXY protocol), use [`BpfFilter::attach_address_only`].
    ///
    /// Packets that wait in the receive queue of the socket already are not filtered any more, so attach before binding
    /// or serving.
    ///
    /// # Errors
    ///
    /// If it is no UDP or TCP socket, or the kernel refuses. In [`Mode::Prefer`] the lack of memory for socket options
    /// is not an error: [`BpfFilter::status`] shows it, and user space enforces at this socket.
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::BpfFilter;
    /// let filter = BpfFilter::builder().build()?;
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// println!("enforced by {:?}", filter.attach(&listener)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(&self, socket: &impl AsFd) -> Result<Enforcement, AttachError> {
        let payload = Payload::of(socket.as_fd())?;
        self.attach_for(socket, payload)
    }

    /// Filters what `socket` receives by source only, in place of any filter that it has.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::attach`].
    pub fn attach_address_only(&self, socket: &impl AsFd) -> Result<Enforcement, AttachError> {
        Payload::of(socket.as_fd())?;
        self.attach_for(socket, Payload::Opaque)
    }

    fn attach_for(&self, socket: &impl AsFd, payload: Payload) -> Result<Enforcement, AttachError> {
        let Ok(kernel) = &self.inner.kernel else { return Ok(Enforcement::UserSpace) };
        match kernel.attach(socket.as_fd(), payload) {
            Ok(()) => {
                self.inner.attached.fetch_add(1, Ordering::Relaxed);
                Ok(Enforcement::Kernel)
            }
            Err(error @ AttachError::OptmemMax { .. }) if self.inner.mode == Mode::Prefer => {
                tracing::warn!(%error, "the kernel does not filter a socket, user space does");
                let Degraded { sockets, reason } = &self.inner.degraded;
                *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
                sockets.fetch_add(1, Ordering::Relaxed);
                Ok(Enforcement::UserSpace)
            }
            Err(error) => Err(error),
        }
    }

    /// Stops filtering what `socket` receives. Whatever filter the socket has is removed, also one of somebody else.
    ///
    /// # Errors
    ///
    /// [`AttachError::NotAttached`] if the kernel filters for this [`BpfFilter`] and the socket has no filter.
    pub fn detach(&self, socket: &impl AsFd) -> Result<(), AttachError> {
        Payload::of(socket.as_fd())?;
        let Inner { kernel, degraded, .. } = &*self.inner;
        match kernel.as_ref().map_or(Ok(()), |_| Kernel::detach(socket)) {
            // The kernel may have refused to filter this very socket.
            Err(AttachError::NotAttached) if degraded.sockets.load(Ordering::Relaxed) > 0 => Ok(()),
            outcome => outcome,
        }
    }

    /// Who enforces the rules, and why.
    pub fn status(&self) -> Status {
        let Inner { mode, kernel, attached, degraded, .. } = &*self.inner;
        Status {
            mode: *mode,
            enforcement: if kernel.is_ok() { Enforcement::Kernel } else { Enforcement::UserSpace },
            reason: kernel.as_ref().err().cloned(),
            programs: kernel.as_ref().map(Kernel::programs).unwrap_or_default(),
            attached: attached.load(Ordering::Relaxed),
            pin_dir: self.pin_dir(),
            degraded: degraded.sockets.load(Ordering::Relaxed),
            degraded_reason: degraded.reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Who enforces the rules.
    pub(crate) fn enforcement(&self) -> Enforcement {
        if self.inner.kernel.is_ok() { Enforcement::Kernel } else { Enforcement::UserSpace }
    }

    /// Whether the other one is a clone of this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The most rules of this kind that there may be.
    pub fn capacity(&self, kind: Kind) -> u32 {
        self.inner.sizes.of(kind)
    }

    /// How many rules of this kind there are, those that have just expired included; with [`BpfFilterBuilder::pin_dir`], after a
    /// walk over all rules if another process has changed some.
    pub fn count(&self, kind: Kind) -> u32 {
        self.inner.writer().unwrap_or_else(|_| self.inner.engine.reader()).count(kind)
    }

    fn used(&self, kind: Kind) -> Result<(), RuleError> {
        if self.capacity(kind) == 0 { Err(RuleError::KindNotUsed(kind)) } else { Ok(()) }
    }
}
