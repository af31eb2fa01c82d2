//! Readers for the tests that hold the structure of this workspace.
//!
//! The rules are in `tests/`: who may depend on whom, how long files and functions may be, what
//! source text must not contain, where links must lead. Here is what they read: [`packages`] as
//! cargo sees them, [`source`] files with comments and texts blanked out, [`functions`] and
//! [`imports`] in them, [`links`] in Markdown. The readers are small approximations that rely on
//! rustfmt's layout; what they take for a function or a path is shown by their own tests.

#![forbid(unsafe_code)]

pub mod bindings;
pub mod functions;
pub mod imports;
pub mod links;
pub mod packages;
pub mod source;

use std::path::{Path, PathBuf};

/// The workspace's folder.
#[must_use]
pub fn root() -> PathBuf {
    // Asked for at run time, since a shared build folder may hold a binary of another checkout.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let root = Path::new(&folder)
        .ancestors()
        .nth(2)
        .expect("this crate is in tests/tidy");
    root.to_owned()
}

/// Fails with one line per breach of a rule, so that all are seen at once.
///
/// # Panics
/// There is a breach.
#[track_caller]
pub fn assert_none(breaches: &[String], rule: &str) {
    assert!(
        breaches.is_empty(),
        "{rule}:\n  {}\n",
        breaches.join("\n  ")
    );
}
