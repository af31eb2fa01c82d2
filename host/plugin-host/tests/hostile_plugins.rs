//! Plugins and files made to harm: the host lives, a plugin beside them does not notice, and the log names
//! the cause. That memory stays within its cap is for a process of its own, in `memory.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use common::{
    World, answers, assert_no_errors, beside, device, explore, grant, message, plugin_lines,
    warnings,
};
use consort_plugin_host::{Access, LimitTable, Overlay};
use consort_test_guests::{bombs, fixture};

#[test]
fn a_start_function_that_never_ends() {
    let manifest = "[limits]\nsetup_cpu_ms = 100\n";
    let world = beside("start-good", |world| {
        world.install_bytes("start-bad", &bombs::endless_start(), manifest);
    });
    world.wait_warning("start-bad", "start: it used more than 100 ms of CPU");
    world.wait_state("start-bad", "quarantined");
    answers(&world, "start-good", "hello");
    assert_no_errors();
}

#[test]
fn a_table_counts_as_memory() {
    // 8 bytes an element: the table alone would fill the 2 MiB with 262,144.
    let manifest = "[limits]\nmemory_mib = 2\n";
    let world = beside("table-good", |world| {
        world.install_bytes("table", &bombs::table_hog(262_144), manifest);
        // The same plugin without a limit that tight gets more, so the test tells the two apart.
        world.install_bytes("table-wide", &bombs::table_hog(262_144), "");
    });
    world.wait_state("table", "running");
    // It got all that it wanted, and says so by a trap.
    world.wait_warning(
        "table-wide",
        "setup: it ran out of memory: its limit is 64 MiB",
    );
    answers(&world, "table-good", "hello");
}

#[test]
fn hostile_words_do_not_reach_a_terminal() {
    let world = beside("words-good", |world| {
        let setup = "[config]\nsetup = \"error-long\"\n";
        world.install("words-setup", "hostile", setup);
        world.install("words", "hostile", "");
    });
    world.wait_warning("words-setup", "setup failed: ");
    world.wait_state("words", "running");
    for how in ["panic-long", "long-lines"] {
        world.deliver("words", message(device(2), how));
    }
    world.wait_warning("words", "it trapped");
    world.wait_state("words", "running");
    world.deliver("words", message(device(2), "long-lines"));
    world.wait_line("words", "owned");
    let said = [
        warnings("words-setup"),
        warnings("words"),
        plugin_lines("words"),
    ]
    .concat();
    for line in said {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        assert!(line.len() < 10_000, "{} bytes", line.len());
    }
    answers(&world, "words-good", "hello");
}

#[test]
fn floods_are_refused_and_cost_only_the_plugin() {
    let cases = [
        ("timer-flood", "on-peer-message: it used more than 100 ms"),
        ("huge-key", "fuel"),
        ("loop", "on-peer-message: it used more than 100 ms"),
    ];
    let world = beside("flood-good", |world| {
        for (how, _) in cases {
            world.install(&format!("flood-{how}"), "hostile", "");
        }
        world.install("flood-send", "hostile", "[limits]\ncpu_ms = 10000\n");
    });
    for (how, cause) in cases {
        let id = format!("flood-{how}");
        world.wait_state(&id, "running");
        world.deliver(&id, message(device(2), how));
        answers(&world, "flood-good", how);
        world.wait_warning(&id, cause);
    }
    world.wait_state("flood-send", "running");
    world.deliver("flood-send", message(device(2), "huge-send"));
    world.wait_line("flood-send", "huge-send Err(SendError::TooLarge(65536))");
    world.deliver("flood-send", message(device(2), "message-flood"));
    world.wait_line("flood-send", "message-flood 99");
    answers(&world, "flood-good", "after");
    assert_no_errors();
}

#[test]
fn nothing_of_the_device_can_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let datagrams = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let manifest = format!("[config]\nport = {port}\n[limits]\ncpu_ms = 10000\n");
    let world = beside("reach-good", |world| {
        world.install("reach", "hostile", &manifest);
    });
    world.wait_state("reach", "running");
    world.deliver("reach", message(device(2), "reach"));
    world.wait_line("reach", "still here");
    let lines = plugin_lines("reach");
    assert!(lines.iter().any(|line| line.trim() == "reach"), "{lines:?}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody called");
    datagrams.set_nonblocking(true).unwrap();
    assert!(datagrams.recv(&mut [0; 8]).is_err(), "nothing was sent");
    assert!(!std::path::Path::new("/tmp/consort-plugin-was-here").exists());
}

