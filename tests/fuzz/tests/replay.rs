//! Every input that is kept, as an ordinary test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use consort_fuzz::{TARGETS, target};

/// What is kept is small: it is here to be run by everyone, every time.
const FILES_MAX: usize = 64;
const BYTES_MAX: usize = 96 << 10;

fn corpus() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&folder).join("corpus")
}

/// The inputs of a target, by name.
fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus().join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("readable");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

fn replay(name: &str) {
    let (_, run) = target(name).expect("a target");
    let inputs = inputs(name);
    let bytes: usize = inputs.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(!inputs.is_empty(), "there are inputs for {name}");
    assert!(
        inputs.len() <= FILES_MAX && bytes <= BYTES_MAX,
        "{bytes} bytes are much"
    );
    let began = Instant::now();
    for (path, bytes) in &inputs {
        // Shown if the next line panics.
        println!("{}", path.display());
        run(bytes);
    }
    run(&[]);
    println!("{name}: {} inputs in {:?}", inputs.len(), began.elapsed());
}

#[test]
fn beacon() {
    replay("beacon");
}

#[test]
fn handshake() {
    replay("handshake");
}

#[test]
fn data() {
    replay("data");
}

#[test]
fn messages() {
    replay("messages");
}

#[test]
fn state() {
    replay("state");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn manifest() {
    replay("manifest");
}

#[test]
fn node() {
    replay("node");
}

#[test]
fn each_folder_is_a_target_s() {
    let entries = fs::read_dir(corpus()).expect("readable");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("plain");
    let mut folders: Vec<String> = entries.map(|e| name(e.expect("readable"))).collect();
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    folders.sort();
    names.sort();
    assert_eq!(folders, names);
}
