//! Whether a key exceeds its rate: governor decides, with what the slots know.

use std::{cell::Cell, num::NonZeroU32, sync::Arc};

use governor::{RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore};

use super::{
    rate::Rate,
    ratio::Level,
    slots::{FIRST_TAG, Slots},
};

/// One limit for any number of keys. Limiters share the slots.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: Governed,
    warning: Option<Governed>,
    slots: Arc<Slots>,
    salt: u64,
}

impl Limiter {
    /// The salt tells the keys of this limiter from those of others.
    pub(crate) fn new(rate: Rate, slots: Arc<Slots>, salt: u64) -> Self {
        let governed = |rate| Governed::new(rate, Arc::clone(&slots));
        Self { limit: governed(rate), warning: rate.warning().map(governed), salt, slots }
    }

    /// Charges so many cells to a key and says where it stands. The key is the keyed hash of whatever it stands for; `now` is
    /// in nanoseconds since a start that all limiters share. What is too much is not charged.
    #[inline]
    pub(crate) fn observe(&self, key: u64, now: u64, cells: NonZeroU32) -> Level {
        NOW.set(now);
        let tag = Tag::new(key, self.salt);
        let warned = self.warning.as_ref().is_some_and(|warning| warning.is_over(tag.of_warning(), cells));
        match self.limit.is_over(tag, cells) {
            true => Level::Over,
            false if warned => Level::Warning,
            false => Level::Under,
        }
    }

    /// Brings what is known of a key into the cache. Whoever asks several limiters does this first for all of them, so that they
    /// wait for memory together.
    #[inline]
    pub(crate) fn touch(&self, key: u64) {
        self.slots.touch(Tag::new(key, self.salt).0);
    }
}

/// One level of a limit.
#[derive(Debug)]
struct Governed {
    limiter: RateLimiter<Tag, Store, PacketTime, NoOpMiddleware<Nanos>>,
    burst: NonZeroU32,
}

impl Governed {
    fn new(rate: Rate, slots: Arc<Slots>) -> Self {
        // Limiters count from when they are made.
        NOW.set(0);
        Self { limiter: RateLimiter::new(rate.quota(), Store(slots), PacketTime), burst: rate.burst() }
    }

    #[inline]
    fn is_over(&self, tag: Tag, cells: NonZeroU32) -> bool {
        if cells == NonZeroU32::MIN {
            self.limiter.check_key(&tag).is_err()
        } else {
            // More than fits at all is an error of its own; and governor's numbers would not hold any number of cells.
            cells > self.burst || !matches!(self.limiter.check_key_n(&tag, cells), Ok(Ok(())))
        }
    }
}

/// What stands for a key in the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(u64);

impl Tag {
    /// Both are hashes already, and nobody outside knows either.
    #[inline]
    pub(crate) fn new(key: u64, salt: u64) -> Self {
        Self(((key ^ salt) & !1).max(FIRST_TAG))
    }

    #[inline]
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// In the same line.
    #[inline]
    const fn of_warning(self) -> Self {
        Self(self.0 | 1)
    }
}

/// The slots as governor sees them: a value is the time at which a key may be at its full burst again.
#[derive(Debug)]
struct Store(Arc<Slots>);

impl StateStore for Store {
    type Key = Tag;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, tag: &Tag, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.update(tag.0, NOW.get(), |value| {
            measure(value.map(Nanos::from)).map(|(outcome, value)| (outcome, value.as_u64()))
        })
    }
}

/// Governor's limiters ask for the time whenever they decide. It is read once for each packet instead.
#[derive(Debug)]
struct PacketTime;

impl Clock for PacketTime {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        NOW.get().into()
    }
}

thread_local! {
    /// What [`PacketTime`] says on this thread.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests;
