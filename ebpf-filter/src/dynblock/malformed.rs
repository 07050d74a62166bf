//! Messages that no server gets to see, because nothing can read them: the filter knows who sent them.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use super::group::Inner;
use crate::{BpfFilter, MalformedPosition};

/// How far the filter has been read.
#[derive(Debug, Default)]
pub(super) struct Malformed {
    from: Mutex<Option<(BpfFilter, MalformedPosition)>>,
}

impl Inner {
    /// Counts the malformed messages that the filter has seen since the last time. Whether there is something to fetch at all.
    pub(super) fn fetch_malformed(&self) -> bool {
        if self.rules.malformed.is_empty() {
            return false;
        }
        let Some(filter) = self.filter() else { return true };
        let now = self.time_of_event();
        let mut from = self.malformed.from.lock().unwrap_or_else(PoisonError::into_inner);
        let (filter, position) = match &mut *from {
            Some((known, position)) if known.is_same(&filter) => (&*known, position),
            other => {
                if let Err(error) = filter.watch_malformed(true) {
                    tracing::warn!(%error, "the filter does not say who sends malformed messages");
                    return true;
                }
                let position = filter.malformed_position();
                let (known, position) = other.insert((filter, position));
                (&*known, position)
            }
        };
        let mut sources = Vec::new();
        filter.malformed_sources(position, |source, weight| {
            let weight = u32::try_from(weight).unwrap_or(u32::MAX);
            sources.extend(NonZeroU32::new(weight).map(|messages| (source, messages)));
        });
        // Who is told of a block may use the group.
        drop(from);
        for (source, messages) in sources {
            self.count_malformed(source, messages, now);
        }
        true
    }
}
