//! What a filter says: about queries, and about its rules.

use std::{net::IpAddr, sync::atomic::Ordering};

use ebpf_prog::decision::{Came, Verdict};

use crate::{
    BpfFilter, KernelError, Match, Query, RuleStats, Selection, Stats,
    query::{Datagram, Source},
};

use super::Inner;

impl BpfFilter {
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
        let came = match (query.is_plain_udp(), kernel) {
            (false, _) => Came::Otherwise,
            (true, Err(_)) => Came::OverPlainUdp,
            // Also if the kernel refuses to filter some sockets: what it has chosen at the others must not be chosen from again.
            (true, Ok(_)) => Came::ThroughKernel,
        };
        engine.check(query, came, behind_kernel)
    }

    /// Decides on a DNS message as it was received over UDP, before anything decodes it, exactly as the kernel does,
    /// and counts it: for sockets that the kernel does not filter.
    pub fn check_datagram(&self, source: impl Into<IpAddr>, message: &[u8]) -> Verdict {
        self.inner.engine.check_datagram(Datagram::new(source.into(), message))
    }

    /// Whether a rule lets this source pass, whatever else there is: the first rule for its address, or for a range that it is
    /// in, that does more than count is one with [`Action::Pass`](crate::Action::Pass). Nothing is counted.
    ///
    /// ```
    /// # use ebpf_filter::{Action, BpfFilter, IpNet, Match, Rule};
    /// let filter = BpfFilter::builder().build()?;
    /// let (friends, client) = ("192.0.2.0/24".parse::<IpNet>()?, [192, 0, 2, 1].into());
    /// assert!(!filter.lets_pass(client));
    /// filter.insert(Rule::new(Match::range(friends), Action::Pass))?;
    /// assert!(filter.lets_pass(client));
    /// filter.block(client)?;
    /// assert!(!filter.lets_pass(client));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lets_pass(&self, source: IpAddr) -> bool {
        self.inner.engine.lets_pass(&Source::new(source))
    }

    /// The rule for exactly this match and its hits; `None` if there is none, or it has expired. It is looked up, not searched
    /// for, and waits for a change of rules that is under way.
    ///
    /// ```
    /// # use ebpf_filter::{Action, BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().build()?;
    /// let client = Match::address([192, 0, 2, 1]);
    /// assert_eq!(filter.rule(&client), None);
    /// filter.insert(Rule::new(client.clone(), Action::Count))?;
    /// assert_eq!(filter.rule(&client).map(|found| (found.rule.action, found.hits)), Some((Action::Count, 0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rule(&self, of: &Match) -> Option<RuleStats> {
        let Inner { engine, .. } = &*self.inner;
        engine.reader().rule(engine.memory(), &of.clone().canonical())
    }

    /// What the rules have matched, in the kernel and in user space together. Nobody waits for it: rules may change
    /// meanwhile. Of a million rules it is a second's work, so async code asks [`BpfFilter::read_stats`] instead.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        self.stats_of(&Selection::all())
    }

    /// What some of the rules have matched.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn stats_of(&self, selection: &Selection) -> Result<Stats, KernelError> {
        let Inner { kernel, engine, .. } = &*self.inner;
        let mut malformed = engine.malformed();
        if let Ok(kernel) = kernel {
            for (total, in_kernel) in malformed.iter_mut().zip(kernel.malformed()?) {
                *total += in_kernel;
            }
        }
        let retired = engine.reader().retired();
        let (rules, expired) = selection.read(engine.memory());
        // Who has expired is gone, cleared away or not.
        let retired = std::array::from_fn(|kind| retired[kind].and(expired[kind]));
        Ok(Stats::new(rules, malformed, retired))
    }

    /// As [`BpfFilter::stats_of`], on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn read_stats(&self, selection: Selection) -> Result<Stats, KernelError> {
        let filter = self.clone();
        blocking(move || filter.stats_of(&selection)).await
    }

    /// Starts the hit counters of all rules anew.
    ///
    /// # Errors
    ///
    /// If the lock of the pins fails; none without [`BpfFilterBuilder::pin_dir`](crate::BpfFilterBuilder::pin_dir): the counters are
    /// in the memory of this process.
    pub fn reset_hits(&self) -> Result<(), KernelError> {
        self.inner.writer()?.reset_hits(self.inner.engine.memory());
        Ok(())
    }

    /// What the program for DNS does with an Ethernet frame: `BPF_PROG_TEST_RUN`, see bpf(2). Not for use, but for tests
    /// of this very library, with [`BpfFilterBuilder::payload_offset`].
    #[doc(hidden)]
    pub fn run_in_kernel(&self, program: &str, frame: &[u8]) -> Option<u32> {
        self.inner.kernel.as_ref().ok()?.run(program, frame)
    }
}

/// What this returns, on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down. Whoever still waits is not polled again.
            Err(_) => std::future::pending().await,
        },
    }
}
