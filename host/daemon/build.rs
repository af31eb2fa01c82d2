//! Embeds the guest SDKs, so that `consort plugin new` writes projects that need no download of
//! ours: every text under `guest-sdk` becomes a pair of path and content.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Not part of a project.
const LEFT_OUT: [&str; 4] = ["example", "tests", "node_modules", "__pycache__"];

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let root = manifest.join("../../guest-sdk");
    println!("cargo:rerun-if-changed={}", root.display());
    println!(
        "cargo:rerun-if-changed={}",
        manifest.join("../../wit").display()
    );
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let path = file.strip_prefix(&root).expect("below the root");
        writeln!(
            list,
            "({path:?}, include_str!({:?})),",
            file.canonicalize()?
        )
        .expect("a string takes everything");
    }
    list.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("guest_sdks.rs"), list)
}

/// All files below a folder; links to folders are followed.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or(".");
        if LEFT_OUT.contains(&name) || (name.starts_with('.') && name != ".gitignore") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
