//! The filter: rules that are added and removed at run time, and the sockets that they apply to.

use std::{
    net::IpAddr,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ebpf_prog::decision::Verdict;

use crate::{
    AttachError, BpfFilterBuilder, Enforcement, KernelError, Kind, Malformed, Match, Mode, QName, Qtypes,
    Query, Rule, RuleError, RuleStats, Stats, Status, Unavailable,
    builder::Sizes,
    engine::{Counts, Engine},
    kernel::{Kernel, Payload},
    query::Datagram,
};

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
struct Inner {
    sizes: Sizes,
    mode: Mode,
    kernel: Result<Kernel, Arc<Unavailable>>,
    engine: Engine,
    /// Held while rules change.
    counts: Mutex<Counts>,
    attached: AtomicU64,
    degraded: Degraded,
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
        malformed: Malformed,
        kernel: Result<Kernel, Arc<Unavailable>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                sizes,
                mode,
                kernel,
                engine: Engine::new(malformed == Malformed::Drop),
                counts: Mutex::default(),
                attached: AtomicU64::new(0),
                degraded: Degraded::default(),
            }),
        }
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

    /// Adds a rule. It bites at once.
    ///
    /// # Errors
    ///
    /// If there is a rule for the same match, if there is no room, or if rules of this kind are not used. The rules are
    /// as they were then.
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::{Action, BpfFilter, Match, Qtypes, Rule, RuleError};
    /// let filter = BpfFilter::builder().qnames_max(2).build()?;
    /// let rule = Rule::new(Match::qname("example.com".parse()?, Qtypes::Only(1)), Action::Count);
    /// filter.insert(rule.clone())?;
    /// assert!(matches!(filter.insert(rule), Err(RuleError::Duplicate(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, rule: Rule) -> Result<(), RuleError> {
        self.insert_all(&[rule.canonical()])
    }

    /// Adds all of these rules, or none. Much faster than one by one.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`], for the first rule that cannot be added; two rules for the same match are an error, too.
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::{BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().ipv4_max(256).build()?;
    /// filter.insert_many((0..=255).map(|host| Rule::drop(Match::address([192, 0, 2, host]))))?;
    /// assert_eq!(filter.stats()?.rules.len(), 256);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_many(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), RuleError> {
        let rules: Vec<_> = rules.into_iter().map(Rule::canonical).collect();
        self.insert_all(&rules)
    }

    fn insert_all(&self, rules: &[Rule]) -> Result<(), RuleError> {
        let Inner { kernel, engine, .. } = &*self.inner;
        let mut counts = self.counts();
        let mut after = *counts;
        for Rule { matches, .. } in rules {
            self.used(matches.kind())?;
            *after.slot(matches) += 1;
        }
        for (index, rule) in rules.iter().enumerate() {
            if !engine.insert(rule) {
                engine.remove_all(&rules[..index]);
                return Err(RuleError::Duplicate(rule.matches.clone()));
            }
        }
        let stored = match kernel {
            Ok(kernel) => kernel.insert(rules),
            Err(_) => self.fits(&after),
        };
        stored.inspect_err(|_| engine.remove_all(rules))?;
        *counts = after;
        self.publish(&counts)
    }

    /// Removes the rule for this match.
    ///
    /// # Errors
    ///
    /// [`RuleError::Missing`] if there is none.
    pub fn remove(&self, of: &Match) -> Result<(), RuleError> {
        let Inner { kernel, engine, .. } = &*self.inner;
        let of = &of.clone().canonical();
        self.used(of.kind())?;
        let mut counts = self.counts();
        if !engine.contains(of) {
            return Err(RuleError::Missing(of.clone()));
        }
        if let Ok(kernel) = kernel {
            kernel.remove(std::slice::from_ref(of))?;
        }
        engine.remove(of);
        *counts.slot(of) -= 1;
        self.publish(&counts)
    }

    /// Drops packets from this address: [`BpfFilter::insert`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`].
    pub fn block(&self, source: impl Into<IpAddr>) -> Result<(), RuleError> {
        self.insert(Rule::drop(Match::address(source)))
    }

    /// Removes the rule for this address, whatever its action: [`BpfFilter::remove`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::remove`].
    pub fn unblock(&self, source: impl Into<IpAddr>) -> Result<(), RuleError> {
        self.remove(&Match::address(source))
    }

    /// Drops queries for this name and these types: [`BpfFilter::insert`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`].
    pub fn block_qname(&self, name: &QName, qtypes: Qtypes) -> Result<(), RuleError> {
        self.insert(Rule::drop(Match::qname(name.clone(), qtypes)))
    }

    /// Removes the rule for this name and these types, whatever its action: [`BpfFilter::remove`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::remove`].
    pub fn unblock_qname(&self, name: &QName, qtypes: Qtypes) -> Result<(), RuleError> {
        self.remove(&Match::qname(name.clone(), qtypes))
    }

    /// Removes every rule. They stop biting at once.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn clear(&self) -> Result<(), RuleError> {
        let Inner { kernel, engine, .. } = &*self.inner;
        let mut counts = self.counts();
        self.publish(&Counts::default())?;
        if let Ok(kernel) = kernel {
            let matches: Vec<_> = engine.rules().into_iter().map(|(rule, _)| rule.matches).collect();
            kernel.remove(&matches).inspect_err(|_| drop(self.publish(&counts)))?;
        }
        engine.clear();
        *counts = Counts::default();
        Ok(())
    }

    /// Decides on a decoded query by the same rules as the kernel, and counts it.
    ///
    /// For every query that the kernel cannot decide whole: over TCP, TLS, HTTPS or QUIC, where it sees the source at
    /// most, and for all where user space enforces. It does no harm to ask for a query that the kernel has let through:
    /// what the kernel saw and counted is not counted again. That is the source, if the filter is attached to the sockets
    /// of the server, and the name of a query [`Query::over_plain_udp`].
    ///
    /// ```
    /// # use ebpf_filter::{BpfFilter, QName, Qtypes, Query, Verdict};
    /// let filter = BpfFilter::builder().build()?;
    /// let name: QName = "evildomain.com".parse()?;
    /// filter.block_qname(&name, Qtypes::Only(1))?;
    /// let client = [192, 0, 2, 1].into();
    /// assert_eq!(filter.check(&Query::new(client, &name, 1)), Verdict::Drop);
    /// assert_eq!(filter.check(&Query::new(client, &name, 28)), Verdict::Pass);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self, query: &Query<'_>) -> Verdict {
        let Inner { kernel, engine, degraded, .. } = &*self.inner;
        let behind_kernel = kernel.is_ok() && degraded.sockets.load(Ordering::Relaxed) == 0;
        engine.check(query, behind_kernel)
    }

    /// Decides on a DNS message as it was received over UDP, before anything decodes it, exactly as the kernel does,
    /// and counts it: for sockets that the kernel does not filter.
    pub fn check_datagram(&self, source: impl Into<IpAddr>, message: &[u8]) -> Verdict {
        self.inner.engine.check_datagram(Datagram::new(source.into(), message))
    }

    /// What the rules have matched, in the kernel and in user space together.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        let Inner { kernel, engine, .. } = &*self.inner;
        let mut rules = engine.rules();
        let mut malformed = engine.malformed();
        if let Ok(kernel) = kernel {
            kernel.add_hits(&mut rules)?;
            for (total, in_kernel) in malformed.iter_mut().zip(kernel.malformed()?) {
                *total += in_kernel;
            }
        }
        Ok(Stats::new(rules.into_iter().map(|(rule, hits)| RuleStats { rule, hits }).collect(), malformed))
    }

    /// Starts the hit counters of all rules anew. Packets that are counted in the same moment may be lost to the count.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn reset_hits(&self) -> Result<(), KernelError> {
        let Inner { kernel, engine, .. } = &*self.inner;
        let _unchanged = self.counts();
        engine.reset_hits();
        if let Ok(kernel) = kernel {
            let rules: Vec<_> = engine.rules().into_iter().map(|(rule, _)| rule).collect();
            kernel.reset_hits(&rules)?;
        }
        Ok(())
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
            degraded: degraded.sockets.load(Ordering::Relaxed),
            degraded_reason: degraded.reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The size of the map for rules of this kind.
    pub fn capacity(&self, kind: Kind) -> u32 {
        let Sizes { ipv4, ipv6, qnames } = self.inner.sizes;
        match kind {
            Kind::Ipv4 => ipv4,
            Kind::Ipv6 => ipv6,
            Kind::Qname => qnames,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, kind: Kind) -> Result<(), RuleError> {
        if self.capacity(kind) == 0 { Err(RuleError::KindNotUsed(kind)) } else { Ok(()) }
    }

    fn fits(&self, counts: &Counts) -> Result<(), RuleError> {
        for kind in Kind::ALL {
            let max = self.capacity(kind);
            if counts.of(kind) > max as usize {
                return Err(RuleError::Full { kind, max });
            }
        }
        Ok(())
    }

    /// Tells the programs and the engine which kinds of rules there are.
    fn publish(&self, counts: &Counts) -> Result<(), RuleError> {
        let kinds = counts.kinds();
        self.inner.engine.set_kinds(kinds);
        if let Ok(kernel) = &self.inner.kernel {
            kernel.set_kinds(kinds)?;
        }
        Ok(())
    }
}
