use std::{convert::Infallible, sync::atomic::AtomicBool, thread};

use super::*;

/// A tag whose home is this line.
fn tag(slots: &Slots, line: u64, number: u64) -> u64 {
    line << slots.shift | (FIRST_TAG + number)
}

fn set(slots: &Slots, tag: u64, now: u64, value: u64) {
    let Ok(()) = slots.update(tag, now, |_| Ok::<_, Infallible>(((), value)));
}

#[test]
fn there_is_a_line_of_the_cache_for_every_four() {
    let slots = Slots::new(1000).unwrap();
    assert_eq!(slots.len(), 1024);
    assert!(slots.lines.as_ptr().addr().is_multiple_of(64));
    assert!((16 * 1024..17 * 1024 + 2048).contains(&slots.bytes()));
    assert_eq!(Slots::new(0).unwrap().len(), 8);
    assert!(Slots::new(usize::MAX).is_err());
    assert!(Slots::new(1 << 50).is_err());
}

#[test]
fn a_line_and_the_one_beside_it_hold_eight() {
    let slots = Slots::new(64).unwrap();
    for number in 0..8 {
        set(&slots, tag(&slots, 5, number), 0, 100 + number);
    }
    for number in 0..8 {
        assert_eq!(slots.get(tag(&slots, 5, number)), Some(100 + number));
    }
    assert_eq!(slots.get(tag(&slots, 5, 8)), None);
    assert_eq!((slots.occupied(0), slots.occupied(103), slots.evictions()), (8, 4, 0));
}

#[test]
fn a_refusal_changes_nothing() {
    let slots = Slots::new(64).unwrap();
    let refuse = |before: Option<u64>| Err::<((), u64), _>(before);
    assert_eq!(slots.update(7, 0, refuse), Err(None));
    assert_eq!(slots.get(7), None);
    set(&slots, 7, 0, 3);
    assert_eq!(slots.update(7, 0, refuse), Err(Some(3)));
    assert_eq!(slots.get(7), Some(3));
}

#[test]
fn the_smallest_value_makes_room() {
    let slots = Slots::new(64).unwrap();
    for number in 0..8 {
        set(&slots, tag(&slots, 4, number), 0, 100 + (number + 3) % 8);
    }
    // Its time is over, so there is no question.
    set(&slots, tag(&slots, 4, 8), 100, 200);
    assert_eq!(slots.get(tag(&slots, 4, 5)), None);
    assert_eq!((slots.get(tag(&slots, 4, 8)), slots.evictions()), (Some(200), 0));
    // Those of the others are not.
    let tries = (0..1000).take_while(|now| {
        set(&slots, tag(&slots, 4, 9), now % 100, 300);
        slots.get(tag(&slots, 4, 9)).is_none()
    });
    assert!(tries.count() < 100);
    assert_eq!(slots.get(tag(&slots, 4, 6)), None);
    assert_eq!((slots.occupied(100), slots.evictions()), (8, 1));
}

#[test]
fn every_eighth_event_of_a_new_key_takes_a_slot_that_matters() {
    let slots = Slots::new(8).unwrap();
    (0..8).for_each(|number| set(&slots, FIRST_TAG + number, 0, u64::MAX / 2));
    for event in 0..80_000 {
        set(&slots, mix(event + 1).max(1000), event, u64::MAX / 2);
    }
    assert!((9000..11_000).contains(&slots.evictions()), "{}", slots.evictions());
}

/// Keys never see each other's values, however often their slots change hands: a value says whose it is.
#[test]
fn values_stay_with_their_keys() {
    let slots = Slots::new(8).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (slots, done) = (&slots, &done);
            scope.spawn(move || {
                for event in 0_u64..500_000 {
                    let tag = FIRST_TAG + (event * 7 + thread) % 24;
                    let Ok(()) = slots.update(tag, u64::MAX, |before| {
                        assert!(before.is_none_or(|value| value & 0xff == tag), "{tag} found {before:?}");
                        Ok::<_, Infallible>(((), event << 16 | thread << 8 | tag))
                    });
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        while !done.load(Ordering::Relaxed) {
            for tag in FIRST_TAG..FIRST_TAG + 24 {
                assert!(slots.get(tag).is_none_or(|value| value & 0xff == tag));
            }
        }
    });
}
