//! How often a device adds, and how many times in all.

use std::time::Duration;

use consort_plugin::config::ParseError;

const PERIOD: Duration = Duration::from_secs(10);
const PERIOD_MS_MIN: u64 = 1;
const PERIOD_MS_MAX: u64 = 86_400_000;

/// When to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    period: Duration,
    /// How many additions are left; none stands for no end.
    left: Option<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            period: PERIOD,
            left: None,
        }
    }
}

impl Pace {
    /// The pace that the settings ask for.
    pub(crate) fn new(every_ms: Option<u64>, additions: Option<u64>) -> Result<Self, ParseError> {
        let period = match every_ms {
            None => PERIOD,
            Some(millis @ PERIOD_MS_MIN..=PERIOD_MS_MAX) => Duration::from_millis(millis),
            Some(other) => {
                let allowed = format!("{PERIOD_MS_MIN} to {PERIOD_MS_MAX} are allowed");
                return Err(ParseError::new("every_ms", &other.to_string(), &allowed));
            }
        };
        Ok(Self {
            period,
            left: additions,
        })
    }

    pub(crate) fn period(&self) -> Duration {
        self.period
    }

    /// Whether this run has added all that it was to add.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// An addition was made.
    pub(crate) fn added(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_end_when_they_were_made() {
        let mut pace = Pace::new(Some(250), Some(2)).unwrap();
        assert_eq!(pace.period(), Duration::from_millis(250));
        assert!(!pace.is_done());
        pace.added();
        assert!(!pace.is_done());
        pace.added();
        assert!(pace.is_done());
        pace.added();
        assert!(pace.is_done());
    }

    #[test]
    fn without_settings_there_is_no_end() {
        let mut pace = Pace::new(None, None).unwrap();
        assert_eq!(pace, Pace::default());
        for _ in 0..10_000 {
            pace.added();
        }
        assert!(!pace.is_done());
        assert!(Pace::new(None, Some(0)).unwrap().is_done());
    }

    #[test]
    fn a_period_has_bounds() {
        for wrong in [0, PERIOD_MS_MAX + 1] {
            let error = Pace::new(Some(wrong), None).unwrap_err().to_string();
            assert!(error.contains("every_ms"), "{error}");
        }
        assert!(Pace::new(Some(PERIOD_MS_MAX), None).is_ok());
    }
}
