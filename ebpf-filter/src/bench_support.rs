//! What the benchmarks of this project measure and nobody else can reach: not for use, and no part of the interface.

use std::{num::NonZeroU32, sync::Arc};

use crate::{
    clock,
    dynblock::{Level, Limiter, Rate, Slots, mix},
};

/// Limits that share slots.
#[derive(Debug)]
pub struct Limits {
    slots: Arc<Slots>,
    limiters: Vec<Limiter>,
}

impl Limits {
    /// `None` if there is not enough memory.
    pub fn new(slots: usize, rates: impl IntoIterator<Item = Rate>) -> Option<Self> {
        let slots = Arc::new(Slots::new(slots).ok()?);
        let limiter = |(salt, rate)| Limiter::new(rate, Arc::clone(&slots), mix(salt));
        let limiters = (1..).zip(rates).map(limiter).collect();
        Some(Self { slots, limiters })
    }

    /// Counts one event of each key with each limit, and reads the clock once. Says how many limits are exceeded.
    #[inline]
    pub fn observe(&self, keys: &[u64]) -> usize {
        let pairs = || self.limiters.iter().flat_map(|limiter| keys.iter().map(move |key| (limiter, *key)));
        pairs().for_each(|(limiter, key)| limiter.touch(key));
        let now = clock::now();
        pairs().filter(|(limiter, key)| limiter.observe(*key, now, NonZeroU32::MIN) == Level::Over).count()
    }

    /// How many slots there are, how many matter, and how many that did had to make room.
    pub fn usage(&self, now: u64) -> [usize; 3] {
        let evictions = usize::try_from(self.slots.evictions()).unwrap_or(usize::MAX);
        [self.slots.len(), self.slots.occupied(now), evictions]
    }

    /// The memory of the slots.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }
}

/// The clock that is read once for each packet.
#[inline]
pub fn now() -> u64 {
    clock::now()
}
