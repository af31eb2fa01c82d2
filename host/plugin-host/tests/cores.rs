//! Cores of plugins that trap: they are there where somebody asked for them, debuggers can read
//! them, and they are bounded.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::{World, assert_no_errors, device, message, this_device, warnings};
use consort_proto::PluginEvent;
use wasmparser::{KnownCustom, Parser, Payload};

/// A world that keeps cores in `folder`, with the hostile plugin under these ids.
fn world(folder: &Path, ids: &[&str], manifest: &str) -> World {
    let mut world = World::new();
    world.cores_dir = Some(folder.to_owned());
    for id in ids {
        world.install(id, "hostile", manifest);
    }
    world.start();
    for id in ids {
        world.wait_state(id, "running");
    }
    world
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// What a debugger finds in a core.
#[derive(Debug, Default)]
struct Core {
    program: String,
    modules: usize,
    instances: usize,
    frames: usize,
    memory_pages: u64,
    memory_bytes: usize,
}

impl Core {
    fn parse(bytes: &[u8]) -> Self {
        let mut core = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.unwrap() {
                Payload::CustomSection(section) => match section.as_known() {
                    KnownCustom::CoreDump(found) => core.program = found.name.to_owned(),
                    KnownCustom::CoreDumpModules(found) => core.modules = found.modules.len(),
                    KnownCustom::CoreDumpInstances(found) => core.instances = found.instances.len(),
                    KnownCustom::CoreDumpStack(found) => core.frames = found.frames.len(),
                    _ => {}
                },
                Payload::MemorySection(section) => {
                    let memories = section.into_iter().map(|memory| memory.unwrap().initial);
                    core.memory_pages = memories.sum();
                }
                Payload::DataSection(section) => {
                    let data = section.into_iter().map(|data| data.unwrap().data.len());
                    core.memory_bytes = data.sum();
                }
                _ => {}
            }
        }
        core
    }
}

#[test]
fn a_trap_leaves_a_core_that_a_debugger_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let cores = folder.path().join("cores");
    let world = world(&cores, &["core"], "");
    let told = || {
        let said = warnings("core").into_iter();
        said.filter(|line| line.contains("its core"))
            .collect::<Vec<_>>()
    };
    for (number, how) in ["trap", "recurse", "loop"].into_iter().enumerate() {
        world.wait_state("core", "running");
        world.deliver("core", message(device(2), how));
        world.wait_state("core", "back-off");
        assert_eq!(told().len(), number + 1, "{how}: {:?}", told());
        let told = told().pop().unwrap();
        let (_, path) = told.split_once("its core is in ").expect("it is kept");
        let path = Path::new(path.trim_end());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("core.here."), "{name}");
        let core = Core::parse(&std::fs::read(path).unwrap());
        println!("{how}: {core:?}");
        assert_eq!(core.program, "core");
        assert!(core.modules > 0 && core.instances > 0, "{core:?}");
        assert!(core.frames > 1, "{core:?}");
        assert!(
            core.memory_pages > 0 && core.memory_bytes > 1000,
            "{core:?}"
        );
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mode = std::fs::metadata(&cores).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // Those who ask find it beside the backtrace.
    let lines = world
        .host()
        .log_lines(&common::plugin_id("core"), 0)
        .unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.text.contains("its core is in "))
    );
    assert_no_errors();
}

#[test]
fn cores_are_bounded_in_number() {
    let folder = tempfile::tempdir().unwrap();
    let ids = ["many-1", "many-2", "many-3", "many-4"];
    let world = world(folder.path(), &ids, "[config]\nalways = \"trap\"\n");
    for id in ids {
        world.deliver(id, PluginEvent::PeerAdded(this_device()));
    }
    for id in ids {
        world.wait_state(id, "quarantined");
    }
    assert_eq!(files(folder.path()).len(), 16);
    let all = ids.map(warnings).concat();
    let refused = all
        .iter()
        .filter(|line| line.contains("16 cores are kept already"));
    assert_eq!(refused.count(), 4, "of twenty faults");
}

#[test]
fn nobody_asked_so_nothing_is_kept() {
    let mut world = World::new();
    world.install("plain", "hostile", "");
    world.start();
    world.wait_state("plain", "running");
    world.deliver("plain", message(device(2), "trap"));
    world.wait_warning("plain", "it trapped");
    world.wait_state("plain", "running");
    assert!(!warnings("plain").concat().contains("its core"));
}
