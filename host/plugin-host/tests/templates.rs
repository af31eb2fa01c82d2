//! What the templates of all languages give, as `cargo xtask test --guests` builds them into the
//! folder that `CONSORT_TEMPLATES` names. A plain `cargo test` leaves this file out, as it has no
//! toolchains.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::tour::{Tour, plugins, text};
use common::{cache_dir, device, tenure, this_device};
use consort_plugin_host::{Code, Runtime};
use consort_proto::{PluginCommand, PluginEvent};

#[test]
fn templates_greet_their_group() {
    let runtime = Runtime::new(&cache_dir()).unwrap();
    let plugins = plugins("CONSORT_TEMPLATES").expect("cargo xtask test --guests sets it");
    for (language, path) in plugins {
        println!("{language}");
        let code = Code::new(&runtime, &std::fs::read(path).unwrap()).unwrap();
        let mut plugin = Tour::new(&code);
        plugin.expect(&["hello is set up"]);
        plugin.deliver(PluginEvent::PeerAdded(this_device()));
        let sent = plugin.deliver(PluginEvent::PromoteLeader(tenure(this_device(), 1)));
        let greeting = [vec![0x81], text("greeting"), text("here")].concat();
        assert_eq!(sent, [PluginCommand::Broadcast(greeting.clone().into())]);
        plugin.deliver(PluginEvent::LeaderMessage {
            sender: tenure(this_device(), 1),
            payload: greeting.into(),
        });
        plugin.expect(&["leader in term 1", "greeted by here in term 1"]);
        plugin.deliver(PluginEvent::DemoteLeader);
        plugin.deliver(PluginEvent::PromoteFollower(tenure(device(2), 2)));
        plugin.expect(&["following device-2"]);
    }
}
