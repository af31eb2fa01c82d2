use consort_proto::{Origin, Scope};

use super::state::Written;
use crate::bindings::consort::plugin::shared_state;
use crate::guest::Guest;

impl shared_state::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.host_call()?;
        Ok(self.state_value(Origin::Shared, &key))
    }

    fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        self.host_call()?;
        Ok(self.state_keys(Origin::Shared, &prefix))
    }

    fn entries(&mut self, prefix: String) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        self.host_call()?;
        Ok(self.state_entries(Origin::Shared, &prefix))
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl: Option<u64>) -> wasmtime::Result<Written> {
        self.host_call()?;
        Ok(self.state_put(Scope::Shared, key, value, ttl))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Written> {
        self.host_call()?;
        Ok(self.state_delete(Scope::Shared, key))
    }
}
