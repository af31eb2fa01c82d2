//! Counters that every device adds to, also while it is cut off. No addition is lost or counted
//! twice, whoever meets whom later.
//!
//! A [`Counter`] is a name; nothing has to be made before it is used. See [`state`](crate::state)
//! for what all kinds of state have in common.
//!
//! ```no_run
//! use consort_plugin::counters::Counter;
//! use consort_plugin::log;
//!
//! const VISITORS: Counter = Counter::new("visitors");
//!
//! fn somebody_came_in() {
//!     match VISITORS.add(1) {
//!         Ok(visitors) => log::info!("{visitors} so far, in all rooms"),
//!         Err(error) => log::warn!("not counted: {error}"),
//!     }
//! }
//! ```

use std::borrow::Cow;

use crate::bindings::consort::plugin::counters as host;
use crate::state::{Change, Error, Origin, Outcome};

/// One counter of the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Counter {
    name: Cow<'static, str>,
}

impl Counter {
    /// The counter of this name, 1 to 256 bytes.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
        }
    }

    /// The counter of a name that is made while the plugin runs.
    #[must_use]
    pub const fn named(name: String) -> Self {
        Self {
            name: Cow::Owned(name),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sum of all that was added, as far as this device knows; 0 where nobody has added.
    #[must_use]
    pub fn get(&self) -> i64 {
        host::get(&self.name)
    }

    /// Adds `delta`, which may be negative. Gives the sum as this device now sees it. Sums stop at
    /// the ends of the range of `i64`.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], [`Error::TooLarge`], [`Error::Busy`]; nothing was added then.
    pub fn add(&self, delta: i64) -> Result<i64, Error> {
        host::add(&self.name, delta).map_err(Error::from)
    }

    /// The sum that `change` tells of, if it is a change of this counter.
    ///
    /// ```
    /// use consort_plugin::counters::Counter;
    /// use consort_plugin::state::{Change, Origin, Outcome};
    ///
    /// let change = Change {
    ///     origin: Origin::Counter,
    ///     key: "visitors".to_owned(),
    ///     outcome: Outcome::Counted(7),
    /// };
    /// assert_eq!(Counter::new("visitors").sum_in(&change), Some(7));
    /// assert_eq!(Counter::new("exits").sum_in(&change), None);
    /// ```
    #[must_use]
    pub fn sum_in(&self, change: &Change) -> Option<i64> {
        match (&change.origin, &change.outcome) {
            (Origin::Counter, Outcome::Counted(sum)) if change.key == self.name => Some(*sum),
            _ => None,
        }
    }
}
