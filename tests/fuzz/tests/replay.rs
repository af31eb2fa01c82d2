//! Every input that is kept, as an ordinary test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use consort_fuzz::{TARGETS, takes_config, takes_manifest, target};
use consort_proto::fuzz::{kinds, known_kinds};

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

/// What a change of the form of a message, of a setting or of a manifest has made worthless is to be
/// replaced.
#[test]
fn messages_of_every_kind_are_kept() {
    let kept = inputs("messages");
    let kept: BTreeSet<u8> = kept.iter().flat_map(|(_, bytes)| kinds(bytes)).collect();
    assert_eq!(
        kept,
        known_kinds(),
        "what is kept and read, and what there is"
    );
}

#[test]
fn each_setting_is_in_a_file_that_is_taken() {
    let template = include_str!("../../../host/daemon/src/config/default.toml");
    let lines = template.lines().map(|line| line.trim_start_matches('#'));
    let keys: BTreeSet<&str> = lines.filter_map(key).collect();
    assert!(keys.len() > 30, "{keys:?}");
    assert_kept(&keys, &taken("config", takes_config));
}

#[test]
fn each_key_of_a_manifest_is_in_one_that_is_taken() {
    let manual = include_str!("../../../docs/plugins.md");
    let part = |from: &str, to: &str| {
        let (_, part) = manual.split_once(from).expect("a heading");
        part.split_once(to).expect("an end").0
    };
    let example = part("```toml\n", "```").lines().filter_map(key);
    let limits = part("## Limits\n", "The operator's").lines();
    let limits = limits.filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let limits = limits.flat_map(|(names, _)| names.split(", "));
    let keys: BTreeSet<&str> = example
        .chain(limits.map(|name| name.trim_matches('`')))
        .collect();
    assert!(keys.len() > 15, "{keys:?}");
    assert_kept(&keys, &taken("manifest", takes_manifest));
}

/// The key that a line of TOML sets.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
    key.trim_end().chars().all(is_plain).then(|| key.trim_end())
}

/// The texts that are kept and without mistakes.
fn taken(name: &str, is_taken: fn(&[u8]) -> bool) -> String {
    let kept = inputs(name).into_iter().map(|(_, bytes)| bytes);
    let texts = kept.filter(|bytes| is_taken(bytes));
    texts
        .map(|bytes| String::from_utf8(bytes).expect("a text") + "\n")
        .collect()
}

fn assert_kept(keys: &BTreeSet<&str>, texts: &str) {
    let kept: BTreeSet<&str> = texts.lines().filter_map(key).collect();
    let missing: Vec<_> = keys.difference(&kept).collect();
    assert!(missing.is_empty(), "kept nowhere: {missing:?}");
}
