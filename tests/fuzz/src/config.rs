//! The configuration file, read by the daemon's own source without the daemon, which would bring
//! wasmtime along.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "the daemon uses the rest, and hands it on"
)]

#[path = "../../../host/daemon/src/config/file.rs"]
mod file;
#[path = "../../../host/daemon/src/config/key.rs"]
mod key;
#[path = "../../../host/daemon/src/config/kinds.rs"]
mod kinds;

/// The plugin host's own words, read from its sources too.
mod plugin {
    pub(super) use crate::capabilities::{Access, FOLDERS_MAX, is_folder_name};
    pub(super) use crate::limit_table::LimitTable;
    pub(super) use crate::state_table::StateTable;
}

/// Reads a file. What is taken as a text is taken as a table too, and a mistake has a line within
/// the text. Returns whether it was taken.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    match file::parse(text) {
        Ok(parsed) => {
            let checked = file::check(parsed.table);
            assert!(checked.is_ok(), "taken and then refused: {checked:?}");
            true
        }
        Err(mistake) => {
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
            assert!(mistake.line.is_none_or(|line| line <= lines), "{mistake:?}");
            assert!(!mistake.what.is_empty(), "a mistake is named");
            false
        }
    }
}
