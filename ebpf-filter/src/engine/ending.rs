//! Rules that end.

use super::{
    Writer,
    memory::Memory,
    place::{Place, Which},
};
use crate::{Kind, clock};

impl Writer {
    /// When the first rule ends, if any does.
    pub(crate) fn soonest(&self) -> Option<u64> {
        self.soonest.into_iter().min().filter(|soonest| *soonest != u64::MAX)
    }

    /// Removes what has ended by now, up to so many rules of this kind from this place on. Says where to go on.
    pub(crate) fn reap(&mut self, memory: &Memory, table: Which, from: u32, places: u32, now: u64) -> Reaped {
        let mut reaped = Reaped { next: None, soonest: None, removed: 0 };
        let end = from.saturating_add(places).min(table.len(memory));
        for index in from..end {
            let place = Place { table, index };
            let cell = place.cell(memory);
            if cell.life().is_none() || cell.expires() == clock::NEVER {
                continue;
            }
            if cell.expires() <= now {
                self.remove_at(memory, place);
                reaped.removed += 1;
            } else {
                reaped.soonest =
                    Some(reaped.soonest.map_or(cell.expires(), |at: u64| at.min(cell.expires())));
            }
        }
        reaped.next = (end < table.len(memory)).then_some(end);
        if from == 0 && reaped.next.is_none() {
            self.soonest[table as usize] = reaped.soonest.unwrap_or(u64::MAX);
        }
        reaped
    }

    /// Removes what has ended by now of the rules that share a table with those of this kind, and says whether that was
    /// any. Without a look at the table if none can have.
    pub(crate) fn make_room(&mut self, memory: &Memory, kind: Kind, now: u64) -> bool {
        let table = Which::of(kind);
        if now < self.soonest[table as usize] {
            return false;
        }
        #[cfg(test)]
        {
            self.scans += 1;
        }
        self.reap(memory, table, 0, u32::MAX, now).removed > 0
    }

    pub(super) fn will_end(&mut self, table: Which, expires: u64) {
        if expires != clock::NEVER {
            let soonest = &mut self.soonest[table as usize];
            *soonest = expires.min(*soonest);
        }
    }
}

/// What a round of removing has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    /// Where to go on, if the table has more places.
    pub(crate) next: Option<u32>,
    /// When the next of the rules that it has seen ends.
    pub(crate) soonest: Option<u64>,
    pub(crate) removed: u32,
}
