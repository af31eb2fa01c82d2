//! Who may depend on whom, as ARCHITECTURE.md has it.

use std::collections::BTreeSet;
use std::path::Path;

use consort_tidy::imports::names_under;
use consort_tidy::packages::{self, Package};
use consort_tidy::{assert_none, root, source};

/// Per folder: the crates of this workspace that its crates may build upon. Tests may use more,
/// see [`tests_keep_the_same_direction`].
const MAY_USE: &[(&str, &[&str])] = &[
    ("host/proto", &[]),
    ("host/sim", &["consort-proto"]),
    ("host/plugin-host", &["consort-proto"]),
    (
        "host/daemon",
        &["consort-proto", "consort-plugin-host", "consort-sim"],
    ),
    ("guest-sdk", &[]),
    ("plugins", &["consort-plugin"]),
    ("tests/guests", &["consort-plugin"]),
    (
        "tests/scenarios",
        &["consort-proto", "consort-sim", "consort-plugin-host"],
    ),
    ("tests/fuzz", &["consort-proto"]),
    ("tests/tidy", &[]),
    ("tests/xtask", &[]),
];

/// What must not be in a crate at all, however deep.
const ABSENT: &[(&str, &[&str])] = &[
    (
        "consort-proto",
        &[
            "tokio",
            "mio",
            "socket2",
            "nix",
            "wasmtime",
            "wasmtime-wasi",
            "redb",
            "notify",
            "axum",
        ],
    ),
    (
        "consort-sim",
        &[
            "tokio", "mio", "socket2", "redb", "notify", "axum", "wasmtime",
        ],
    ),
    (
        "consort-plugin",
        &["tokio", "mio", "socket2", "wasmtime", "consort-proto"],
    ),
    (
        "consort-counter",
        &["tokio", "mio", "socket2", "wasmtime", "consort-proto"],
    ),
    (
        "consort-lights",
        &["tokio", "mio", "socket2", "wasmtime", "consort-proto"],
    ),
    (
        "consort-presence",
        &["tokio", "mio", "socket2", "wasmtime", "consort-proto"],
    ),
    (
        "consort-heartbeat",
        &["tokio", "mio", "socket2", "wasmtime", "consort-proto"],
    ),
    (
        "consort-playlist",
        &["tokio", "mio", "socket2", "wasmtime", "consort-proto"],
    ),
];

/// What a crate's manifest must not name.
const NOT_NAMED: &[(&str, &[&str])] = &[
    // The plugin host names tokio for one trait of wasmtime-wasi's output, not for its runtime.
    ("consort-plugin-host", &["mio", "socket2", "redb", "axum"]),
    ("consort-counter", &["wit-bindgen"]),
    ("consort-lights", &["wit-bindgen"]),
    ("consort-presence", &["wit-bindgen"]),
    ("consort-heartbeat", &["wit-bindgen"]),
    ("consort-playlist", &["wit-bindgen"]),
];

/// The machines of the protocol: `node.rs` composes them, none knows another.
const MACHINES: [&str; 8] = [
    "discovery",
    "session",
    "membership",
    "election",
    "messaging",
    "replication",
    "clock",
    "liveness",
];

fn ours(packages: &[Package]) -> BTreeSet<&str> {
    packages
        .iter()
        .map(|package| package.name.as_str())
        .collect()
}

fn package<'a>(packages: &'a [Package], name: &str) -> &'a Package {
    packages
        .iter()
        .find(|p| p.name == name)
        .unwrap_or_else(|| panic!("no package {name}"))
}

#[test]
fn crates_build_only_upon_those_they_may() {
    let packages = packages::all(&root());
    let ours = ours(&packages);
    let mut breaches = Vec::new();
    for (folder, allowed) in MAY_USE {
        let members: Vec<_> = packages
            .iter()
            .filter(|p| p.folder.starts_with(folder))
            .collect();
        assert!(
            !members.is_empty(),
            "the rule for {folder} is about no crate"
        );
        for member in members {
            for dependency in member.dependencies.iter().filter(|d| !d.for_tests) {
                let name = dependency.name.as_str();
                if ours.contains(name) && !allowed.contains(&name) {
                    breaches.push(format!("{} must not use {name}", member.name));
                }
            }
        }
    }
    assert_none(&breaches, "dependency rules of ARCHITECTURE.md");
}

