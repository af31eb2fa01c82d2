//! `consort plugin list`: the plugins of the running daemon.

use serde::Serialize;

use super::PluginError;
use crate::cli::plugins_table::{Columns, plugins_table};
use crate::cli::settings::PlaceFlags;
use crate::cli::{CliError, event_loop, output};
use crate::control::client::fetch_status;
use crate::control::types::{PluginStatus, VERSION};

#[derive(Serialize)]
struct List {
    v: u32,
    plugins: Vec<PluginStatus>,
}

pub(super) fn run(place: &PlaceFlags, json: bool) -> Result<(), CliError> {
    let data_dir = place.resolve()?.config.data_dir;
    let status = event_loop()?.block_on(fetch_status(&data_dir));
    let plugins = status.map_err(PluginError::from)?.plugins;
    if json {
        return output::object(&List {
            v: VERSION,
            plugins,
        });
    }
    output::text(&output::shown(&plugins_table(&plugins, Columns::Code)))
}
