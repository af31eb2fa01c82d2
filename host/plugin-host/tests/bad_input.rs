//! Files that are no plugins, and plugins that misbehave: each gives one clear warning that names
//! the cause, and a plugin beside it goes on undisturbed.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, assert_no_errors, device, message, this_device, warnings};
use consort_proto::PluginEvent;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Installs `wasm` beside a good plugin and expects the good one to work, the bad one to be in
/// `state` and to have been warned about with `cause`.
#[track_caller]
fn expect(id: &str, wasm: &[u8], manifest: &str, state: &str, cause: &str) {
    let mut world = World::new();
    let good = format!("{id}-good");
    world.install_bytes(id, wasm, manifest);
    world.install(&good, "recorder", "");
    world.start();
    world.wait_warning(id, cause);
    world.wait_state(&good, "running");
    world.deliver(&good, message(device(2), "hello"));
    world.wait_line(&good, "on-peer-message hello");
    assert!(warnings(&good).is_empty(), "{:?}", warnings(&good));
    world.wait_state(id, state);
    let file = warnings(id)[0].contains("plugin.wasm") || warnings(id)[0].contains("plugin.toml");
    assert!(file, "the warning names the file: {:?}", warnings(id));
    assert_no_errors();
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(consort_test_guests::fixture(name)).unwrap()
}

#[test]
fn an_empty_file() {
    expect("empty", b"", "", "rejected", "the file is empty");
}

#[test]
fn a_file_that_is_no_wasm() {
    expect(
        "text",
        b"#!/bin/sh\n",
        "",
        "rejected",
        "the file is no WebAssembly",
    );
    let mut random = vec![0_u8; 4096];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for byte in &mut random {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    expect(
        "noise",
        &random,
        "",
        "rejected",
        "the file is no WebAssembly",
    );
    let noise_after_header = [b"\0asm\x0d\0\x01\0", random.as_slice()].concat();
    expect(
        "headed",
        &noise_after_header,
        "",
        "rejected",
        "truncated or damaged",
    );
}

#[test]
fn a_truncated_file() {
    let whole = fixture("recorder");
    for (id, length) in [("cut-4", 4), ("cut-9", 9), ("cut-half", whole.len() / 2)] {
        expect(id, &whole[..length], "", "rejected", "truncated or damaged");
    }
    let module = std::fs::read(consort_test_guests::fixture_module("recorder")).unwrap();
    expect(
        "cut-mod",
        &module[..module.len() / 3],
        "",
        "rejected",
        "truncated or damaged",
    );
}

#[test]
fn a_component_for_another_world() {
    let cause = "the component is for another world";
    expect("other", &fixture("other_world"), "", "rejected", cause);
    expect(
        "other-brew",
        &fixture("other_world"),
        "",
        "rejected",
        "the function brew",
    );
}

#[test]
fn a_component_with_an_unknown_import() {
    let cause = "asks for what this host does not offer";
    expect("travel", &fixture("unknown_import"), "", "rejected", cause);
    expect(
        "travel-name",
        &fixture("unknown_import"),
        "",
        "rejected",
        "consort:plugin/teleport",
    );
}

#[test]
fn a_module_for_another_world() {
    let module = b"\0asm\x01\0\0\0";
    let cause = "does not fit the world consort:plugin/plugin@0.1.0";
    expect("hollow", module, "", "rejected", cause);
}

/// The types of core WebAssembly.
const I32: u8 = 0x7f;
const I64: u8 = 0x7e;

/// A function of a core module: its name, parameters and results.
type Function<'a> = (&'a str, &'a [u8], &'a [u8]);

const SETUP: Function<'_> = ("lifecycle@0.1.0#setup", &[], &[I32]);
const SHUTDOWN: Function<'_> = ("lifecycle@0.1.0#shutdown", &[I32], &[]);

/// The interface that no plugin is without, as the contract has it.
const LIFECYCLE: &str = "interface lifecycle {
    setup: func() -> result<_, string>;
    enum reason { stop, reload, remove }
    shutdown: func(reason: reason);
}";

