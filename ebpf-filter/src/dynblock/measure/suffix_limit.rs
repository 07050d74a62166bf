//! Which names are counted together, whoever asks.

use std::collections::HashSet;

use crate::QName;
use crate::dynblock::subject::{last_labels, suffixes};

/// What is counted below which suffixes: against floods of queries for random names below one, which no client exceeds any
/// limit with.
///
/// ```
/// use ebpf_filter::dynblock::SuffixLimit;
///
/// let registered = SuffixLimit::below(["victim.example".parse()?]).nxdomains();
/// let second_level = SuffixLimit::labels(2).queries();
/// # Ok::<(), ebpf_filter::QNameError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SuffixLimit {
    by: By,
    pub(crate) counted: Counted,
}

#[derive(Clone, Debug)]
enum By {
    Labels(u8),
    Registered(HashSet<Box<[u8]>>),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Queries,
    /// Responses with this code.
    Responses(u16),
}

impl SuffixLimit {
    /// Names that have their last labels in common, so many of them: 2 are `example.com`, and all below it. A name with
    /// fewer labels is not counted.
    pub const fn labels(labels: u8) -> Self {
        Self { by: By::Labels(labels), counted: Counted::Queries }
    }

    /// Each of these names, and all below it; below several, the longest counts.
    pub fn below(suffixes: impl IntoIterator<Item = QName>) -> Self {
        let suffixes = suffixes.into_iter().map(|name| name.as_wire().into()).collect();
        Self { by: By::Registered(suffixes), counted: Counted::Queries }
    }

    /// Counts queries. So it is unless another kind is chosen.
    pub const fn queries(mut self) -> Self {
        self.counted = Counted::Queries;
        self
    }

    /// Counts responses with the code NXDOMAIN (3).
    pub const fn nxdomains(mut self) -> Self {
        self.counted = Counted::Responses(3);
        self
    }

    /// Counts responses with the code SERVFAIL (2).
    pub const fn servfails(mut self) -> Self {
        self.counted = Counted::Responses(2);
        self
    }

    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match &self.by {
            By::Labels(0) => Err("a suffix of 0 labels is everything: choose 1 label at least"),
            By::Registered(suffixes) if suffixes.is_empty() => {
                Err("there is no suffix to count below: name one at least")
            }
            By::Labels(_) | By::Registered(_) => Ok(()),
        }
    }

    /// The suffix that this name counts for, in wire form.
    pub(crate) fn of<'a>(&self, name: &'a QName) -> Option<&'a [u8]> {
        match &self.by {
            By::Labels(labels) => last_labels(name, *labels),
            By::Registered(registered) => suffixes(name).find(|suffix| registered.contains(*suffix)),
        }
    }
}
