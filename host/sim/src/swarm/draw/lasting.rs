//! Faults that take long or much: a device that is away for a minute, and floods of handshakes that
//! carry the code of the group, so that they reach what stands behind it: copies of those that devices
//! began, and fresh ones by somebody who holds the secret; and what strangers do.

use core::time::Duration;

use rand::RngExt;

use super::{Draw, ms};
use crate::plan::{Action, CloneOf, Flood, FloodKind, Mode, Replay, Stranger, Who};

impl Draw {
    /// One or two, of which some bring the devices they meet under load.
    pub(super) fn floods_from_within(&mut self) {
        for _ in 0..self.rng.random_range(1..=2) {
            let kind = if self.chance(35) {
                FloodKind::Copies
            } else {
                FloodKind::Insider
            };
            let flood = Flood {
                kind,
                to: self.who(),
                rate: self.rng.random_range(20..400),
                lasting: ms(self.rng.random_range(300..4_000)),
            };
            let at = self.at();
            self.push(at, Action::Flood(flood));
        }
    }

    /// A leader, or another device, is stopped or sleeps for about a minute: longer than any probe,
    /// suspicion and session with a missing device lasts.
    pub(super) fn away_for_a_minute(&mut self) {
        let more = ms(70_000);
        let who = if self.chance(70) {
            Who::Leader
        } else {
            Who::Nodes(vec![self.node()])
        };
        let at = self.end;
        let back = at + ms(self.rng.random_range(50_000..65_000));
        self.end += more;
        self.plan.duration += more;
        if let Some(calm) = &mut self.plan.calm {
            *calm += more;
        }
        let away = if self.chance(50) {
            Action::Pause(who)
        } else {
            Action::Suspend(who)
        };
        self.push(at, away);
        self.push(back, Action::Resume(Who::All));
    }

    pub(super) fn hostile(&mut self, at: Duration) {
        let to = self.who();
        let action = match self.rng.random_range(0..8) {
            0 => Action::Stranger(Stranger {
                count: self.rng.random_range(1..=2),
            }),
            1 if self.plan.mode == Mode::Safety => {
                let node = self.node();
                Action::Clone(CloneOf { node })
            }
            2..5 => Action::Flood(Flood {
                kind: if self.rng.random_bool(0.5) {
                    FloodKind::Handshake
                } else {
                    FloodKind::Garbage
                },
                to,
                rate: self.rng.random_range(10..1_000),
                lasting: ms(self.rng.random_range(100..4_000)),
            }),
            _ => Action::Replay(Replay {
                to,
                last: ms(self.rng.random_range(100..10_000)),
                forged: self.rng.random_bool(0.5),
            }),
        };
        self.push(at, action);
    }
}
