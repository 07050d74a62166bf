//! The text form of times.

use std::time::Duration;

use toml::Value;

use super::rule_problem::RuleProblem;

/// What a rule's `expires_in` stands for: numbers with units, such as `"1m30s"`.
pub(super) fn parse(value: &Value) -> Result<Duration, RuleProblem> {
    let written = || value.to_string();
    let Some(text) = value.as_str() else {
        return Err(RuleProblem::ExpiresIn { value: written(), reason: None });
    };
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(RuleProblem::ExpiresAtOnce { value: written() }),
        Ok(time) => Ok(time),
        Err(reason) => Err(RuleProblem::ExpiresIn { value: written(), reason: Some(Box::new(reason)) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<Duration> {
        parse(&Value::from(text)).ok()
    }

    #[test]
    fn times_have_units() {
        for (written, time) in [
            ("500ms", Duration::from_millis(500)),
            ("10s", Duration::from_secs(10)),
            ("5m", Duration::from_secs(300)),
            ("1m30s", Duration::from_secs(90)),
            ("1m 30s", Duration::from_secs(90)),
            ("1h", Duration::from_secs(3600)),
            ("2d", Duration::from_secs(2 * 86_400)),
        ] {
            assert_eq!(text(written), Some(time), "{written}");
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for bad in ["", "10", "s", "5 parsecs", "-5s", "1e3s", "99999999999999999999s", "0s", "0m 0ms"] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
        for bad in [Value::from(300), Value::from(1.5), Value::from(true)] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