/// A plugin that exports `interfaces` by these functions, none of which does anything: a core module
/// that carries its component type (WebAssembly core specification 3.0, section 5.5).
fn exporting(interfaces: &[(&str, &str)], functions: &[Function<'_>]) -> Vec<u8> {
    fn sized(bytes: &mut Vec<u8>, content: &[u8]) {
        assert!(content.len() < 1 << 14, "two bytes of length are enough");
        bytes.push(0x80 | (content.len() & 0x7f) as u8);
        bytes.push((content.len() >> 7) as u8);
        bytes.extend(content);
    }
    let count = functions.len() as u8;
    let [mut types, mut indices, mut code] = [vec![count], vec![count], vec![count]];
    // The memory is exported first.
    let mut exports = vec![count + 1];
    sized(&mut exports, b"memory");
    exports.extend([2, 0]);
    for (index, (name, parameters, results)) in functions.iter().enumerate() {
        types.extend([0x60, parameters.len() as u8]);
        types.extend(*parameters);
        types.push(results.len() as u8);
        types.extend(*results);
        indices.push(index as u8);
        sized(&mut exports, format!("consort:plugin/{name}").as_bytes());
        exports.extend([0, index as u8]);
        // A result lies at address 0, which holds zeros: fine.
        let body: &[u8] = if results.is_empty() {
            &[0, 0x0b]
        } else {
            &[0, 0x41, 0, 0x0b]
        };
        sized(&mut code, body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [
        (1, types),
        (3, indices),
        (5, vec![1, 0, 1]),
        (7, exports),
        (10, code),
    ] {
        module.push(id);
        sized(&mut module, &content);
    }
    let texts: String = interfaces.iter().map(|(_, text)| *text).collect();
    let names = interfaces.iter().map(|(name, _)| format!("export {name};"));
    let world = format!("world plugin {{ {} }}", names.collect::<String>());
    let mut resolve = Resolve::default();
    let wit = format!("package consort:plugin@0.1.0;\n{texts}\n{world}");
    let package = resolve.push_str("odd.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

#[test]
fn an_interface_is_exported_whole_and_well_typed_or_not_at_all() {
    let remedy = "export the whole of it as consort:plugin@0.1.0 has it, or leave it out";
    let lifecycle = ("lifecycle", LIFECYCLE);
    let whole = exporting(&[lifecycle], &[SETUP, SHUTDOWN]);
    let mut world = World::new();
    world.install_bytes("whole", &whole, "");
    world.start();
    world.wait_state("whole", "running");

    let partial = ("role", "interface role { demote-leader: func(); }");
    let demotion = ("role@0.1.0#demote-leader", &[][..], &[][..]);
    let wasm = exporting(&[lifecycle, partial], &[SETUP, SHUTDOWN, demotion]);
    let missing = "consort:plugin/role@0.1.0` does not have export `promote-leader`";
    expect(
        "partial",
        &wasm,
        "",
        "rejected",
        &format!("{missing}; {remedy}"),
    );

    let partial = (
        "lifecycle",
        "interface lifecycle { setup: func() -> result<_, string>; }",
    );
    let missing = "consort:plugin/lifecycle@0.1.0` does not have export `shutdown`";
    let wasm = exporting(&[partial], &[SETUP]);
    expect(
        "no-shutdown",
        &wasm,
        "",
        "rejected",
        &format!("{missing}; {remedy}"),
    );

    let save = (
        "handover",
        "interface handover { save: func() -> list<u8>; }",
    );
    let wasm = exporting(
        &[lifecycle, save],
        &[SETUP, SHUTDOWN, ("handover@0.1.0#save", &[], &[I32])],
    );
    let missing = "consort:plugin/handover@0.1.0` does not have export `restore`";
    expect(
        "no-restore",
        &wasm,
        "",
        "rejected",
        &format!("{missing}; {remedy}"),
    );

    for (id, parameters, types, cause) in [
        ("one-parameter", "token: u64", &[I64][..], "parameters"),
        (
            "other-parameter",
            "token: u64, due: u32",
            &[I64, I32][..],
            "parameters",
        ),
    ] {
        let text = format!("interface timers {{ on-timer: func({parameters}); }}");
        let on_timer = ("timers@0.1.0#on-timer", types, &[][..]);
        let wasm = exporting(
            &[lifecycle, ("timers", &text)],
            &[SETUP, SHUTDOWN, on_timer],
        );
        let typed =
            "a function of the exported interface consort:plugin/timers@0.1.0 has another type";
        expect(id, &wasm, "", "rejected", typed);
        let warning = warnings(id).remove(0);
        let parts = [
            "build the plugin against the wit/ of api 0.1",
            "type mismatch with",
            cause,
        ];
        for part in parts {
            assert!(warning.contains(part), "{part:?} in {warning}");
        }
    }
    let text = "interface timers { on-timer: func(token: u64, due: u64) -> u32; }";
    let on_timer = ("timers@0.1.0#on-timer", &[I64, I64][..], &[I32][..]);
    let wasm = exporting(&[lifecycle, ("timers", text)], &[SETUP, SHUTDOWN, on_timer]);
    expect(
        "a-result",
        &wasm,
        "",
        "rejected",
        "type mismatch with results",
    );
}

/// A section of a module, or of a component.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let (length, more) = (content.len() % 128, content.len() / 128);
    // An unsigned LEB128 number of two bytes.
    let length = [
        u8::try_from(length).unwrap() | 0x80,
        u8::try_from(more).unwrap(),
    ];
    [&[id], length.as_slice(), content].concat()
}

/// A module with `lifecycle`, one memory, and one function more. It is as small as a plugin can be, unless
/// one of its parts is off: a type `(struct)` of its own if `types` has it, a memory of type `memory`, and
/// `body` in the function.
fn module(types: &[u8], memory: &[u8], body: &[u8]) -> Vec<u8> {
    let name = |name: &str| [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    let lifecycle = "consort:plugin/lifecycle@0.1.0#";
    let exports = [
        &[3][..],
        &name(&format!("{lifecycle}setup")),
        &[0, 0],
        &name(&format!("{lifecycle}shutdown")),
        &[0, 1],
        &name("memory"),
        &[2, 0],
    ];
    // Functions of type () -> i32, (i32) -> () and () -> ().
    let signatures = [0x60, 0, 1, 0x7f, 0x60, 1, 0x7f, 0, 0x60, 0, 0];
    let count = 3 + u8::from(!types.is_empty());
    let length = u8::try_from(body.len() + 2).unwrap();
    let code = [
        &[3, 4, 0, 0x41, 0, 0x0b, 2, 0, 0x0b, length, 0],
        body,
        &[0x0b],
    ];
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[&[count], signatures.as_slice(), types].concat()),
        section(3, &[3, 0, 1, 2]),
        section(5, &[&[1], memory].concat()),
        section(7, &exports.concat()),
        section(10, &code.concat()),
    ]
    .concat()
}

/// A plugin's name, the types, memory and body of its module, and what the feature is called.
type Feature<'a> = (&'a str, &'a [u8], &'a [u8], &'a [u8], &'a str);

#[test]
fn features_of_webassembly_that_are_off() {
    const MEMORY: &[u8] = &[0, 1];
    let vectors = [0xfd, 0x0c].into_iter().chain([0; 16]);
    let two_vectors: Vec<u8> = vectors.clone().chain(vectors).collect();
    let relaxed = [&two_vectors, [0xfd, 0x80, 0x02, 0x1a].as_slice()].concat();
    let wide = [0x42, 0, 0x42, 0, 0x42, 0, 0x42, 0, 0xfc, 0x13, 0x1a, 0x1a];
    let features: [Feature<'_>; 8] = [
        ("memory64", &[], &[4, 1], &[], "memory64"),
        ("pages", &[], &[8, 1, 0], &[], "custom page sizes"),
        ("shared", &[], &[3, 1, 1], &[], "threads"),
        ("atomics", &[], MEMORY, &[0xfe, 3, 0], "threads"),
        ("tails", &[], MEMORY, &[0x12, 2], "tail calls"),
        ("relaxed", &[], MEMORY, &relaxed, "relaxed SIMD"),
        ("wide", &[], MEMORY, &wide, "wide arithmetic"),
        ("gc", &[0x5f, 0], MEMORY, &[0xfb, 1, 3, 0x1a], "gc"),
    ];
    for (id, types, memory, body, named) in features {
        let module = module(types, memory, body);
        let component = [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat();
        for (kind, file) in [("module", module), ("component", component)] {
            let id = format!("{kind}-{id}");
            expect(&id, &file, "", "rejected", named);
            let warning = &warnings(&id)[0];
            assert!(warning.contains("build it without"), "{warning}");
        }
    }
    // It is for these features that they are refused.
    let mut world = World::new();
    world.install_bytes("module-plain", &module(&[], MEMORY, &[]), "");
    world.start();
    world.wait_state("module-plain", "running");
}

#[test]
fn a_file_that_is_too_large() {
    let large = [b"\0asm".as_slice(), &vec![0; 33 << 20]].concat();
    expect(
        "large",
        &large,
        "",
        "rejected",
        "more than the limit of 32 MiB",
    );
}

#[test]
fn precompiled_code() {
    let engine = wasmtime::Engine::default();
    let compiled = engine.precompile_component(&fixture("minimal")).unwrap();
    expect("native", &compiled, "", "rejected", "precompiled code");
}

#[test]
fn a_bad_manifest() {
    let wasm = fixture("minimal");
    expect(
        "typo",
        &wasm,
        "verison = \"1.0.0\"\n",
        "rejected",
        "plugin.toml:1: verison: unknown",
    );
    expect(
        "alien",
        &wasm,
        "\nid = \"x\"\n",
        "rejected",
        "plugin.toml:2: id: ",
    );
}

#[test]
fn a_setup_that_fails() {
    let manifest = "[config]\nsetup = \"error\"\n";
    let cause = "setup failed: the amplifier is missing";
    expect("refuser", &fixture("hostile"), manifest, "rejected", cause);
}

#[test]
fn a_setup_that_loops() {
    let manifest = "[config]\nsetup = \"loop\"\n[limits]\nsetup_cpu_ms = 200\n";
    let cause = "setup: it used more than 200 ms of CPU";
    expect(
        "looper",
        &fixture("hostile"),
        manifest,
        "quarantined",
        cause,
    );
}

#[test]
fn a_plugin_larger_than_its_memory() {
    let manifest = "[limits]\nmemory_mib = 1\n";
    expect("giant", &fixture("hostile"), manifest, "rejected", "memory");
}

#[test]
fn a_plugin_that_misbehaves_in_a_callback() {
    for (how, cause) in [
        ("loop", "on-peer-message: it used more than 100 ms of CPU"),
        (
            "alloc",
            "on-peer-message: it ran out of memory: its limit is 64 MiB",
        ),
        ("trap", "on-peer-message: it trapped"),
        ("sleep", "use clock.wake-at"),
    ] {
        let mut world = World::new();
        let (bad, good) = (format!("bad-{how}"), format!("beside-{how}"));
        // Filling its memory must not take more time than it has, on a machine however slow.
        let patient = "[limits]\ncpu_ms = 10000\n";
        world.install(&bad, "hostile", if how == "alloc" { patient } else { "" });
        world.install(&good, "recorder", "");
        world.start();
        world.wait_state(&bad, "running");
        world.wait_state(&good, "running");
        world.deliver(&bad, message(device(2), how));
        world.wait_warning(&bad, cause);
        world.deliver(&good, message(device(2), "hello"));
        world.wait_line(&good, "on-peer-message hello");
        world.wait_state(&bad, "running");
        world.deliver(&bad, message(device(2), ""));
        world.wait_line(&bad, "still here");
        assert!(warnings(&good).is_empty(), "{:?}", warnings(&good));
    }
    assert_no_errors();
}

#[test]
fn files_with_impossible_names_are_passed_over() {
    let mut world = World::new();
    world.install("named", "minimal", "");
    std::fs::write(world.plugins_dir().join("Not An Id.wasm"), b"x").unwrap();
    std::fs::write(world.plugins_dir().join("notes.txt"), b"x").unwrap();
    world.start();
    world.wait_state("named", "running");
    world.deliver("named", PluginEvent::PeerAdded(this_device()));
    common::wait_for("a warning", || {
        common::warnings_with("is no plugin id") == 1
    });
    assert_eq!(world.host().status().len(), 1);
}

#[test]
fn what_is_put_back_after_its_removal_is_named_again() {
    let mut world = World::new();
    std::fs::create_dir_all(world.plugins_dir()).unwrap();
    let file = world.plugins_dir().join("put-back.cwasm");
    world.start();
    for times in 1..=2 {
        std::fs::write(&file, "native code").unwrap();
        common::wait_for("it is named", || {
            common::warnings_with("put-back.cwasm") >= times
        });
        // Looked at again while it is there, it is not named again.
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!(common::warnings_with("put-back.cwasm"), times);
        std::fs::remove_file(&file).unwrap();
        std::thread::sleep(Duration::from_millis(2_500));
    }
}
