//! How large a share of some kind among responses is too large.

mod meter;

use std::time::Duration;

use super::rate::WINDOWS;

pub(crate) use meter::RatioMeter;

/// A share of responses, measured over a window.
///
/// ```
/// use std::time::Duration;
///
/// use ebpf_filter::dynblock::Ratio;
///
/// let ratio = Ratio::above(0.2).over(Duration::from_secs(10)).at_least(51);
/// assert_eq!(ratio.minimum(), 51);
/// ```
///
/// Here, more than every fifth response is too many once there are 51. Whenever half a window has passed, what was counted
/// before is halved, so the counts stand for about one window: with steady traffic, for between half of what came in the window
/// and all of it. The largest minimum depends on the window: it is 8191 for ten seconds, and 2047 for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    limit: f64,
    window: Duration,
    minimum: u32,
    warning: Option<f64>,
}

impl Ratio {
    /// More than this share, from 0 to 1, measured over ten seconds unless [`Ratio::over`] says otherwise.
    pub const fn above(ratio: f64) -> Self {
        Self { limit: ratio, window: Duration::from_secs(10), minimum: 1, warning: None }
    }

    /// Measures over this window: from 1 ms to a day.
    #[must_use]
    pub const fn over(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Says nothing before there are so many responses. Unless this is called, the first response counts.
    #[must_use]
    pub const fn at_least(self, responses: u32) -> Self {
        Self { minimum: responses, ..self }
    }

    /// Warns above this smaller share.
    #[must_use]
    pub const fn warn_above(self, ratio: f64) -> Self {
        Self { warning: Some(ratio), ..self }
    }

    /// The share.
    pub const fn limit(&self) -> f64 {
        self.limit
    }

    /// What it is measured over.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many responses there have to be.
    pub const fn minimum(&self) -> u32 {
        self.minimum
    }

    /// The share above which there is a warning.
    pub const fn warning(&self) -> Option<Self> {
        match self.warning {
            Some(limit) => Some(Self { limit, warning: None, ..*self }),
            None => None,
        }
    }

    /// Whether this is a ratio that can be measured.
    pub(crate) fn check(&self) -> Result<(), RatioError> {
        let Self { limit, window, minimum, warning } = *self;
        if !(0.0..1.0).contains(&limit) {
            return Err(RatioError::Share { share: limit });
        }
        if !WINDOWS.contains(&window) {
            return Err(RatioError::Window { window });
        }
        let most = meter::most_at_least(window);
        if minimum == 0 || minimum > most {
            return Err(RatioError::Minimum { minimum, window, most });
        }
        match (warning, self.warning()) {
            (Some(warning), _) if warning >= limit => Err(RatioError::Warning { warning, limit }),
            (_, Some(warning)) => warning.check(),
            (_, None) => Ok(()),
        }
    }
}

/// Why a [`Ratio`] cannot be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RatioError {
    /// The share is not from 0 to 1.
    #[error("a share of {share} is never exceeded or always: write one from 0.0 to below 1.0")]
    Share {
        /// The share.
        share: f64,
    },
    /// The window is too short or too long.
    #[error("a window of {window:?} cannot be measured: write one from 1 ms to 24 hours")]
    Window {
        /// The window.
        window: Duration,
    },
    /// The fewest responses are none, or more than are counted.
    #[error("a minimum of {minimum} responses cannot be counted over {window:?}: write one from 1 to {most}")]
    Minimum {
        /// Responses.
        minimum: u32,
        /// The window.
        window: Duration,
        /// The highest minimum for this window.
        most: u32,
    },
    /// The warning would not come first.
    #[error("a warning above {warning} comes too late for a limit of {limit}: write less than that")]
    Warning {
        /// The share for the warning.
        warning: f64,
        /// The share.
        limit: f64,
    },
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Under,
    Warning,
    Over,
}

#[cfg(test)]
mod tests;
