use std::sync::Arc;

use consort_proto::StateWrite;

use crate::bindings::consort::plugin::counters;
use crate::bindings::consort::plugin::state_types::WriteError;
use crate::guest::Guest;

impl counters::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<i64> {
        self.host_call()?;
        Ok(self.view.state().counter(&name))
    }

    fn add(&mut self, name: String, delta: i64) -> wasmtime::Result<Result<i64, WriteError>> {
        self.host_call()?;
        let name = Arc::from(name);
        let write = StateWrite::Add {
            name: Arc::clone(&name),
            delta,
        };
        let written = self.state_write(write);
        Ok(written.map(|()| self.view.state().counter(&name)))
    }
}
