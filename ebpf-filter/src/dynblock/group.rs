//! The group: what it is told, and what it knows.

use std::{
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ebpf_prog::{decision::Verdict, rule::Action};
use tokio::sync::broadcast;

use super::{
    AddError, DynBlock, DynBlockEvent, DynBlockGroupBuilder, DynBlockStats, Exempt, Penalty, QueryEvent,
    ResponseEvent, Scope, Subject,
    book::Book,
    counters::Counters,
    legacy::Watches,
    life::Sentence,
    malformed::Malformed,
    notice::{Notices, Sometimes},
    offences::Offences,
    rule::Rule,
    slots::Slots,
    tiers::{Keys, Tiers},
    time::{Time, nanos},
};
use crate::{BpfFilter, alarm::Alarm, default_filter};

/// Watches queries and responses, and blocks who exceeds a limit, for a while. Clones share everything.
#[derive(Clone)]
pub struct DynBlockGroup {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) time: Time,
    /// Whether a window is so short that events need the time to the nanosecond.
    pub(super) precise: AtomicBool,
    pub(super) tiers: Tiers,
    pub(super) rules: Rules,
    pub(super) watches: Watches,
    pub(super) rates: Arc<Slots>,
    pub(super) default_action: Action,
    pub(super) filter: FilterChoice,
    pub(super) exempt: ArcSwap<Exempt>,
    /// Whether any client ever was: nobody has to look before that.
    pub(super) anybody_exempt: AtomicBool,
    pub(super) book: RwLock<Book>,
    /// How many blocks user space enforces alone.
    pub(super) alone: AtomicU64,
    pub(super) offences: Offences,
    pub(super) malformed: Malformed,
    pub(super) notices: Notices,
    pub(super) counters: Counters,
    pub(super) caps_logged: Sometimes,
    /// Wakes the thread that looks after blocks.
    pub(super) keeper: Arc<Alarm>,
}

/// Rules by what they listen to.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) queries: Vec<Rule>,
    pub(super) responses: Vec<Rule>,
    pub(super) malformed: Vec<Rule>,
}

impl Rules {
    /// Brings into the cache what a query is going to need.
    #[inline]
    fn touch(&self, keys: &Keys, is_ipv4: bool) {
        for rule in &self.queries {
            rule.touch(keys, is_ipv4);
        }
    }
}

/// The filter that blocks go into.
#[derive(Clone, Debug)]
pub(super) enum FilterChoice {
    /// The one of the process, if there is one.
    Default,
    This(BpfFilter),
    None,
}

impl DynBlockGroup {
    /// Starts building a group.
    pub fn builder() -> DynBlockGroupBuilder {
        DynBlockGroupBuilder::new()
    }

