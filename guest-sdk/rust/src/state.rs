//! What the four kinds of replicated state have in common.
//!
//! Every device holds all of its group's state, so reads never wait and never fail. A write is seen
//! by the next read of the same callback; it leaves the device when the callback has returned, and
//! reaches the others at once or within the plugin's interval (1 s unless its manifest says
//! otherwise). What was lost on the way is repaired. Small things belong here: a value has at most
//! 64 KiB, a key 1 to 256 bytes, the whole state of a plugin 1 MiB.
//!
//! | kind | who writes | of two writes |
//! |---|---|---|
//! | [`leader_state`](crate::leader_state) | the leader | the later leader's counts |
//! | [`device_state`](crate::device_state) | each device for itself | the later one counts |
//! | [`shared_state`](crate::shared_state) | anyone | the later one by the group's clock counts |
//! | [`counters`](crate::counters) | anyone adds | both count |
//!
//! State belongs to the group: it outlives callbacks that fail, reloads, restarts of an instance
//! and the leader. Only when all devices are off at once it is gone, unless the manifest says
//! `persist = true` under `[state]`.
//!
//! An instance reads what holds from [`setup`](crate::Plugin::setup) on; on a device that just
//! joined, the rest comes in as changes. [`Plugin::state_changed`](crate::Plugin::state_changed)
//! tells what others changed, several changes in one call and each key once with what holds at
//! last.
//!
//! ```no_run
//! use std::time::Duration;
//! use consort_plugin::{Plugin, device_state, log, state};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Battery {
//!     percent: u8,
//! }
//!
//! #[derive(Default)]
//! struct Batteries;
//!
//! impl Plugin for Batteries {
//!     fn setup(&mut self) -> Result<(), consort_plugin::BoxError> {
//!         // Gone after a minute, unless it is put again.
//!         let battery = Battery { percent: 80 };
//!         device_state::put_value_for("battery", &battery, Duration::from_secs(60))?;
//!         Ok(())
//!     }
//!
//!     fn state_changed(&mut self, changes: Vec<state::Change>) {
//!         for change in changes {
//!             if let (state::Origin::Device(device), Ok(Some(battery))) =
//!                 (&change.origin, change.value::<Battery>())
//!             {
//!                 log::info!("{device}: {} %", battery.percent);
//!             }
//!         }
//!     }
//! }
//! ```

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::bindings::consort::plugin::state_types;
use crate::bindings::exports::consort::plugin::state_events as raw;
use crate::{DeviceId, payload};

/// Which kind of state an entry belongs to, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// [`leader_state`](crate::leader_state).
    Leader,
    /// This device's [`device_state`](crate::device_state).
    Device(DeviceId),
    /// [`shared_state`](crate::shared_state).
    Shared,
    /// [`counters`](crate::counters).
    Counter,
}

/// What an entry is after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has this value.
    Put(Vec<u8>),
    /// The counter stands at this sum.
    Counted(i64),
    /// It was deleted.
    Deleted,
    /// Its time has come.
    Expired,
}

/// A change that another device made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub origin: Origin,
    /// Under which key; of a counter, its name.
    pub key: String,
    /// What holds from here on.
    pub outcome: Outcome,
}

impl Change {
    /// The value that was put, from MessagePack; `Ok(None)` if the entry is gone or is a counter.
    ///
    /// # Errors
    /// The value is none of `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<Option<T>, payload::DecodeError> {
        match &self.outcome {
            Outcome::Put(value) => payload::decode(value).map(Some),
            Outcome::Counted(_) | Outcome::Deleted | Outcome::Expired => Ok(None),
        }
    }
}

impl From<raw::Change> for Change {
    fn from(change: raw::Change) -> Self {
        Self {
            origin: match change.origin {
                raw::Origin::Leader => Origin::Leader,
                raw::Origin::Device(device) => Origin::Device(DeviceId::new(device)),
                raw::Origin::Shared => Origin::Shared,
                raw::Origin::Counter => Origin::Counter,
            },
            key: change.key,
            outcome: match change.outcome {
                raw::Outcome::Put(value) => Outcome::Put(value),
                raw::Outcome::Counted(sum) => Outcome::Counted(sum),
                raw::Outcome::Deleted => Outcome::Deleted,
                raw::Outcome::Expired => Outcome::Expired,
            },
        }
    }
}

/// Why a write was refused. Nothing was written then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Only the leader writes leader state.
    NotLeader,
    /// The key is empty, longer than 256 bytes, or reserved.
    InvalidKey,
    /// The value, or the plugin's state with it, is larger than the host takes.
    TooLarge {
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// This plugin has written too much lately. Try again later.
    Busy,
    /// The value cannot be encoded.
    Encode(payload::EncodeError),
}

impl Error {
    /// The contract's word for it, such as `not-leader`: the same in every language. It is `encode`
    /// where the value did not reach the host.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotLeader => "not-leader",
            Self::InvalidKey => "invalid-key",
            Self::TooLarge { .. } => "too-large",
            Self::Busy => "busy",
            Self::Encode(_) => "encode",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("only the leader writes leader state"),
            Self::InvalidKey => f.write_str("a key has 1 to 256 bytes"),
            Self::TooLarge { limit } => write!(f, "larger than the {limit} bytes allowed"),
            Self::Busy => f.write_str("the host takes no more writes at the moment"),
            Self::Encode(_) => f.write_str("the value cannot be encoded"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(cause) => Some(cause),
            Self::NotLeader | Self::InvalidKey | Self::TooLarge { .. } | Self::Busy => None,
        }
    }
}

