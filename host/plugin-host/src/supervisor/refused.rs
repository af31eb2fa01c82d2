//! What a plugin's limits refuse is counted on its board, and said once for each kind and generation.

use tracing::warn;

use super::Supervisor;
use crate::refusals::{Asked, Refusals};

/// Which kinds the log has named of a generation.
#[derive(Debug, Default)]
pub(super) struct Said([bool; Asked::ALL.len()]);

impl Supervisor {
    pub(super) fn note_refusals(&mut self, refusals: &Refusals) {
        {
            let mut status = self.board.lock();
            status.refused_messages += refusals.messages.count;
            status.refused_writes += refusals.writes.count;
            status.refused_publishes += refusals.publishes.count;
        }
        for asked in Asked::ALL {
            let Some(why) = &refusals.of(asked).why else {
                continue;
            };
            if !std::mem::replace(&mut self.said.0[asked as usize], true) {
                let what = asked.name();
                warn!(plugin = %self.id, cause = %why, "{what} are refused");
                self.board.say(&format!("{what} are refused: {why}"));
            }
        }
    }
}
