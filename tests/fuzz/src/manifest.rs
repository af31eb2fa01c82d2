//! A plugin's manifest, read by the plugin host's own source without the plugin host, which would
//! bring wasmtime along.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the plugin host uses the rest, and hands it on"
)]

use std::path::Path;

use consort_proto::PluginId;

#[path = "../../../host/plugin-host/src/manifest.rs"]
mod parser;

/// Reads a manifest. A mistake has a line within the text, and what is taken is within its bounds.
/// Returns whether it was taken.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    let id = PluginId::new("app").expect("a valid id");
    match parser::Settings::new(&id, Some((Path::new("plugin.toml"), text)), None) {
        Ok(settings) => {
            assert!(settings.spec.id == id, "it keeps its id");
            assert!(settings.limits.memory_bytes <= 1 << 30, "{settings:?}");
            true
        }
        Err(mistake) => {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&mistake.line), "{mistake:?}");
            assert!(!mistake.text.is_empty(), "a mistake is named");
            false
        }
    }
}