#[test]
fn folders_are_reached_as_far_as_they_are_granted() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "not for plugins").unwrap();
    let folder = outside.path().join("music");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("song"), "la la").unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("leak")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.join("leak2")).unwrap();
    let wants = "[capabilities.files]\nmusic = \"read-write\"\n";
    let world = beside("files-good", |world| {
        world.install("files-rw", "explorer", wants);
        world.overlay("files-rw", grant("music", &folder, Access::ReadWrite));
        world.install("files-ro", "explorer", wants);
        world.overlay("files-ro", grant("music", &folder, Access::Read));
        world.install("files-no", "explorer", wants);
        world.install("files-unasked", "explorer", "");
        world.overlay("files-unasked", grant("music", &folder, Access::ReadWrite));
    });
    for id in ["files-rw", "files-ro"] {
        assert_eq!(explore(&world, id, "read /music/song"), "la la");
        for order in [
            "read /music/leak",
            "read /music/leak2",
            "read /music/../secret",
            "read /secret",
            "write /music/../written",
            "list /",
        ] {
            let told = explore(&world, id, order);
            assert!(
                !told.contains("plugins") && told != "done",
                "{id} {order}: {told}"
            );
        }
    }
    assert_eq!(explore(&world, "files-rw", "write /music/new"), "done");
    assert_eq!(
        explore(&world, "files-rw", "list /music"),
        "leak,leak2,new,song"
    );
    let text = std::fs::read_to_string(folder.join("new")).unwrap();
    assert_eq!(text, "written by a plugin");
    for order in ["write /music/more", "remove /music/song"] {
        let told = explore(&world, "files-ro", order);
        assert_ne!(told, "done", "{order}");
    }
    assert!(folder.join("song").exists() && !folder.join("more").exists());
    for id in ["files-no", "files-unasked"] {
        let told = explore(&world, id, "read /music/song");
        assert_ne!(told, "la la", "{id}");
    }
    let secret = std::fs::read_to_string(outside.path().join("secret")).unwrap();
    assert_eq!(secret, "not for plugins");
    assert!(!outside.path().join("written").exists());
    for (id, count) in [("files-rw", 0), ("files-ro", 1), ("files-no", 1)] {
        let refused = world.status(id).unwrap().refused_capabilities;
        assert_eq!(refused.len(), count, "{id}: {refused:?}");
    }
}

#[test]
fn handles_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let world = beside("handles-good", |world| {
        let wants = "[capabilities.files]\nhere = \"read\"\n[limits]\ncpu_ms = 10000\n";
        world.install("handles", "explorer", wants);
        world.overlay("handles", grant("here", folder.path(), Access::Read));
    });
    world.wait_state("handles", "running");
    world.deliver("handles", message(device(2), "hoard /here/file"));
    world.wait_warning("handles", "on-peer-message: ");
    let told = warnings("handles").join(" ");
    assert!(
        told.contains("handle") || told.contains("resource table"),
        "{told}"
    );
    answers(&world, "handles-good", "hello");
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(
        open < 500,
        "{open} files are open after the instance was dropped"
    );
}

#[test]
fn the_operators_cap_holds() {
    let world = beside("cap-good", |world| {
        let overlay = Overlay {
            limits: toml_limits("cpu_ms = 20\n"),
            ..Overlay::default()
        };
        world.overlay("capped", overlay);
        world.install("capped", "hostile", "[limits]\ncpu_ms = 10000\n");
    });
    world.wait_state("capped", "running");
    world.deliver("capped", message(device(2), "loop"));
    world.wait_warning("capped", "it used more than 20 ms of CPU");
}

fn toml_limits(text: &str) -> LimitTable {
    toml::from_str(text).unwrap()
}

