//! Who was blocked before, in bounded memory.

use crate::dynblock::{
    DynBlockError, Growth,
    slots::{FIRST_TAG, Slots},
    time::nanos,
};

/// So many are remembered; whose block ended first is forgotten first.
const REMEMBERED: usize = 1 << 16;

const MILLISECOND: u64 = 1_000_000;

/// Remembers how often somebody was blocked, and until when: the end in milliseconds, above the number in eight bits.
#[derive(Debug)]
pub(crate) struct Offences {
    slots: Slots,
}

impl Offences {
    pub(crate) fn new() -> Result<Self, DynBlockError> {
        let slots = Slots::new(REMEMBERED).map_err(|_| DynBlockError::Memory { slots: REMEMBERED })?;
        Ok(Self { slots })
    }

    /// How long a block that starts now lasts, which would be `length` the first time; and how many there were before.
    pub(crate) fn length(&self, key: u64, length: u64, growth: Growth, now: u64) -> (u64, u32) {
        let ceiling = nanos(growth.ceiling);
        let known: Result<_, std::convert::Infallible> =
            self.slots.update(key | FIRST_TAG, (now / MILLISECOND) << 8, |record| {
                let before = record.map_or(0, |record| remembered(record, growth, now));
                let factor = u64::from(growth.factor).saturating_pow(before);
                let length = length.saturating_mul(factor).min(ceiling.max(1));
                let end = now.saturating_add(length) / MILLISECOND;
                Ok(((length, before), end << 8 | u64::from(before + 1).min(0xff)))
            });
        let Ok(known) = known;
        known
    }

    /// The block has ended only now: refreshed, or kept up.
    pub(crate) fn ended(&self, key: u64, now: u64) {
        let count = self.slots.get(key | FIRST_TAG).map_or(1, |record| record & 0xff);
        self.set(key, count, now, now);
    }

    /// Remembers a block that was not the first, and ends then.
    pub(crate) fn restore(&self, key: u64, before: u32, end: u64, now: u64) {
        self.set(key, u64::from(before).saturating_add(1).min(0xff), end, now);
    }

    fn set(&self, key: u64, count: u64, end: u64, now: u64) {
        let record = (end / MILLISECOND) << 8 | count;
        let set: Result<_, std::convert::Infallible> =
            self.slots.update(key | FIRST_TAG, (now / MILLISECOND) << 8, |_| Ok(((), record)));
        let Ok(()) = set;
    }
}

/// How many of the blocks in this record are not forgiven yet.
fn remembered(record: u64, growth: Growth, now: u64) -> u32 {
    let quiet = (now / MILLISECOND).saturating_sub(record >> 8);
    let forgiven = quiet / (nanos(growth.forgiven_after) / MILLISECOND).max(1);
    u32::try_from((record & 0xff).saturating_sub(forgiven)).unwrap_or(0)
}
