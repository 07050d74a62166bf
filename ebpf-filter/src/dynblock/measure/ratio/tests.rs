use super::*;

#[test]
fn what_cannot_be_measured_is_refused() {
    for share in [-0.1, 1.0, 7.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(Ratio::above(share).check(), Err(RatioError::Share { .. })), "{share}");
    }
    let (short, long) = (Duration::from_micros(999), Duration::from_secs(24 * 60 * 60 + 1));
    for window in [short, long] {
        assert_eq!(Ratio::above(0.1).over(window).check(), Err(RatioError::Window { window }));
    }
    let window = Duration::from_secs(10);
    for minimum in [0, 8192] {
        let error = RatioError::Minimum { minimum, window, most: 8191 };
        assert_eq!(Ratio::above(0.1).at_least(minimum).check(), Err(error));
    }
    assert_eq!(Ratio::above(0.1).at_least(8191).check(), Ok(()));
    let error = RatioError::Warning { warning: 0.5, limit: 0.5 };
    assert_eq!(Ratio::above(0.5).warn_above(0.5).check(), Err(error));
    let warning = Ratio::above(0.5).warn_above(f64::NAN).check();
    assert!(matches!(warning, Err(RatioError::Share { share }) if share.is_nan()));
}
