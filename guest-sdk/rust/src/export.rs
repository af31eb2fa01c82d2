//! From the component's exports to a [`Plugin`].
//!
//! The generated export macro needs types that implement its traits by functions without a
//! receiver. [`Exports`] is that type for any plugin; the plugin's value lives in a static that
//! [`plugin!`](crate::plugin) makes in the plugin's own crate, since a generic type has no statics.

use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::marker::PhantomData;

use crate::bindings::consort::plugin::types;
use crate::bindings::exports::consort::plugin as raw;
use crate::state::Change;
use crate::{BoxError, GroupTime, Leadership, Peer, Plugin, Reason, logger};

/// Makes a type that implements [`Plugin`] the plugin of this crate. Once per crate.
///
/// It exports every callback, and before `setup` it routes the [`log`](crate::log) crate and panics
/// to the host's log.
///
/// ```no_run
/// #[derive(Default)]
/// struct Silent;
///
/// impl consort_plugin::Plugin for Silent {}
///
/// consort_plugin::plugin!(Silent);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        const _: () = {
            struct Slot;

            impl $crate::__private::Slot for Slot {
                type Plugin = $plugin;

                fn with<R>(call: impl FnOnce(&mut $plugin) -> R) -> R {
                    ::std::thread_local! {
                        static PLUGIN: ::core::cell::RefCell<$plugin> =
                            ::core::default::Default::default();
                    }
                    PLUGIN.with_borrow_mut(call)
                }
            }

            type Exports = $crate::__private::Exports<Slot>;
    $crate::bindings::export_all!(Exports with_types_in $crate::bindings);
        };
    };
}

/// Where the value of one plugin lives.
pub trait Slot: 'static {
    /// The plugin.
    type Plugin: Plugin;

    /// Calls it. Never nested, as the host calls one callback at a time and no host call calls back.
    fn with<R>(call: impl FnOnce(&mut Self::Plugin) -> R) -> R;
}

/// The exports of the plugin in the slot `S`.
#[derive(Debug)]
pub struct Exports<S>(PhantomData<S>);

impl<S: Slot> raw::lifecycle::Guest for Exports<S> {
    fn setup() -> Result<(), String> {
        logger::install();
        let call = framed::<fn(&mut S::Plugin) -> Result<(), BoxError>>(Plugin::setup);
        S::with(call).map_err(|error| describe(&*error))
    }

    fn shutdown(reason: raw::lifecycle::Reason) {
        let call = framed::<fn(&mut S::Plugin, Reason)>(Plugin::shutdown);
        S::with(|plugin| call(plugin, reason.into()));
    }
}

impl<S: Slot> raw::role::Guest for Exports<S> {
    fn promote_leader(leadership: types::Leadership) {
        let call = framed::<fn(&mut S::Plugin, Leadership)>(Plugin::promote_leader);
        S::with(|plugin| call(plugin, leadership.into()));
    }

    fn demote_leader() {
        let call = framed::<fn(&mut S::Plugin)>(Plugin::demote_leader);
        S::with(call);
    }

    fn promote_follower(leadership: types::Leadership) {
        let call = framed::<fn(&mut S::Plugin, Leadership)>(Plugin::promote_follower);
        S::with(|plugin| call(plugin, leadership.into()));
    }

    fn demote_follower() {
        let call = framed::<fn(&mut S::Plugin)>(Plugin::demote_follower);
        S::with(call);
    }
}

impl<S: Slot> raw::peer_events::Guest for Exports<S> {
    fn on_peer_added(peer: types::Peer) {
        let call = framed::<fn(&mut S::Plugin, Peer)>(Plugin::peer_added);
        S::with(|plugin| call(plugin, peer.into()));
    }

    fn on_peer_removed(peer: types::Peer) {
        let call = framed::<fn(&mut S::Plugin, Peer)>(Plugin::peer_removed);
        S::with(|plugin| call(plugin, peer.into()));
    }
}

impl<S: Slot> raw::message_events::Guest for Exports<S> {
    fn on_leader_message(payload: Vec<u8>, sender: types::Leadership) {
        let call = framed::<fn(&mut S::Plugin, Vec<u8>, Leadership)>(Plugin::leader_message);
        S::with(|plugin| call(plugin, payload, sender.into()));
    }

