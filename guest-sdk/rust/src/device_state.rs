//! State that each device writes for itself and everyone reads.
//!
//! The place for what a device says of itself. It stays when the device is away (for a day, unless
//! the entry was put with a shorter life), and the device reads its own again after a restart. See
//! [`state`](crate::state) for what all kinds have in common, with an example.
//!
//! ```no_run
//! use consort_plugin::{device_state, group, log};
//!
//! fn list() {
//!     // Everyone's, this device's included.
//!     let names = device_state::collect_values::<String>("room").unwrap_or_default();
//!     for (device, room) in names {
//!         let here = group::peers().iter().any(|peer| peer.device == device);
//!         log::info!("{device}: {room}{}", if here { "" } else { " (away)" });
//!     }
//! }
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::consort::plugin::device_state as host;
use crate::payload::{self, DecodeError};
use crate::state::{Error, millis};
use crate::{DeviceId, group};

/// The value that `device` has under `key`, if there is one.
#[must_use]
pub fn get(device: &DeviceId, key: &str) -> Option<Vec<u8>> {
    host::get(device.as_str(), key)
}

/// The value that `device` has under `key`, from MessagePack; `Ok(None)` if there is none.
///
/// # Errors
/// The value is none of `T`.
pub fn get_value<T: DeserializeOwned>(
    device: &DeviceId,
    key: &str,
) -> Result<Option<T>, DecodeError> {
    let value = get(device, key);
    value.map(|value| payload::decode(&value)).transpose()
}

/// What this device itself has under `key`, from MessagePack; `Ok(None)` if there is nothing.
///
/// # Errors
/// The value is none of `T`.
pub fn own_value<T: DeserializeOwned>(key: &str) -> Result<Option<T>, DecodeError> {
    get_value(&group::this_device().device, key)
}

/// The value under `key` of every device that has one, ordered by device. Devices that are away
/// are among them.
#[must_use]
pub fn collect(key: &str) -> Vec<(DeviceId, Vec<u8>)> {
    let values = host::collect(key).into_iter();
    values
        .map(|(device, value)| (DeviceId::new(device), value))
        .collect()
}

/// [`collect`] with the values from MessagePack.
///
/// # Errors
/// One of the values is none of `T`.
pub fn collect_values<T: DeserializeOwned>(key: &str) -> Result<Vec<(DeviceId, T)>, DecodeError> {
    let values = collect(key).into_iter();
    values
        .map(|(device, value)| Ok((device, payload::decode(&value)?)))
        .collect()
}

/// The keys of `device` that begin with `prefix`, in order.
#[must_use]
pub fn keys(device: &DeviceId, prefix: &str) -> Vec<String> {
    host::keys(device.as_str(), prefix)
}

/// Puts a value of this device under `key`.
///
/// # Errors
/// Those of [`Error`] but [`Error::NotLeader`] and [`Error::Encode`]; nothing was written then.
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

/// Deletes what this device has under `key`, if anything is.
///
/// # Errors
/// Those of [`put`].
pub fn delete(key: &str) -> Result<(), Error> {
    host::delete(key).map_err(Error::from)
}
