//! The daemon's local interface: HTTP over a Unix socket that only its user may open.
//!
//! The command line is a client of it and never a member of the group. The socket is
//! `control.sock` in the data folder. A Unix socket's path holds about a hundred bytes; where the
//! data folder lies too deep, the socket goes into the user's runtime folder under a name made
//! from the data folder's, and `control.path` in the data folder says where.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub mod client;
pub mod plugins;
pub mod rotate;
pub mod server;
pub mod types;

/// What every system takes as path of a socket, with room to spare.
pub(crate) const PATH_MAX: usize = 100;
/// Beside the data, says where the socket is if it is elsewhere.
const PATH_FILE: &str = "control.path";
/// The request for a [`types::Status`].
const STATUS_PATH: &str = "/v1/status";
/// The request for a [`rotate::RotateAnswer`].
const ROTATE_PATH: &str = "/v1/rotate";

/// Where there are answers about one plugin: `<this>/<id>` for a [`plugins::PluginInspection`],
/// `<this>/<id>/logs` for a [`plugins::PluginLog`], `<this>/<id>/<order>` for an order.
pub(crate) const PLUGINS_PATH: &str = "/v1/plugins";

/// The socket's path in the data folder, if it is short enough.
fn path_in_data_dir(data_dir: &Path) -> Option<PathBuf> {
    let path = data_dir.join("control.sock");
    (path.as_os_str().len() <= PATH_MAX).then_some(path)
}

/// Folders for sockets that the data folder has no room for, best first.
fn runtime_dirs() -> Vec<PathBuf> {
    let user = nix::unistd::geteuid();
    let mut dirs = Vec::new();
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        dirs.push(PathBuf::from(dir).join("consort"));
    }
    if user.is_root() {
        dirs.push(PathBuf::from("/run/consort"));
    }
    dirs.push(std::env::temp_dir().join(format!("consort-{user}")));
    dirs.push(PathBuf::from(format!("/tmp/consort-{user}")));
    dirs
}

/// A path for a socket that is to be at `wanted`, which is too long: in the first runtime folder that
/// is private and has room, always the same for the same one.
pub(crate) fn path_elsewhere(wanted: &Path) -> io::Result<PathBuf> {
    let name = hashed_name(wanted)?;
    let mut last = io::Error::other("every runtime folder has too long a name");
    for dir in runtime_dirs() {
        let path = dir.join(&name);
        if path.as_os_str().len() > PATH_MAX {
            continue;
        }
        match server::private(&dir) {
            Ok(()) => return Ok(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The socket's name outside the data folder: the same for the same data folder.
fn hashed_name(data_dir: &Path) -> io::Result<String> {
    let whole = std::path::absolute(data_dir)?;
    let whole = whole.canonicalize().unwrap_or(whole);
    let hash = ring::digest::digest(&ring::digest::SHA256, whole.as_os_str().as_bytes());
    let short = &hash.as_ref()[..10];
    Ok(format!("{}.sock", data_encoding::HEXLOWER.encode(short)))
}

#[cfg(test)]
mod tests;
