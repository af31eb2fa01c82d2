//! What must hold in every run, whatever the scenario: one checker per property.
//!
//! A checker sees every observation in order and answers with a sentence when one breaks its
//! property. The run ends there, with the seed.

use core::fmt::Debug;

use consort_proto::{DeviceId, PluginCommand, PluginEvent, PluginId, Time};

use crate::app::App;

mod bracket;
mod contents;
mod delivery;
mod membership;
mod versions;

pub(crate) use bracket::Brackets;
pub(crate) use delivery::Delivery;
pub use delivery::MessageReport;
pub(crate) use membership::Membership;
pub(crate) use versions::Forward;

/// Where something was observed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) now: Time,
    pub(crate) node: usize,
    pub(crate) device: DeviceId,
    /// Which group secret the device holds; none for a group of one.
    pub(crate) group: Option<&'a [u8; 16]>,
}

/// Something that happened to a device or a plugin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Observation<'a> {
    /// A device's new life begins.
    Started,
    /// Records that a device had asked to keep are gone: a crash took them, or the disk was full.
    WritesLost,
    /// A plugin comes up that was not there before, with nothing known.
    PluginStarted { plugin: &'a PluginId },
    /// A plugin acts; `app` is its state then.
    Sent {
        app: &'a App,
        command: &'a PluginCommand,
    },
    /// A plugin is told something; `app` is its state before.
    Told {
        app: &'a App,
        event: &'a PluginEvent,
    },
    /// A device became a member.
    MemberAdded(DeviceId),
    /// A device is a member no longer.
    MemberRemoved(DeviceId),
}

/// A property that must hold throughout.
pub(crate) trait Checker: Debug {
    /// Looks at one observation.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    fn observe(&mut self, place: &Place<'_>, seen: &Observation<'_>) -> Result<(), String>;
}

/// An error unless `holds`.
pub(crate) fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::app::AppState;
    use bytes::Bytes;
    use consort_proto::{Leadership, Peer, PluginSpec, Version};

    pub(crate) fn device(byte: u8) -> DeviceId {
        consort_proto::PublicKey::new([byte; 32])
            .expect("no point of low order")
            .device_id()
    }

    pub(crate) fn peer(byte: u8) -> Peer {
        Peer {
            device: device(byte),
            name: format!("d{byte}"),
            address: "10.0.0.1".into(),
            is_self: byte == 7,
            clock_delta: 0,
            round_trip: 0,
        }
    }

    pub(crate) fn tenure(byte: u8, term: u64) -> Leadership {
        Leadership {
            leader: peer(byte),
            term,
        }
    }

    pub(crate) fn app() -> App {
        let id = PluginId::new("app").expect("valid");
        let spec = PluginSpec {
            id,
            version: Version::default(),
            priority: 0,
            preempt: false,
        };
        let mut app = App::new(spec, device(7));
        app.state = AppState::Up;
        app
    }

    pub(crate) fn place(byte: u8) -> Place<'static> {
        let (node, device) = (usize::from(byte), device(byte));
        Place {
            now: Time::from_micros(1_000_000),
            node,
            device,
            group: Some(&[1; 16]),
        }
    }

    /// Feeds events to a checker as device 7; the error of the last one.
    pub(crate) fn tell(
        checker: &mut dyn Checker,
        app: &mut App,
        events: &[PluginEvent],
    ) -> Result<(), String> {
        for (i, event) in events.iter().enumerate() {
            let result = checker.observe(&place(7), &Observation::Told { app, event });
            if i + 1 == events.len() {
                return result;
            }
            result.expect("only the last event is wrong");
            app.record(Time::ZERO, event.clone());
        }
        Ok(())
    }

    pub(crate) fn message(number: u64) -> Bytes {
        crate::message::payload(number, 20)
    }
}
