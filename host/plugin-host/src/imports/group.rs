use crate::bindings::consort::plugin::{group, types};
use crate::guest::Guest;

impl group::Host for Guest {
    fn this_device(&mut self) -> wasmtime::Result<types::Peer> {
        self.host_call()?;
        Ok(self.view.this_device().into())
    }

    fn peers(&mut self) -> wasmtime::Result<Vec<types::Peer>> {
        self.host_call()?;
        Ok(self.view.peers().map(types::Peer::from).collect())
    }

    fn leader(&mut self) -> wasmtime::Result<Option<types::Leadership>> {
        self.host_call()?;
        Ok(self.view.leadership().map(types::Leadership::from))
    }

    fn is_leader(&mut self) -> wasmtime::Result<bool> {
        self.host_call()?;
        Ok(self.view.is_leader())
    }
}
