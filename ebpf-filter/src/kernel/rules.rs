//! Rules as entries of the maps.

use std::collections::HashMap;

use ebpf_prog::{
    hash::NameHasher,
    layout::{AddressRule, QnameKey, QnameRule},
};

use super::load::Kernel;
use crate::{KernelError, Kind, Match, QName, Qtypes, Rule, RuleError};

/// Rules sorted into the entries of the three maps.
#[derive(Default)]
struct Entries {
    ipv4: (Vec<ebpf_prog::layout::Ipv4Key>, Vec<AddressRule>),
    ipv6: (Vec<ebpf_prog::layout::Ipv6Key>, Vec<AddressRule>),
    qnames: (Vec<QnameKey>, Vec<QnameRule>),
}

impl Kernel {
    /// Adds all of these rules, or none.
    pub(crate) fn insert(&self, rules: &[Rule]) -> Result<(), RuleError> {
        let matches = || rules.iter().map(|rule| &rule.matches);
        // First the shapes: one too many costs a lookup, one too few would let a name through.
        self.add_shapes(matches())?;
        self.add(rules).inspect_err(|_| drop(self.remove_shapes(matches())))
    }

    fn add(&self, rules: &[Rule]) -> Result<(), RuleError> {
        let entries = self.entries(rules);
        let full = |kind, max| {
            move |error: KernelError| match error.source.raw_os_error() {
                Some(libc::E2BIG) => RuleError::Full { kind, max },
                _ => RuleError::Kernel(error),
            }
        };
        self.ipv4.add(&entries.ipv4.0, &entries.ipv4.1).map_err(full(Kind::Ipv4, self.sizes.ipv4))?;
        let rest = self
            .ipv6
            .add(&entries.ipv6.0, &entries.ipv6.1)
            .map_err(full(Kind::Ipv6, self.sizes.ipv6))
            .and_then(|()| {
                self.qnames
                    .add(&entries.qnames.0, &entries.qnames.1)
                    .map_err(full(Kind::Qname, self.sizes.qnames))
                    .inspect_err(|_| drop(self.ipv6.remove(&entries.ipv6.0)))
            });
        rest.inspect_err(|_| drop(self.ipv4.remove(&entries.ipv4.0)))
    }

    /// Removes the rules for these.
    pub(crate) fn remove(&self, matches: &[Match]) -> Result<(), KernelError> {
        let (mut ipv4, mut ipv6, mut qnames) = (Vec::new(), Vec::new(), Vec::new());
        for of in matches {
            match of {
                Match::Ipv4(address) => ipv4.push((*address).into()),
                Match::Ipv6(address) => ipv6.push((*address).into()),
                Match::Qname(name, qtypes) => qnames.push(self.key(name, *qtypes)),
            }
        }
        self.ipv4.remove(&ipv4)?;
        self.ipv6.remove(&ipv6)?;
        self.qnames.remove(&qnames)?;
        self.remove_shapes(matches.iter())
    }

    /// Adds what these rules have matched in the kernel.
    pub(crate) fn add_hits(&self, rules: &mut [(Rule, u64)]) -> Result<(), KernelError> {
        let (mut ipv4, mut ipv6, mut qnames) = (HashMap::new(), HashMap::new(), HashMap::new());
        self.ipv4.for_each(|key, rule| {
            ipv4.insert(*key, rule.hits);
        })?;
        self.ipv6.for_each(|key, rule| {
            ipv6.insert(*key, rule.hits);
        })?;
        self.qnames.for_each(|key, rule| {
            qnames.insert(*key, rule.hits);
        })?;
        for (rule, hits) in rules {
            let in_kernel = match &rule.matches {
                Match::Ipv4(address) => ipv4.get(&(*address).into()),
                Match::Ipv6(address) => ipv6.get(&(*address).into()),
                Match::Qname(name, qtypes) => qnames.get(&self.key(name, *qtypes)),
            };
            *hits += in_kernel.copied().unwrap_or(0);
        }
        Ok(())
    }

    /// Starts the counters of these rules anew.
    pub(crate) fn reset_hits(&self, rules: &[Rule]) -> Result<(), KernelError> {
        let entries = self.entries(rules);
        self.ipv4.replace(&entries.ipv4.0, &entries.ipv4.1)?;
        self.ipv6.replace(&entries.ipv6.0, &entries.ipv6.1)?;
        self.qnames.replace(&entries.qnames.0, &entries.qnames.1)
    }

    fn entries(&self, rules: &[Rule]) -> Entries {
        let mut entries = Entries::default();
        for rule in rules {
            match &rule.matches {
                Match::Ipv4(address) => {
                    entries.ipv4.0.push((*address).into());
                    entries.ipv4.1.push(AddressRule::new(rule.action));
                }
                Match::Ipv6(address) => {
                    entries.ipv6.0.push((*address).into());
                    entries.ipv6.1.push(AddressRule::new(rule.action));
                }
                Match::Qname(name, qtypes) => {
                    entries.qnames.0.push(self.key(name, *qtypes));
                    entries.qnames.1.push(QnameRule::new(name.as_wire(), qtypes.selector(), rule.action));
                }
            }
        }
        entries
    }

    fn key(&self, name: &QName, qtypes: Qtypes) -> QnameKey {
        NameHasher::new(self.seed).with_name(name.as_wire()).key(qtypes.selector())
    }
}