#[test]
fn only_end_to_end_tests_use_the_daemon() {
    let packages = packages::all(&root());
    let users = packages
        .iter()
        .filter(|p| p.dependencies.iter().any(|d| d.name == "consort"));
    let others = users.filter(|p| !p.folder.starts_with("tests/e2e"));
    let breaches: Vec<_> = others
        .map(|p| format!("{} uses the daemon", p.name))
        .collect();
    assert_none(&breaches, "nothing imports the daemon but tests/e2e");
}

#[test]
fn tests_keep_the_same_direction() {
    let packages = packages::all(&root());
    let ours = ours(&packages);
    let mut breaches = Vec::new();
    for member in packages
        .iter()
        .filter(|p| p.folder.starts_with("guest-sdk") || p.folder.starts_with("plugins"))
    {
        for dependency in member.dependencies.iter().filter(|d| d.for_tests) {
            let name = dependency.name.as_str();
            if ours.contains(name) && name != "consort-plugin" {
                breaches.push(format!(
                    "{} must not use {name}, not in tests either",
                    member.name
                ));
            }
        }
    }
    assert_none(
        &breaches,
        "the guest SDK and the plugins know no crate of the host",
    );
}

#[test]
fn what_is_absent_by_design_is_absent() {
    let root = root();
    let mut breaches = Vec::new();
    for (name, absent) in ABSENT {
        let closure = packages::closure(&root, name);
        assert!(closure.contains(*name), "cargo tree shows {name} itself");
        for dependency in absent
            .iter()
            .filter(|dependency| closure.contains(**dependency))
        {
            breaches.push(format!(
                "{name} contains {dependency}: `cargo tree -p {name}` shows how"
            ));
        }
    }
    assert_none(&breaches, "absent by design");
}

#[test]
fn manifests_do_not_name_what_they_must_not() {
    let packages = packages::all(&root());
    let mut breaches = Vec::new();
    for (name, unwanted) in NOT_NAMED {
        let dependencies = &package(&packages, name).dependencies;
        for dependency in dependencies.iter().filter(|d| !d.for_tests) {
            if unwanted.contains(&dependency.name.as_str()) {
                breaches.push(format!("{name} names {}", dependency.name));
            }
        }
    }
    assert_none(&breaches, "absent by design");
}

#[test]
fn the_machines_of_the_protocol_do_not_know_each_other() {
    let sources = source::all(&root());
    let mut breaches = Vec::new();
    let mut seen = 0;
    for machine in MACHINES {
        let folder = Path::new("host/proto/src").join(machine);
        let own = |path: &Path| path.starts_with(&folder) || path == folder.with_extension("rs");
        for source in sources.iter().filter(|source| own(&source.path)) {
            seen += 1;
            let named = names_under("crate", &source.code);
            let siblings = MACHINES.iter().filter(|sibling| **sibling != machine);
            for sibling in siblings.filter(|sibling| named.contains(**sibling)) {
                breaches.push(format!("{} names crate::{sibling}", source.path.display()));
            }
        }
    }
    assert!(seen > 0, "no machine was found");
    assert_none(
        &breaches,
        "sibling machines never import each other, node.rs composes them",
    );
}

#[test]
fn the_plugin_host_knows_the_protocol_s_words_only() {
    let mut breaches = Vec::new();
    for source in source::all(&root()) {
        let here = source.path.starts_with("host/plugin-host/src");
        if here && names_under("consort_proto", &source.code).contains("Node") {
            breaches.push(format!("{} names Node", source.path.display()));
        }
    }
    assert_none(
        &breaches,
        "plugin-host uses ids, commands and events of the protocol, not Node",
    );
}

#[test]
fn every_crate_says_what_it_is() {
    let packages = packages::all(&root());
    let silent = packages
        .iter()
        .filter(|package| package.description.trim().is_empty());
    let breaches: Vec<_> = silent
        .map(|p| {
            format!(
                "{}/Cargo.toml has no description under [package]",
                p.folder.display()
            )
        })
        .collect();
    assert_none(&breaches, "every crate has a description");
}
