//! The ring of sources: what is read was written whole, whoever writes meanwhile.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use ebpf_prog::sightings::{Sighted, Sighting};

#[test]
fn an_entry_is_read_by_its_number() {
    let sighting = Sighting::default();
    for number in [0, 1, 4096, u64::from(u32::MAX), u64::MAX - 1] {
        assert_eq!(sighting.read(number), None);
        sighting.write(number, [7, number]);
        assert_eq!(sighting.read(number), Some([7, number]));
        for other in [number ^ 1, number.wrapping_add(4096), number.wrapping_sub(4096)] {
            assert_eq!(sighting.read(other), None, "{number} {other}");
        }
    }
    assert_eq!([0, 1, 4095, 4096, 1 << 32].map(Sighting::place), [0, 1, 4095, 0, 0]);
}

/// Many go round a small ring, so that they often write the same entry at once.
#[test]
fn a_torn_entry_is_none() {
    const PLACES: u64 = 4;
    const WRITERS: u64 = 3;
    let ring: Vec<_> = (0..PLACES).map(|_| Sighting::default()).collect();
    let (sighted, done) = (Sighted::default(), AtomicBool::new(false));
    let at = |number: u64| &ring[usize::try_from(number % PLACES).expect("a few places")];
    thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (sighted, done) = (&sighted, &done);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    let number = sighted.next();
                    at(number).write(number, [writer, number.wrapping_mul(writer)]);
                }
            });
        }
        let mut read = 0;
        while read < 200_000 {
            let count = sighted.count();
            for number in count.saturating_sub(PLACES)..count {
                if let Some([writer, product]) = at(number).read(number) {
                    assert!((1..=WRITERS).contains(&writer));
                    assert_eq!(product, number.wrapping_mul(writer));
                    read += 1;
                }
            }
        }
        done.store(true, Relaxed);
    });
}
