use crate::bindings::consort::plugin::{group, types};
use crate::guest::Guest;

impl group::Host for Guest {
    fn this_device(&mut self) -> wasmtime::Result<types::Peer> {
        Ok(self.view.this_device().into())
    }

    fn peers(&mut self) -> wasmtime::Result<Vec<types::Peer>> {
        Ok(self.view.peers().map(types::Peer::from).collect())
    }

    fn leader(&mut self) -> wasmtime::Result<Option<types::Leadership>> {
        Ok(self.view.leadership().map(types::Leadership::from))
    }

    fn is_leader(&mut self) -> wasmtime::Result<bool> {
        Ok(self.view.is_leader())
    }
}
