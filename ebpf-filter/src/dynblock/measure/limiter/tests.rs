mod flood;
mod threads;
mod window;

use std::time::Duration;

use super::*;

fn limiter(rate: Rate, slots: usize) -> Limiter {
    rate.check().unwrap();
    Limiter::new(rate, Arc::new(Slots::new(slots).unwrap()), 7)
}

fn one(limiter: &Limiter, key: u64, now: u64) -> Level {
    limiter.observe(key, now, NonZeroU32::MIN)
}

#[test]
fn fifty_a_second_over_ten_are_500_at_once() {
    let limiter = limiter(Rate::per_second(50).over(Duration::from_secs(10)), 1024);
    assert!((0..450).all(|_| one(&limiter, 1, 0) == Level::Under));
    assert!((450..500).all(|_| one(&limiter, 1, 0) == Level::Under));
    assert_eq!(one(&limiter, 1, 0), Level::Over);
    assert_eq!(one(&limiter, 2, 0), Level::Under);
}

#[test]
fn a_warning_comes_first() {
    let limiter = limiter(Rate::per_second(50).warn_above(20).over(Duration::from_secs(10)), 1024);
    let levels: Vec<_> = (0..501).map(|_| one(&limiter, 1, 0)).collect();
    assert!(levels[..200].iter().all(|level| *level == Level::Under));
    assert!(levels[200..500].iter().all(|level| *level == Level::Warning));
    assert_eq!(levels[500], Level::Over);
}

#[test]
fn more_cells_than_fit_are_too_many() {
    let limiter = limiter(Rate::per_second(50), 1024);
    let cells = |cells| limiter.observe(1, 0, NonZeroU32::new(cells).unwrap());
    assert_eq!(cells(51), Level::Over);
    assert_eq!(cells(u32::MAX), Level::Over);
    assert_eq!(cells(50), Level::Under);
    assert_eq!(cells(1), Level::Over);
}

#[test]
fn limiters_that_share_slots_do_not_share_keys() {
    let slots = Arc::new(Slots::new(1024).unwrap());
    let [first, second] = [1, 2].map(|salt| Limiter::new(Rate::per_second(1), Arc::clone(&slots), salt));
    assert_eq!([&first, &second].map(|limiter| one(limiter, 9, 0)), [Level::Under; 2]);
    assert_eq!([&first, &second].map(|limiter| one(limiter, 9, 0)), [Level::Over; 2]);
    assert_eq!(slots.occupied(0), 2);
}

#[test]
fn no_tag_is_one_of_those_that_mean_something_else() {
    for key in (0..100_000).chain([u64::MAX]) {
        let tag = Tag::new(key, key);
        assert!(tag.0 >= FIRST_TAG && tag.of_warning().0 > FIRST_TAG && tag.0 != tag.of_warning().0);
    }
}
