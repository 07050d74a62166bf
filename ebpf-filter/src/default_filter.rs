//! The filter of this process.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::BpfFilter;

static DEFAULT: ArcSwapOption<BpfFilter> = ArcSwapOption::const_empty();

/// Makes this the filter of the process, or `None` that there is none any more, and returns the one before: what
/// `setDefaultBPFFilter` does in dnsdist.
///
/// Sockets are not attached to it by that. It is there for code that is far from where the filter was built, and asks for
/// it by [`default_filter`]. The process keeps it until another one takes its place.
///
/// ```
/// use ebpf_filter::{BpfFilter, default_filter, set_default_filter};
///
/// set_default_filter(BpfFilter::builder().build()?);
/// if let Some(filter) = default_filter() {
///     filter.block([192, 0, 2, 1])?;
/// }
/// assert!(set_default_filter(None).is_some());
/// assert!(default_filter().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[allow(clippy::must_use_candidate, reason = "the one before is of little interest")]
pub fn set_default_filter(filter: impl Into<Option<BpfFilter>>) -> Option<BpfFilter> {
    DEFAULT.swap(filter.into().map(Arc::new)).map(Arc::unwrap_or_clone)
}

/// The filter of this process: a clone of what [`set_default_filter`] was called with last. Nobody waits for it.
pub fn default_filter() -> Option<BpfFilter> {
    DEFAULT.load().as_deref().cloned()
}

/// Asks the filter of this process without a clone.
pub(crate) fn with<T>(with: impl FnOnce(Option<&BpfFilter>) -> T) -> T {
    with(DEFAULT.load().as_deref())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::{net::IpAddr, thread};

    use super::*;
    use crate::{Match, Mode};

    #[test]
    fn the_last_one_set_is_everybodys() {
        let [one, other] = [(); 2].map(|()| BpfFilter::builder().mode(Mode::Off).build().unwrap());
        let rules = |filter: Option<BpfFilter>| filter.unwrap().stats().unwrap().to_string();
        assert!(default_filter().is_none());
        assert!(set_default_filter(one.clone()).is_none());
        let block =
            |source: &str| default_filter().unwrap().block(source.parse::<IpAddr>().unwrap()).unwrap();
        thread::scope(|scope| drop(scope.spawn(|| block("192.0.2.1"))));
        assert!(one.rule(&Match::address([192, 0, 2, 1])).is_some());

        assert_eq!(rules(set_default_filter(other.clone())), "192.0.2.1: 0\n");
        block("192.0.2.2");
        assert_eq!(other.stats().unwrap().to_string(), "192.0.2.2: 0\n");
        assert_eq!(one.stats().unwrap().to_string(), "192.0.2.1: 0\n");

        assert_eq!(rules(set_default_filter(None)), "192.0.2.2: 0\n");
        assert!(default_filter().is_none());
    }
}
