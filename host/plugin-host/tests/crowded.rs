//! Plugins of very many parts: within what is allowed they run, beyond it their file is refused with
//! the reason, and the host and a plugin beside them go on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{answers, assert_no_errors, beside, warnings};
use consort_test_guests::{bombs, fixture};
use wasmparser::{Instance, Parser, Payload};

/// Core instances, memories and tables of a component, each of whose modules is instantiated once.
fn core_items(component: &[u8]) -> [u32; 3] {
    let mut items = [0; 3];
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::InstanceSection(section) => {
                let made = section.into_iter().map(Result::unwrap);
                let made = made.filter(|item| matches!(item, Instance::Instantiate { .. }));
                items[0] += u32::try_from(made.count()).unwrap();
            }
            Payload::MemorySection(section) => items[1] += section.count(),
            Payload::TableSection(section) => items[2] += section.count(),
            _ => {}
        }
    }
    items
}

#[test]
fn core_instances_memories_and_tables_are_counted() {
    const MAX: u32 = 64;
    let plain = std::fs::read(fixture("minimal")).unwrap();
    let [instances, memories, tables] = core_items(&plain);
    assert!(instances > 0 && memories > 0, "{:?}", core_items(&plain));
    let kinds = ["instance", "memory", "table"];
    let world = beside("items-good", |world| {
        for (over, how) in [(0, "fits"), (1, "over")] {
            let most = MAX + over;
            let crowds = [
                bombs::with_core_items(&plain, most - instances, 0, 0),
                bombs::with_core_items(&plain, 1, most - memories, 0),
                bombs::with_core_items(&plain, 1, 0, most - tables),
            ];
            for (place, (kind, crowd)) in kinds.iter().zip(crowds).enumerate() {
                assert_eq!(core_items(&crowd)[place], most);
                world.install_bytes(&format!("items-{kind}-{how}"), &crowd, "");
            }
        }
    });
    for kind in kinds {
        world.wait_state(&format!("items-{kind}-fits"), "running");
        let over = format!("items-{kind}-over");
        world.wait_state(&over, "rejected");
        let why = world.status(&over).unwrap().last_fault.unwrap();
        println!("{why}");
        let words = [
            "may have 64 each of core instances, memories and tables",
            &format!("{kind} count too high at 65"),
        ];
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        assert!(warnings(&over)[0].contains(words[0]), "the log says it too");
    }
    answers(&world, "items-good", "hello");
    assert_no_errors();
}

#[test]
fn thousands_of_functions_run_and_too_many_are_refused() {
    let world = beside("functions-good", |world| {
        world.install_bytes("functions", &bombs::busy_crowd(20_000), "");
        world.install_bytes("functions-over", &bombs::busy_crowd(1_000_001), "");
    });
    world.wait_state("functions", "running");
    world.wait_line("functions", bombs::ALL_WERE_CALLED);
    assert_eq!(world.status("functions").unwrap().last_fault, None);
    world.wait_state("functions-over", "rejected");
    let why = world.status("functions-over").unwrap().last_fault.unwrap();
    println!("{why}");
    assert!(
        why.contains("functions") && why.contains("1000000"),
        "{why}"
    );
    answers(&world, "functions-good", "hello");
    assert_no_errors();
}