    /// Counts a query, blocks whoever exceeds a limit with it, and says what becomes of the query: by the blocks that there
    /// are now, and by the rules of the filter that they go into, which is asked as [`BpfFilter::check`] is.
    ///
    /// A block is in force, in the kernel too, when this returns.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ebpf_filter::{Verdict, dynblock::{DynBlockGroup, Penalty, QueryEvent, Rate}};
    ///
    /// let group = DynBlockGroup::builder()
    ///     .query_rate(Rate::per_second(1).over(Duration::from_secs(10)), Penalty::block_for(Duration::from_secs(60)))
    ///     .build()?;
    /// let name = "www.example".parse()?;
    /// let query = QueryEvent::new("192.0.2.1:4242".parse()?, &name, 1);
    /// let answered = (0..100).filter(|_| group.observe_query(&query) == Verdict::Pass).count();
    /// assert_eq!(answered, 10);
    /// assert_eq!(group.blocks()[0].subject.to_string(), "192.0.2.1/32");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe_query(&self, query: &QueryEvent<'_>) -> Verdict {
        let inner = &*self.inner;
        let mut keys = Keys::default();
        inner.tiers.keys_into(query.source(), &mut keys);
        // What memory has to bring in comes while the clock is read.
        inner.rules.touch(&keys, query.client().is_ipv4());
        let now = inner.time_of_event();
        let exempt = inner.is_exempt_client(query.client());
        if !exempt {
            inner.count_query(query, &keys, now);
        }
        inner.verdict(query, exempt)
    }

    /// Counts a response, and blocks whoever exceeds a limit with it.
    pub fn observe_response(&self, response: &ResponseEvent<'_>) {
        let inner = &*self.inner;
        for rule in &inner.rules.responses {
            rule.count_for_all(response);
        }
        if inner.rules.responses.is_empty() || inner.is_exempt_client(response.query.client()) {
            return;
        }
        inner.count_response(response, inner.time_of_event());
    }

    /// Counts so many messages from `source` that could not be read. What reaches a filter that the group puts its blocks
    /// into is counted without this.
    pub fn observe_malformed(&self, source: IpAddr, messages: NonZeroU32) {
        let inner = &*self.inner;
        inner.count_malformed(source, messages, inner.time_of_event());
    }

    /// What becomes of a query, without counting it for any limit.
    pub fn check(&self, query: &QueryEvent<'_>) -> Verdict {
        let inner = &*self.inner;
        inner.verdict(query, inner.is_exempt_client(query.client()))
    }

    /// Blocks somebody by hand, as a rule with this penalty would, and says the number of the block. Of a block that there is,
    /// the action and the reason are changed; it never ends earlier than it would have. A dry run changes no block.
    ///
    /// # Errors
    ///
    /// If there are as many blocks as there may be, the client is exempt, or the penalty makes no sense.
    pub fn add(&self, subject: Subject, scope: Scope, penalty: &Penalty) -> Result<u64, AddError> {
        penalty.check_alone().map_err(|problem| AddError::Penalty { problem })?;
        let subject = subject.canonical();
        if let Subject::Ports { first, last, .. } = subject
            && first > last
        {
            return Err(AddError::Ports { first, last });
        }
        let inner = &*self.inner;
        let now = inner.time.now();
        let sentence = Sentence {
            action: penalty.first_action().unwrap_or(inner.default_action),
            reason: penalty.reason.clone().unwrap_or_else(|| "Added by hand".into()),
            warning: false,
            dry_run: penalty.dry_run,
            length: nanos(penalty.duration),
            until: None,
            growth: penalty.growth,
            offence: None,
            pace: None,
            by_hand: true,
        };
        inner.change(|book, events| inner.sentence(book, subject, scope, &sentence, now, events))
    }

    /// Removes the blocks of exactly this subject, in the kernel too, and returns what they were.
    pub fn remove(&self, subject: &Subject) -> Vec<DynBlock> {
        let subject = subject.clone().canonical();
        self.inner.remove_where(|of, _| *of == subject)
    }

    /// Removes the block with this number, in the kernel too.
    pub fn remove_id(&self, id: u64) -> Option<DynBlock> {
        self.inner.remove_where(|_, entry| entry.id == id).pop()
    }

    /// Removes all blocks, in the kernel too, and says how many there were.
    pub fn clear(&self) -> usize {
        self.inner.remove_where(|_, _| true).len()
    }

    /// The blocks that there are, ordered by subject.
    pub fn blocks(&self) -> Vec<DynBlock> {
        let now = self.inner.time.now();
        let book = self.inner.book();
        let mut blocks: Vec<_> = book
            .iter()
            .filter(|(_, entry)| !entry.is_over(now))
            .map(|(subject, entry)| entry.view(subject, now))
            .collect();
        drop(book);
        blocks.sort_by(|a, b| (&a.subject, &a.scope).cmp(&(&b.subject, &b.scope)));
        blocks
    }

    /// The block of exactly this subject that is about all its queries, if there is one.
    pub fn block_of(&self, subject: &Subject) -> Option<DynBlock> {
        let now = self.inner.time.now();
        let book = self.inner.book();
        let entry =
            book.get(&subject.clone().canonical(), &Scope::All).filter(|entry| !entry.is_over(now))?;
        Some(entry.view(subject, now))
    }

    /// What the group has done.
    pub fn stats(&self) -> DynBlockStats {
        let inner = &*self.inner;
        let now = inner.time.now();
        DynBlockStats {
            active: inner.book().iter().filter(|(_, entry)| !entry.is_over(now)).count() as u64,
            slots: inner.rates.len() as u64,
            slot_bytes: inner.rates.bytes() as u64,
            evictions: inner.rates.evictions(),
            ..inner.counters.stats()
        }
    }

    /// Who is exempt.
    pub fn exempt(&self) -> Arc<Exempt> {
        self.inner.exempt.load_full()
    }

    /// Replaces who is exempt, all at once. Blocks of clients that are exempt now are removed; blocks of ranges that have an
    /// exempt client in them are enforced in user space, which lets that client through.
    pub fn set_exempt(&self, exempt: Exempt) {
        self.inner.anybody_exempt.store(true, Ordering::Release);
        self.inner.exempt.store(Arc::new(exempt));
        self.inner.respect_exempt();
    }

    /// What becomes of blocks from now on. Who falls behind misses the oldest events, and is told so.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ebpf_filter::dynblock::{DynBlockEventKind, DynBlockGroup, Penalty, Scope, Subject};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = DynBlockGroup::builder().build()?;
    /// let mut events = group.subscribe();
    /// group.add(Subject::address([192, 0, 2, 1]), Scope::All, &Penalty::block_for(Duration::from_secs(60)))?;
    /// assert_eq!(events.recv().await?.kind, DynBlockEventKind::Inserted);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self) -> broadcast::Receiver<DynBlockEvent> {
        self.inner.notices.subscribe()
    }

    /// Ends blocks whose time has come, keeps those up whose source goes on, and says when it wants to be called again. A
    /// thread of the group does this, unless the group was built with a clock: then call it, or [`DynBlockGroup::run`].
    pub fn maintain(&self) -> Option<Duration> {
        self.inner.maintain()
    }

    /// Calls [`DynBlockGroup::maintain`] for as long as it is polled, by the clock of tokio.
    pub async fn run(&self) {
        const PAUSE: Duration = Duration::from_millis(100);
        loop {
            let next = self.maintain().map_or(PAUSE, |next| next.min(PAUSE));
            tokio::time::sleep(next.max(Duration::from_millis(1))).await;
        }
    }
}

