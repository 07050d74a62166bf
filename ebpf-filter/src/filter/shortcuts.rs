//! Changing rules, in short.

use crate::{BpfFilter, Match, QName, Qtypes, Rule, RuleError};

/// The short forms of `insert` and `remove`, for a type that has both.
macro_rules! short_forms {
    ($filter:ident) => {
        impl $filter {
            /// Drops packets from this address: [`Self::insert`] in short.
            ///
            /// # Errors
            ///
            /// As [`Self::insert`].
            pub fn block(&self, source: impl Into<::std::net::IpAddr>) -> Result<(), crate::RuleError> {
                self.insert(crate::Rule::drop(crate::Match::address(source)))
            }

            /// Removes the rule for this address, whatever its action: [`Self::remove`] in short.
            ///
            /// # Errors
            ///
            /// As [`Self::remove`].
            pub fn unblock(&self, source: impl Into<::std::net::IpAddr>) -> Result<(), crate::RuleError> {
                self.remove(&crate::Match::address(source))
            }

            /// Drops queries for this name and these types: [`Self::insert`] in short.
            ///
            /// # Errors
            ///
            /// As [`Self::insert`].
            pub fn block_qname(
                &self,
                name: &crate::QName,
                qtypes: crate::Qtypes,
            ) -> Result<(), crate::RuleError> {
                self.insert(crate::Rule::drop(crate::Match::qname(name.clone(), qtypes)))
            }

            /// Removes the rule for this name and these types, whatever its action: [`Self::remove`] in short.
            ///
            /// # Errors
            ///
            /// As [`Self::remove`].
            pub fn unblock_qname(
                &self,
                name: &crate::QName,
                qtypes: crate::Qtypes,
            ) -> Result<(), crate::RuleError> {
                self.remove(&crate::Match::qname(name.clone(), qtypes))
            }

            /// Drops packets from this range: [`Self::insert`] in short.
            ///
            /// # Errors
            ///
            /// As [`Self::insert`].
            pub fn block_range(&self, net: impl Into<::ipnet::IpNet>) -> Result<(), crate::RuleError> {
                self.insert(crate::Rule::drop(crate::Match::range(net)))
            }

            /// Removes the rule for this range, whatever its action: [`Self::remove`] in short.
            ///
            /// # Errors
            ///
            /// As [`Self::remove`].
            pub fn unblock_range(&self, net: impl Into<::ipnet::IpNet>) -> Result<(), crate::RuleError> {
                self.remove(&crate::Match::range(net))
            }
        }
    };
}
pub(crate) use short_forms;

short_forms!(BpfFilter);

impl BpfFilter {
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
