//! How many rules share a bit of the sieve: its bit is taken back with the last of them.

use ebpf_prog::shape::Place;

/// Counters of four bits, one for each bit of the sieve. One that has reached its end stays there, and its bit stays set:
/// that costs a lookup now and then, and no rule.
#[derive(Debug)]
pub(super) struct SieveCounts(Box<[u8]>);

const FULL: u8 = 15;

impl SieveCounts {
    /// For a sieve of so many words.
    pub(super) fn new(words: usize) -> Self {
        Self(vec![0; words * 32].into_boxed_slice())
    }

    /// Counts a rule in this place.
    pub(super) fn add(&mut self, place: Place) {
        for bit in bits(place) {
            self.change(place.word, bit, |count| if count == FULL { FULL } else { count + 1 });
        }
    }

    /// Forgets a rule in this place, and says which bits nobody needs any more.
    pub(super) fn remove(&mut self, place: Place) -> u64 {
        bits(place)
            .filter(|bit| {
                let less = |count: u8| if count == FULL { FULL } else { count.saturating_sub(1) };
                self.change(place.word, *bit, less) == 0
            })
            .fold(0, |unused, bit| unused | 1 << bit)
    }

    /// The bits of a word that are needed.
    pub(super) fn needed(&self, word: usize) -> u64 {
        let pairs = self.0.get(word * 32..(word + 1) * 32).unwrap_or_default();
        let halves = pairs.iter().flat_map(|pair| [pair & FULL, pair >> 4]);
        halves.enumerate().fold(0, |bits, (bit, count)| bits | u64::from(count > 0) << bit)
    }

    fn change(&mut self, word: u32, bit: u32, change: impl FnOnce(u8) -> u8) -> u8 {
        let Some(pair) = self.0.get_mut(word as usize * 32 + bit as usize / 2) else { return FULL };
        let shift = bit % 2 * 4;
        let count = change(*pair >> shift & FULL);
        *pair = *pair & !(FULL << shift) | count << shift;
        count
    }
}

fn bits(place: Place) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| place.bits >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn place(bits: u64) -> Place {
        Place { word: 1, bits }
    }

    #[test]
    fn neighbours_do_not_count_for_each_other() {
        let mut counts = SieveCounts::new(2);
        counts.add(place(0b011));
        counts.add(place(0b110));
        assert_eq!(counts.remove(place(0b011)), 0b001);
        assert_eq!(counts.remove(place(0b110)), 0b110);
    }

    #[test]
    fn the_bits_that_are_needed_are_those_that_were_counted() {
        let mut counts = SieveCounts::new(2);
        counts.add(place(1 << 63 | 1 << 6));
        counts.add(place(1 << 7));
        assert_eq!([counts.needed(0), counts.needed(1)], [0, 1 << 63 | 1 << 7 | 1 << 6]);
        counts.remove(place(1 << 7));
        assert_eq!(counts.needed(1), 1 << 63 | 1 << 6);
    }

    #[test]
    fn a_full_counter_stays_full() {
        let mut counts = SieveCounts::new(2);
        (0..20).for_each(|_| counts.add(place(1)));
        assert!((0..40).all(|_| counts.remove(place(1)) == 0));
    }
}