/// For whoever feeds a group.
#[cfg(feature = "hickory")]
impl DynBlockGroup {
    /// Whether blocks go into this filter, so that [`DynBlockGroup::observe_query`] asks it.
    pub(crate) fn asks(&self, filter: &BpfFilter) -> bool {
        self.inner.with_filter(|asked| asked.is_some_and(|asked| asked.is_same(filter)))
    }

    /// Whether anything is counted about responses.
    pub(crate) fn observes_responses(&self) -> bool {
        !self.inner.rules.responses.is_empty()
    }

    /// Whether their size matters.
    pub(crate) fn observes_sizes(&self) -> bool {
        self.inner
            .rules
            .responses
            .iter()
            .any(|rule| matches!(rule.trigger, super::rule::Trigger::ResponseByteRate))
    }
}

impl fmt::Debug for DynBlockGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { time, rules, filter, notices, .. } = &*self.inner;
        f.debug_struct("DynBlockGroup")
            .field("time", time)
            .field("rules", rules)
            .field("filter", filter)
            .field("notices", notices)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// When an event has come, as rates are measured: to the tick unless some window is short.
    #[inline]
    pub(super) fn time_of_event(&self) -> u64 {
        if self.precise.load(Ordering::Relaxed) { self.time.now() } else { self.time.tick() }
    }

    pub(super) fn with_filter<T>(&self, with: impl FnOnce(Option<&BpfFilter>) -> T) -> T {
        match &self.filter {
            FilterChoice::This(filter) => with(Some(filter)),
            FilterChoice::Default => default_filter::with(with),
            FilterChoice::None => with(None),
        }
    }

    pub(super) fn filter(&self) -> Option<BpfFilter> {
        match &self.filter {
            FilterChoice::This(filter) => Some(filter.clone()),
            FilterChoice::Default => default_filter(),
            FilterChoice::None => None,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.stop();
    }
}
