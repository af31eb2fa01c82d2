//! From checked settings to what their owners take.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use consort_proto::{Access, SendRate};

use super::file::{self, Settings};
use super::kinds::{Checked, Kind};
use super::plugin::{self, FolderGrant, Granted, Overlay};
use super::{Config, LocalConfig, Network};

pub(super) fn assemble(settings: Settings) -> Config {
    let network = settings.network;
    let port = required(network.port.as_ref());
    let listen = network.listen.map(|list| list.0).unwrap_or_default();
    let overlay = |plugin: file::PluginSettings| Overlay {
        enabled: plugin.enabled.map(|value| value.0),
        priority: plugin.priority.map(|value| value.0),
        preempt: plugin.preempt.map(|value| value.0),
        config: plugin
            .config
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect(),
        limits: plugin.limits,
        state: plugin.state,
        capabilities: granted(plugin.capabilities),
    };
    Config {
        name: required(settings.name.as_ref()),
        data_dir: required(settings.data_dir.as_ref()),
        plugins_dir: required(settings.plugins_dir.as_ref()),
        network: Network {
            listen: listen
                .into_iter()
                .map(|ip: IpAddr| SocketAddr::new(ip, port))
                .collect(),
            discovery_port: required(network.discovery_port.as_ref()),
            multicast: required(network.multicast.as_ref()),
            broadcast: required(network.broadcast.as_ref()),
            send_rate: SendRate {
                bytes_per_second: required(network.send_kb_per_second.as_ref()) * 1_000,
                peer_bytes_per_second: required(network.peer_kb_per_second.as_ref()) * 1_000,
                burst: required(network.send_burst_kib.as_ref()) * 1_024,
            },
            seeds: network.seeds.map(|list| list.0).unwrap_or_default(),
            interfaces: network.interfaces.map(|list| list.0).unwrap_or_default(),
            interfaces_denied: network
                .interfaces_denied
                .map(|list| list.0)
                .unwrap_or_default(),
        },
        access: access(settings.group),
        local: LocalConfig {
            dir: settings.local.dir.map(|dir| dir.0),
            group: settings.local.group.map(|group| group.0),
        },
        plugins: settings
            .plugins
            .into_iter()
            .map(|(id, plugin)| (id, overlay(plugin)))
            .collect(),
        cores_dir: None,
    }
}

fn granted(capabilities: file::CapabilitySettings) -> Granted {
    let files = capabilities.files.into_iter().map(|(name, folder)| {
        let grant = FolderGrant {
            path: folder.path.0,
            access: folder
                .access
                .map_or(plugin::Access::Read, |access| access.0),
        };
        (name, grant)
    });
    Granted {
        local: capabilities.local.is_some_and(|local| local.0),
        files: files.collect(),
    }
}

fn access(group: file::GroupSettings) -> Access {
    let allow = group.allow.map(|list| list.0.into_iter().collect());
    let deny = group.deny.map(|list| list.0.into_iter().collect());
    Access::new(allow, deny.unwrap_or_default()).expect("lists are bounded where they are read")
}

pub(super) fn required<K: Kind>(value: Option<&Checked<K>>) -> K::Value
where
    K::Value: Clone + fmt::Debug,
{
    value.expect("the default layer sets every key").0.clone()
}