    fn on_peer_message(payload: Vec<u8>, sender: types::Peer) {
        let call = framed::<fn(&mut S::Plugin, Vec<u8>, Peer)>(Plugin::peer_message);
        S::with(|plugin| call(plugin, payload, sender.into()));
    }
}

impl<S: Slot> raw::state_events::Guest for Exports<S> {
    fn on_state_changed(changes: Vec<raw::state_events::Change>) {
        let changes = changes.into_iter().map(Into::into).collect();
        let call = framed::<fn(&mut S::Plugin, Vec<Change>)>(Plugin::state_changed);
        S::with(|plugin| call(plugin, changes));
    }

    fn on_writes_superseded(keys: Vec<String>) {
        let call = framed::<fn(&mut S::Plugin, Vec<String>)>(Plugin::writes_superseded);
        S::with(|plugin| call(plugin, keys));
    }
}

impl<S: Slot> raw::timers::Guest for Exports<S> {
    fn on_timer(token: u64, due: u64) {
        let call = framed::<fn(&mut S::Plugin, u64, GroupTime)>(Plugin::timer);
        S::with(|plugin| call(plugin, token, GroupTime::from_micros(due)));
    }
}

impl<S: Slot> raw::local_events::Guest for Exports<S> {
    fn on_local_request(topic: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        let call = framed::<fn(&mut S::Plugin, &str, Vec<u8>) -> Result<Vec<u8>, BoxError>>(
            Plugin::local_request,
        );
        S::with(|plugin| call(plugin, &topic, payload)).map_err(|error| describe(&*error))
    }
}

impl<S: Slot> raw::handover::Guest for Exports<S> {
    fn save() -> Vec<u8> {
        let call = framed::<fn(&mut S::Plugin) -> Vec<u8>>(Plugin::save);
        S::with(call)
    }

    fn restore(saved: Vec<u8>, from_version: String) -> Result<(), String> {
        let call =
            framed::<fn(&mut S::Plugin, Vec<u8>, &str) -> Result<(), BoxError>>(Plugin::restore);
        S::with(|plugin| call(plugin, saved, &from_version)).map_err(|error| describe(&*error))
    }
}

/// A callback of which the compiler does not know which it is, so it is not put into its caller and a
/// backtrace has its name.
fn framed<Callback>(callback: Callback) -> Callback {
    black_box(callback)
}

