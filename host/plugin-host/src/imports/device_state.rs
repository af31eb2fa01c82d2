use consort_proto::{DeviceId, Origin, Scope};

use super::state::Written;
use crate::bindings::consort::plugin::device_state;
use crate::guest::Guest;

impl device_state::Host for Guest {
    fn get(&mut self, device: String, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.host_call()?;
        Ok(origin(&device).and_then(|origin| self.state_value(origin, &key)))
    }

    fn collect(&mut self, key: String) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        self.host_call()?;
        let now = self.clock.group_time();
        let values = self.view.state().collect(&key, now).into_iter();
        Ok(values
            .map(|(device, value)| (device.to_string(), value.to_vec()))
            .collect())
    }

    fn keys(&mut self, device: String, prefix: String) -> wasmtime::Result<Vec<String>> {
        self.host_call()?;
        let keys = origin(&device).map(|origin| self.state_keys(origin, &prefix));
        Ok(keys.unwrap_or_default())
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl: Option<u64>) -> wasmtime::Result<Written> {
        self.host_call()?;
        Ok(self.state_put(Scope::Device, key, value, ttl))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Written> {
        self.host_call()?;
        Ok(self.state_delete(Scope::Device, key))
    }
}

/// What is no device's id has no state.
fn origin(device: &str) -> Option<Origin> {
    device.parse::<DeviceId>().ok().map(Origin::Device)
}