impl From<state_types::WriteError> for Error {
    fn from(error: state_types::WriteError) -> Self {
        match error {
            state_types::WriteError::NotLeader => Self::NotLeader,
            state_types::WriteError::InvalidKey => Self::InvalidKey,
            state_types::WriteError::TooLarge(limit) => Self::TooLarge { limit },
            state_types::WriteError::Busy => Self::Busy,
        }
    }
}

impl From<payload::EncodeError> for Error {
    fn from(error: payload::EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// How long an entry lives, in whole milliseconds, at least one.
pub(crate) fn millis(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The functions that leader state and shared state have in common.
macro_rules! keyed_state {
    ($host:ident) => {
        use std::time::Duration;

        use serde::Serialize;
        use serde::de::DeserializeOwned;

        use crate::bindings::consort::plugin::$host as host;
        use crate::payload::{self, DecodeError};
        use crate::state::{Error, millis};

        /// The value under `key`, if there is one.
        #[must_use]
        pub fn get(key: &str) -> Option<Vec<u8>> {
            host::get(key)
        }

        /// The value under `key` from MessagePack; `Ok(None)` if there is none.
        ///
        /// # Errors
        /// The value is none of `T`.
        pub fn get_value<T: DeserializeOwned>(key: &str) -> Result<Option<T>, DecodeError> {
            get(key).map(|value| payload::decode(&value)).transpose()
        }

        /// The keys that begin with `prefix`, in order.
        #[must_use]
        pub fn keys(prefix: &str) -> Vec<String> {
            host::keys(prefix)
        }

        /// The keys that begin with `prefix` and their values, in the order of the keys.
        #[must_use]
        pub fn entries(prefix: &str) -> Vec<(String, Vec<u8>)> {
            host::entries(prefix)
        }

        /// [`entries`] with the values from MessagePack.
        ///
        /// # Errors
        /// One of the values is none of `T`.
        pub fn values<T: DeserializeOwned>(prefix: &str) -> Result<Vec<(String, T)>, DecodeError> {
            let entries = entries(prefix).into_iter();
            entries
                .map(|(key, value)| Ok((key, payload::decode(&value)?)))
                .collect()
        }

        /// Puts a value under `key`.
        ///
        /// # Errors
        /// Those of [`Error`] but [`Error::Encode`]; nothing was written then.
        pub fn put(key: &str, value: &[u8]) -> Result<(), Error> {
            host::put(key, value, None).map_err(Error::from)
        }

        /// [`put`] of a value that is gone everywhere after `lifetime`, unless it is put again.
        ///
        /// # Errors
        /// Those of [`put`].
        pub fn put_for(key: &str, value: &[u8], lifetime: Duration) -> Result<(), Error> {
            host::put(key, value, Some(millis(lifetime))).map_err(Error::from)
        }

        /// [`put`] of a value as MessagePack.
        ///
        /// # Errors
        /// Those of [`put`], and [`Error::Encode`].
        pub fn put_value<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
            put(key, &payload::encode(value)?)
        }

        /// [`put_for`] of a value as MessagePack.
        ///
        /// # Errors
        /// Those of [`put`], and [`Error::Encode`].
        pub fn put_value_for<T: Serialize + ?Sized>(
            key: &str,
            value: &T,
            lifetime: Duration,
        ) -> Result<(), Error> {
            put_for(key, &payload::encode(value)?, lifetime)
        }

        /// Deletes what is under `key`, if anything is.
        ///
        /// # Errors
        /// Those of [`put`].
        pub fn delete(key: &str) -> Result<(), Error> {
            host::delete(key).map_err(Error::from)
        }
    };
}
pub(crate) use keyed_state;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(outcome: raw::Outcome) -> Change {
        Change::from(raw::Change {
            origin: raw::Origin::Device("abc".to_owned()),
            key: "k".to_owned(),
            outcome,
        })
    }

    #[test]
    fn a_change_gives_its_value() {
        let put = change(raw::Outcome::Put(payload::encode(&7u32).unwrap()));
        assert_eq!(put.origin, Origin::Device(DeviceId::new("abc")));
        assert_eq!(put.value::<u32>(), Ok(Some(7)));
        assert!(put.value::<String>().is_err());
        let sum = change(raw::Outcome::Counted(-3));
        assert_eq!(sum.outcome, Outcome::Counted(-3));
        for gone in [raw::Outcome::Deleted, raw::Outcome::Expired] {
            assert_eq!(change(gone).value::<u32>(), Ok(None));
        }
    }

    #[test]
    fn the_host_s_errors_keep_their_meaning() {
        use state_types::WriteError;
        let pairs = [
            (WriteError::NotLeader, Error::NotLeader),
            (WriteError::InvalidKey, Error::InvalidKey),
            (WriteError::TooLarge(9), Error::TooLarge { limit: 9 }),
            (WriteError::Busy, Error::Busy),
        ];
        for (raw, expected) in pairs {
            assert_eq!(Error::from(raw), expected);
        }
    }

    #[test]
    fn lifetimes_are_whole_milliseconds() {
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_secs(2)), 2_000);
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
