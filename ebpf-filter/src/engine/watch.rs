//! Reading where malformed messages came from, while more of them come.

use std::net::{IpAddr, Ipv6Addr};

use ebpf_prog::sightings::Sighting;

use super::memory::Memory;

/// How far somebody has read: [`BpfFilter::malformed_sources`](crate::BpfFilter::malformed_sources).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MalformedPosition(u64);

impl MalformedPosition {
    /// Behind all that there are.
    pub(crate) fn now(memory: &Memory) -> Self {
        Self(memory.control.first().map_or(0, |control| control.sighted.count()))
    }

    /// Hands out what is new, the oldest first, each with how many it stands for.
    pub(crate) fn read(&mut self, memory: &Memory, mut each: impl FnMut(IpAddr, u64)) {
        let Self(end) = Self::now(memory);
        let new = end.saturating_sub(self.0);
        let left = new.min(u64::from(Sighting::PLACES));
        for (nth, number) in (0..left).zip(end - left..) {
            let sighting = memory.sightings.get(Sighting::place(number) as usize);
            if let Some(source) = sighting.and_then(|sighting| sighting.read(number)) {
                each(address(source), share(new, left, nth + 1) - share(new, left, nth));
            }
        }
        self.0 = end;
    }
}

/// What the first `nth` of `left` stand for, if all of them together stand for `new`.
fn share(new: u64, left: u64, nth: u64) -> u64 {
    u64::try_from(u128::from(new) * u128::from(nth) / u128::from(left)).unwrap_or(u64::MAX)
}

fn address([high, low]: [u64; 2]) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical()
}

#[cfg(test)]
mod tests {
    use ebpf_prog::rule::Seed;

    use super::*;
    use crate::sizes::Sizes;

    fn memory() -> Memory {
        let none = Sizes { ipv4: 0, ipv6: 0, ranges4: 0, ranges6: 0, qnames: 0, suffixes: 0 };
        Memory::own(none, Seed::new(1, 1)).expect("there is memory")
    }

    fn add(memory: &Memory, host: u64) {
        let number = memory.control[0].sighted.next();
        memory.sightings[Sighting::place(number) as usize].write(number, [0, 0xffff << 32 | host]);
    }

    fn read(position: &mut MalformedPosition, memory: &Memory) -> Vec<(IpAddr, u64)> {
        let mut all = Vec::new();
        position.read(memory, |source, weight| all.push((source, weight)));
        all
    }

    fn host(host: u32) -> IpAddr {
        IpAddr::from(host.to_be_bytes())
    }

    #[test]
    fn each_is_handed_out_once() {
        let (memory, mut position) = (memory(), MalformedPosition::default());
        assert_eq!(read(&mut position, &memory), []);
        add(&memory, 7);
        add(&memory, 8);
        assert_eq!(read(&mut position, &memory), [(host(7), 1), (host(8), 1)]);
        assert_eq!(read(&mut position, &memory), []);
        add(&memory, 9);
        assert_eq!(read(&mut position, &memory), [(host(9), 1)]);
        assert_eq!(position, MalformedPosition::now(&memory));
    }

    #[test]
    fn what_is_left_stands_for_what_is_not() {
        let memory = memory();
        for count in [4095, 4096, 4097, 6000, 8192, 100_003] {
            let mut position = MalformedPosition::now(&memory);
            (0..count).for_each(|nth| add(&memory, nth % 4));
            let all = read(&mut position, &memory);
            assert_eq!(all.len() as u64, count.min(4096));
            let total: u64 = all.iter().map(|(_, weight)| weight).sum();
            assert_eq!(total, count);
            let of = |source: u32| -> u64 {
                all.iter().filter(|(from, _)| *from == host(source)).map(|(_, weight)| weight).sum()
            };
            assert!((0..4).all(|source| of(source).abs_diff(count / 4) <= count / 64), "{count}: {all:?}");
        }
    }

    #[test]
    fn what_is_not_whole_is_left_out() {
        let (memory, mut position) = (memory(), MalformedPosition::default());
        add(&memory, 1);
        // One that has only got its number yet, and one that somebody else has written over.
        memory.control[0].sighted.next();
        add(&memory, 2);
        add(&memory, 3);
        memory.sightings[2].write(2 + u64::from(Sighting::PLACES), [1, 1]);
        assert_eq!(read(&mut position, &memory), [(host(1), 1), (host(3), 1)]);
    }
}