/// An error and its sources in one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::state;

    /// Notes each callback that reaches it.
    #[derive(Default)]
    struct Recorder {
        calls: Vec<String>,
    }

    impl Recorder {
        fn note(&mut self, call: impl Into<String>) {
            self.calls.push(call.into());
        }
    }

    impl Plugin for Recorder {
        fn shutdown(&mut self, reason: Reason) {
            self.note(format!("shutdown {reason:?}"));
        }
        fn promote_leader(&mut self, leadership: Leadership) {
            self.note(format!("promote-leader {}", leadership.term));
        }
        fn demote_leader(&mut self) {
            self.note("demote-leader");
        }
        fn promote_follower(&mut self, leadership: Leadership) {
            self.note(format!("promote-follower {}", leadership.leader.device));
        }
        fn demote_follower(&mut self) {
            self.note("demote-follower");
        }
        fn peer_added(&mut self, peer: Peer) {
            self.note(format!("added {}", peer.name));
        }
        fn peer_removed(&mut self, peer: Peer) {
            self.note(format!("removed {}", peer.name));
        }
        fn leader_message(&mut self, payload: Vec<u8>, sender: Leadership) {
            self.note(format!("leader-message {payload:?} {}", sender.term));
        }
        fn peer_message(&mut self, payload: Vec<u8>, sender: Peer) {
            self.note(format!("peer-message {payload:?} {}", sender.device));
        }
        fn state_changed(&mut self, changes: Vec<state::Change>) {
            self.note(format!("state-changed {changes:?}"));
        }
        fn writes_superseded(&mut self, keys: Vec<String>) {
            self.note(format!("writes-superseded {keys:?}"));
        }
        fn timer(&mut self, token: u64, due: GroupTime) {
            self.note(format!("timer {token} {due}"));
        }
        fn local_request(&mut self, topic: &str, payload: Vec<u8>) -> Result<Vec<u8>, BoxError> {
            self.note(format!("local-request {topic} {payload:?}"));
            match topic {
                "echo" => Ok(payload),
                _ => Err("no".into()),
            }
        }
        fn save(&mut self) -> Vec<u8> {
            vec![self.calls.len() as u8]
        }
        fn restore(&mut self, saved: Vec<u8>, from_version: &str) -> Result<(), BoxError> {
            self.note(format!("restore {saved:?} {from_version}"));
            let number = "seven".parse::<u32>();
            Err(Box::new(crate::config::ParseError::new(
                "count",
                "seven",
                &number.unwrap_err(),
            )))
        }
    }

    struct TestSlot;

    impl Slot for TestSlot {
        type Plugin = Recorder;

        fn with<R>(call: impl FnOnce(&mut Recorder) -> R) -> R {
            thread_local! {
                static PLUGIN: RefCell<Recorder> = RefCell::default();
            }
            PLUGIN.with_borrow_mut(call)
        }
    }

    fn peer() -> types::Peer {
        types::Peer {
            device: "id".to_owned(),
            name: "hall".to_owned(),
            address: "10.0.0.7".to_owned(),
            is_self: false,
            clock_delta: 0,
            round_trip: 1,
        }
    }

    #[test]
    fn every_export_reaches_its_callback() {
        type E = Exports<TestSlot>;
        let leadership = || types::Leadership {
            leader: peer(),
            term: 4,
        };
        <E as raw::peer_events::Guest>::on_peer_added(peer());
        <E as raw::role::Guest>::promote_follower(leadership());
        <E as raw::role::Guest>::demote_follower();
        <E as raw::role::Guest>::promote_leader(leadership());
        <E as raw::message_events::Guest>::on_leader_message(vec![1], leadership());
        <E as raw::message_events::Guest>::on_peer_message(vec![2], peer());
        <E as raw::state_events::Guest>::on_state_changed(vec![raw::state_events::Change {
            origin: raw::state_events::Origin::Shared,
            key: "k".to_owned(),
            outcome: raw::state_events::Outcome::Expired,
        }]);
        <E as raw::state_events::Guest>::on_writes_superseded(vec!["l".to_owned()]);
        <E as raw::timers::Guest>::on_timer(3, 5);
        let ask = <E as raw::local_events::Guest>::on_local_request;
        assert_eq!(ask("echo".to_owned(), vec![9]), Ok(vec![9]));
        assert_eq!(ask("else".to_owned(), Vec::new()), Err("no".to_owned()));
        <E as raw::role::Guest>::demote_leader();
        <E as raw::peer_events::Guest>::on_peer_removed(peer());
        assert_eq!(<E as raw::handover::Guest>::save(), [13]);
        let refused = <E as raw::handover::Guest>::restore(vec![13], "0.1.0".to_owned());
        assert_eq!(
            refused,
            Err("config value count = \"seven\": invalid digit found in string".to_owned())
        );
        <E as raw::lifecycle::Guest>::shutdown(raw::lifecycle::Reason::Reload);
        let expected = [
            "added hall",
            "promote-follower id",
            "demote-follower",
            "promote-leader 4",
            "leader-message [1] 4",
            "peer-message [2] id",
            "state-changed [Change { origin: Shared, key: \"k\", outcome: Expired }]",
            "writes-superseded [\"l\"]",
            "timer 3 5",
            "local-request echo [9]",
            "local-request else []",
            "demote-leader",
            "removed hall",
            "restore [13] 0.1.0",
            "shutdown Reload",
        ];
        TestSlot::with(|plugin| assert_eq!(plugin.calls, expected));
    }

    #[test]
    fn an_error_is_told_with_its_sources() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let cause = "x".parse::<u8>().unwrap_err();
        assert_eq!(
            describe(&Outer(cause)),
            "outer: invalid digit found in string"
        );
    }
}