#[test]
fn a_file_replaced_while_it_is_read_is_never_half_taken() {
    let world = beside("torn-good", |world| {
        world.install("torn", "counter_v1", "");
    });
    world.wait_state("torn", "running");
    let file = world.plugins_dir().join("torn/plugin.wasm");
    let versions = ["counter_v1", "counter_v2"].map(|name| std::fs::read(fixture(name)).unwrap());
    // Pieces, with pauses up to beyond the time that a change must stand still.
    for (round, pause_ms) in [20, 60, 300, 400].into_iter().enumerate() {
        let bytes = &versions[(round + 1) % 2];
        let mut written = Vec::new();
        for piece in bytes.chunks(bytes.len() / 3 + 1) {
            written.extend_from_slice(piece);
            std::fs::write(&file, &written).unwrap();
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
    }
    world.wait_line("torn", "v2: setup");
    common::wait_for("the last content", || {
        let status = world.status("torn").unwrap();
        status.state == "running" && status.generation >= 3
    });
    for warning in warnings("torn") {
        assert!(warning.contains("truncated or damaged"), "{warning}");
    }
    answers(&world, "torn-good", "hello");
    assert_no_errors();
}

#[test]
fn ten_saves_a_second_end_in_the_last() {
    let world = beside("saves-good", |world| {
        world.install("saves", "counter_v1", "");
    });
    world.wait_state("saves", "running");
    let file = world.plugins_dir().join("saves/plugin.wasm");
    let versions = ["counter_v1", "counter_v2"].map(|name| std::fs::read(fixture(name)).unwrap());
    for save in 0..31 {
        let bytes = &versions[save % 2];
        match save % 3 {
            // Truncate and write, as `cp` and most editors do.
            0 => std::fs::write(&file, bytes).unwrap(),
            // Rename over.
            1 => {
                let aside = file.with_extension("new");
                std::fs::write(&aside, bytes).unwrap();
                std::fs::rename(&aside, &file).unwrap();
            }
            // Remove and write.
            _ => {
                std::fs::remove_file(&file).unwrap();
                std::fs::write(&file, bytes).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::write(&file, &versions[1]).unwrap();
    world.wait_line("saves", "v2: setup");
    world.wait_state("saves", "running");
    assert!(
        world.status("saves").unwrap().generation <= 8,
        "most saves are superseded"
    );
    assert!(
        !world.told("saves").iter().any(|what| what == "down"),
        "it stayed loaded"
    );
    answers(&world, "saves-good", "hello");
    assert_no_errors();
}

#[test]
fn a_folder_moved_away_unloads_and_back_loads() {
    let world = beside("moved-good", |world| {
        world.install("moved", "recorder", "");
    });
    world.wait_state("moved", "running");
    let (folder, aside) = (
        world.plugins_dir(),
        world.plugins_dir().with_extension("away"),
    );
    std::fs::rename(&folder, &aside).unwrap();
    common::wait_for("nothing is loaded", || world.host().status().is_empty());
    std::fs::rename(&aside, &folder).unwrap();
    world.wait_state("moved", "running");
    world.wait_state("moved-good", "running");
    let told = world.told("moved");
    let lives: Vec<_> = told.iter().filter(|what| !what.starts_with('[')).collect();
    assert_eq!(lives, ["up 0.1.0", "down", "up 0.1.0"]);
}

#[test]
fn a_changed_config_is_a_reload() {
    let world = beside("config-good", |world| {
        world.install("config", "recorder", "[config]\nvolume = 1\n");
    });
    world.wait_line("config", "setup [volume=1]");
    std::fs::write(
        world.plugins_dir().join("config/plugin.toml"),
        "[config]\nvolume = 2\n",
    )
    .unwrap();
    world.wait_line("config", "setup [volume=2]");
    world.wait_generation("config", 2);
    assert!(!world.told("config").iter().any(|what| what == "down"));
}

#[test]
fn a_trap_says_where_it_was_by_the_plugin_s_function_names() {
    let mut world = World::new();
    world.install("where", "hostile", "");
    world.install_bytes("where-module", &bombs::raw_log(2, u32::MAX - 15, 100), "");
    world.start();
    world.wait_state("where", "running");
    world.deliver("where", message(device(2), "recurse"));
    for (id, function) in [("where", "recurse"), ("where-module", "wild_setup")] {
        common::wait_for(function, || {
            let lines = world.host().log_lines(&common::plugin_id(id), 0);
            let lines = lines.unwrap_or_default();
            lines
                .iter()
                .any(|line| line.by_host && line.text.contains(function))
        });
        let lines = world.host().log_lines(&common::plugin_id(id), 0).unwrap();
        let frames = lines.iter().filter(|line| line.text.starts_with("  at "));
        assert!(frames.count() >= 1);
        // The operator's log has them on the line that tells of the fault, and status with it.
        world.wait_warning(id, "backtrace=");
        let told = warnings(id).concat();
        assert!(told.contains(function), "{told}");
        let shown = world.status(id).unwrap().last_backtrace;
        assert!(
            shown.iter().any(|frame| frame.contains(function)),
            "{shown:?}"
        );
        assert!(shown.len() <= 16, "{shown:?}");
        assert!(
            lines
                .iter()
                .all(|line| !line.text.contains(char::is_control))
        );
    }
}

#[test]
fn wild_numbers_in_a_host_call_cost_the_plugin() {
    // Beyond the memory's end, over the end, over the end of all addresses, gigantic, and no level.
    let cases = [
        (2, u32::MAX - 15, 100),
        (2, 65_000, 1_000),
        (2, u32::MAX, u32::MAX),
        (2, 0, u32::MAX),
        (2, 0, 1 << 31),
        (99, 0, 0),
    ];
    let world = beside("wild-good", |world| {
        for (number, (level, at, bytes)) in cases.into_iter().enumerate() {
            let wasm = bombs::raw_log(level, at, bytes);
            world.install_bytes(&format!("wild-{number}"), &wasm, "");
        }
        world.install_bytes("wild-fine", &bombs::raw_log(2, 0, 8), "");
    });
    world.wait_state("wild-fine", "running");
    for (number, case) in cases.iter().enumerate() {
        let id = format!("wild-{number}");
        world.wait_state(&id, "quarantined");
        let fault = world.status(&id).unwrap().last_fault.unwrap();
        println!("{case:?}: {fault}");
        assert!(fault.starts_with("setup: ") && fault.len() > 20, "{fault}");
        answers(&world, "wild-good", &id);
    }
    assert_no_errors();
}

#[test]
fn a_flood_of_writes_is_refused_and_harms_no_other_plugin_s_state() {
    let world = beside("writes-good", |world| {
        world.install("writes-flood", "stateful", "[limits]\ncpu_ms = 10000\n");
        world.install("writes-beside", "stateful", "");
    });
    for id in ["writes-flood", "writes-beside"] {
        world.wait_state(id, "running");
        world.lead(id, 1);
    }
    world.deliver("writes-beside", message(device(2), "add n 7"));
    world.wait_line("writes-beside", "add Ok(7)");
    for round in 0..5 {
        world.deliver("writes-flood", message(device(2), "flood"));
        answers(&world, "writes-good", &format!("round {round}"));
    }
    // A callback gets so many writes in, and the next one learns that they are too many.
    world.wait_line("writes-flood", "flood ");
    let floods = plugin_lines("writes-flood");
    let accepted = floods.iter().filter_map(|line| line.strip_prefix("flood "));
    for accepted in accepted {
        assert!(accepted.parse::<u32>().unwrap() < 5000, "some were refused");
    }
    world.deliver("writes-beside", message(device(2), "sum n"));
    world.wait_line("writes-beside", "sum 7");
    assert_eq!(world.status("writes-flood").unwrap().state, "running");
    assert_no_errors();
}

#[test]
fn handles_that_nobody_gave_cost_the_plugin() {
    let cases = [
        "ready 12345",
        "ready 0",
        "ready 4294967295",
        "drop 77777",
        "drop-twice",
        "drop-as-another",
    ];
    let world = beside("forged-good", |world| {
        for number in 0..cases.len() {
            world.install(&format!("forged-{number}"), "explorer", "");
        }
        world.install("forged-none", "explorer", "");
    });
    for (number, order) in cases.into_iter().enumerate() {
        let id = format!("forged-{number}");
        world.wait_state(&id, "running");
        world.deliver(&id, message(device(2), order));
        world.wait_warning(&id, "on-peer-message: ");
        let fault = world.status(&id).unwrap().last_fault.unwrap();
        println!("{order}: {fault}");
        assert!(fault.contains("handle"), "{order}: {fault}");
        answers(&world, "forged-good", order);
    }
    // A handle of its own, used as it should be, is none of that.
    assert_eq!(explore(&world, "forged-none", "drop-once"), "done");
    assert_no_errors();
}

/// Brings a content to the plugin's file.
type Save<'a> = &'a dyn Fn(&[u8]);

#[test]
fn every_way_to_save_is_taken_and_an_unchanged_content_is_not() {
    let world = beside("ways-good", |world| {
        world.install("ways", "counter_v1", "");
    });
    world.wait_state("ways", "running");
    let file = world.plugins_dir().join("ways/plugin.wasm");
    let versions = ["counter_v1", "counter_v2"].map(|name| std::fs::read(fixture(name)).unwrap());
    let aside = world.plugins_dir().with_extension("aside");
    let save: [Save<'_>; 4] = [
        // Truncate and write.
        &|bytes| std::fs::write(&file, bytes).unwrap(),
        // Write beside and rename over.
        &|bytes| {
            std::fs::write(&aside, bytes).unwrap();
            std::fs::rename(&aside, &file).unwrap();
        },
        // `cp`.
        &|bytes| {
            std::fs::write(&aside, bytes).unwrap();
            let copied = std::process::Command::new("cp")
                .arg(&aside)
                .arg(&file)
                .status();
            assert!(copied.unwrap().success());
        },
        // Remove, and write a little later.
        &|bytes| {
            std::fs::remove_file(&file).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            std::fs::write(&file, bytes).unwrap();
        },
    ];
    for (round, save) in save.into_iter().enumerate() {
        save(&versions[(round + 1) % 2]);
        world.wait_generation("ways", round as u64 + 2);
        world.wait_state("ways", "running");
        // The same content once more is no change.
        save(&versions[(round + 1) % 2]);
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(world.status("ways").unwrap().generation, round as u64 + 2);
    }
    let told = world.told("ways");
    assert!(!told.iter().any(|what| what == "down"), "{told:?}");
    assert!(warnings("ways").is_empty(), "{:?}", warnings("ways"));
    answers(&world, "ways-good", "hello");
    assert_no_errors();
}
