use crate::bindings::consort::plugin::clock;
use crate::fault::HostFault;
use crate::guest::Guest;

impl clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.host_call()?;
        Ok(self.clock.read())
    }

    fn quality(&mut self) -> wasmtime::Result<clock::Synchronisation> {
        self.host_call()?;
        let reading = self.clock.reading();
        Ok(clock::Synchronisation {
            synchronised: reading.synchronised,
            error_bound: reading.error_bound_us,
        })
    }

    fn wake_at(&mut self, at: u64, token: u64) -> wasmtime::Result<()> {
        self.host_call()?;
        Ok(self.timers.wake_at(at, token).map_err(HostFault::from)?)
    }

    fn wake_every(&mut self, period: u64, token: u64) -> wasmtime::Result<()> {
        self.host_call()?;
        let now = self.clock.group_time();
        Ok(self
            .timers
            .wake_every(now, period, token)
            .map_err(HostFault::from)?)
    }

    fn cancel(&mut self, token: u64) -> wasmtime::Result<()> {
        self.host_call()?;
        self.timers.cancel(token);
        Ok(())
    }
}
