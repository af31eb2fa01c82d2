//! Requests of local programs.

use super::Supervisor;
use super::life::Life;
use crate::plugin_log::printable;
use crate::{LocalRequest, LocalRequestError};

impl Supervisor {
    /// Lets the plugin answer a request. What the callback publishes goes out before its answer.
    pub(super) fn handle_request(&mut self, request: LocalRequest) {
        if request.is_late(self.now()) {
            return request.answer(Err(LocalRequestError::TimedOut));
        }
        let reading = self.reading();
        let Life::Running(running) = &mut self.life else {
            let state = self.life.name();
            return request.answer(Err(LocalRequestError::NotRunning { state }));
        };
        let called = running
            .instance
            .local_request(request.topic(), request.payload(), reading);
        match called {
            Ok((answer, outcome)) => {
                self.send(outcome);
                request.answer(answer);
            }
            Err(fault) => {
                let cause = printable(&fault.to_string());
                self.fault(&fault);
                request.answer(Err(LocalRequestError::Faulted(cause)));
            }
        }
    }
}
