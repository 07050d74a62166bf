//! What is counted of queries, responses and malformed messages, and what follows from it.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
};

use ebpf_prog::decision::Verdict;

use super::{
    Penalty, QueryEvent, ResponseEvent, Scope, Subject, SuffixLimit,
    group::Inner,
    life::Sentence,
    meter::{Amount, Finding},
    rule::{Client, Rule, Trigger},
    suffix_limit::Counted,
    tiers::Keys,
    time::nanos,
};
use crate::QName;

impl Inner {
    #[inline]
    pub(super) fn verdict(&self, query: &QueryEvent<'_>, exempt: bool) -> Verdict {
        let alone = if exempt { Verdict::Pass } else { self.alone_says(query) };
        if alone == Verdict::Drop {
            return alone;
        }
        let filter =
            self.with_filter(|filter| filter.map_or(Verdict::Pass, |filter| filter.check(&query.query())));
        if severity(filter) > severity(alone) { filter } else { alone }
    }

    /// What the blocks say that user space enforces alone.
    fn alone_says(&self, query: &QueryEvent<'_>) -> Verdict {
        if self.alone.load(Ordering::Acquire) == 0 {
            return Verdict::Pass;
        }
        match self.book().strictest(query, self.time.now()) {
            // Whom the operator lets pass, no block hits: in the kernel neither.
            Some(block) if !self.lets_pass(query.client()) => block.verdict(),
            Some(_) | None => Verdict::Pass,
        }
    }

    #[inline]
    pub(super) fn is_exempt_client(&self, client: IpAddr) -> bool {
        self.anybody_exempt.load(Ordering::Acquire) && self.exempt.load().is_exempt(client)
    }

    #[inline]
    pub(super) fn count_query(&self, query: &QueryEvent<'_>, keys: &Keys, now: u64) {
        self.watches.observe(&self.tiers, query.source(), now);
        let is_ipv4 = query.client().is_ipv4();
        for rule in &self.rules.queries {
            if let Trigger::SuffixRate(limit) = &rule.trigger {
                self.count_suffix(rule, limit, query.name(), now);
                continue;
            }
            if matches!(&rule.trigger, Trigger::QtypeRate(qtype) if *qtype != query.qtype()) {
                continue;
            }
            let Some(scope) = rule.scope_key(&self.tiers, query.name(), query.qtype()) else { continue };
            let client = Client { keys, is_ipv4, scope, proven: query.is_proven() };
            rule.observe(client, now, Amount::ONE, |tier, finding| {
                self.found(rule, query, tier, &finding);
            });
        }
    }

    pub(super) fn count_response(&self, response: &ResponseEvent<'_>, now: u64) {
        let query = &response.query;
        let keys = self.tiers.keys(query.source());
        let is_ipv4 = query.client().is_ipv4();
        for rule in &self.rules.responses {
            if let Trigger::SuffixRate(limit) = &rule.trigger {
                if limit.counted == Counted::Responses(response.rcode) {
                    self.count_suffix(rule, limit, query.name(), now);
                }
                continue;
            }
            let Some(amount) = rule.amount(response) else { continue };
            let Some(scope) = rule.scope_key(&self.tiers, query.name(), query.qtype()) else { continue };
            let client = Client { keys: &keys, is_ipv4, scope, proven: query.is_proven() };
            rule.observe(client, now, amount, |tier, finding| self.found(rule, query, tier, &finding));
        }
    }

    pub(super) fn count_malformed(&self, source: IpAddr, messages: NonZeroU32, now: u64) {
        let source = source.to_canonical();
        if self.rules.malformed.is_empty() || self.is_exempt_client(source) {
            return;
        }
        let root = QName::root();
        // No port is known, and no name.
        let query = QueryEvent::new(SocketAddr::new(source, 0), &root, 0);
        let keys = self.tiers.keys(query.source());
        for rule in &self.rules.malformed {
            let client = Client { keys: &keys, is_ipv4: source.is_ipv4(), scope: 0, proven: false };
            let found = |tier, finding: Finding| self.found(rule, &query, tier, &finding);
            rule.observe(client, now, Amount::Cells(messages), found);
        }
    }

    fn count_suffix(&self, rule: &Rule, limit: &SuffixLimit, name: &QName, now: u64) {
        let Some(suffix) = limit.of(name) else { return };
        let Some(finding) = rule.observe_suffix(self.tiers.hash(suffix), now) else { return };
        if let Ok(suffix) = QName::from_wire(suffix) {
            self.punish(
                Subject::Suffix(suffix),
                Scope::All,
                &self.sentence_of(rule, &finding),
                self.time.now(),
            );
        }
    }

    #[cold]
    fn found(&self, rule: &Rule, query: &QueryEvent<'_>, tier: usize, finding: &Finding) {
        if !rule.bites() || self.lets_pass(query.client()) {
            return;
        }
        let Some(subject) = self.tiers.subject(query.source(), tier) else { return };
        let scope = rule.scope(query.name(), query.qtype());
        self.punish(subject, scope, &self.sentence_of(rule, finding), self.time.now());
    }

    fn sentence_of(&self, rule: &Rule, finding: &Finding) -> Sentence {
        let Penalty { duration, action, dry_run, growth, .. } = &rule.penalty;
        Sentence {
            action: finding.step.or(*action).unwrap_or(self.default_action),
            reason: Arc::clone(&rule.reason),
            warning: finding.warning,
            dry_run: *dry_run,
            length: nanos(*duration),
            until: None,
            growth: *growth,
            offence: None,
            pace: Some(finding.pace),
            by_hand: false,
        }
    }
}

/// How much of a query is lost.
const fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Refused | Verdict::NxDomain => 1,
        Verdict::Truncate => 2,
        Verdict::Drop => 3,
    }
}
