//! Changing rules, in short.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{BpfFilter, Match, QName, Qtypes, Rule, RuleError};

impl BpfFilter {
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

    /// Drops packets from this range: [`BpfFilter::insert`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`].
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::{Action, BpfFilter, Match, Rule};
    /// # use ipnet::IpNet;
    /// let filter = BpfFilter::builder().build()?;
    /// filter.block_range("192.0.2.0/24".parse::<IpNet>()?)?;
    /// // All but this one.
    /// filter.insert(Rule::new(Match::address([192, 0, 2, 53]), Action::Pass))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn block_range(&self, net: impl Into<IpNet>) -> Result<(), RuleError> {
        self.insert(Rule::drop(Match::range(net)))
    }

    /// Removes the rule for this range, whatever its action: [`BpfFilter::remove`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::remove`].
    pub fn unblock_range(&self, net: impl Into<IpNet>) -> Result<(), RuleError> {
        self.remove(&Match::range(net))
    }

    /// Drops queries for this name, for all names below it, and these types: [`BpfFilter::insert`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`].
    pub fn block_suffix(&self, name: &QName, qtypes: Qtypes) -> Result<(), RuleError> {
        self.insert(Rule::drop(Match::suffix(name.clone(), qtypes)))
    }

    /// Removes the rule for this suffix and these types, whatever its action: [`BpfFilter::remove`] in short.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::remove`].
    pub fn unblock_suffix(&self, name: &QName, qtypes: Qtypes) -> Result<(), RuleError> {
        self.remove(&Match::suffix(name.clone(), qtypes))
    }
}
