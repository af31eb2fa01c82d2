//! The capability `local`: what a plugin publishes to the programs on its device, and what they ask.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{
    World, assert_no_errors, device, message, plugin_id, plugin_lines, wait_for, warnings,
};
use consort_plugin_host::{
    Granted, HostEvent, LOCAL_PAYLOAD_MAX, LOCAL_REQUESTS_MAX, LocalAnswer, LocalRequest,
    LocalRequestError, Overlay,
};

const ASKS: &str = "[capabilities]\nlocal = true\n";

/// A world with a plugin that is granted the capability.
fn with_local(id: &str, fixture: &str) -> World {
    let mut world = World::new();
    world.install(id, fixture, ASKS);
    grant(&mut world, id);
    world.start();
    world.wait_state(id, "running");
    world
}

fn grant(world: &mut World, id: &str) {
    let capabilities = Granted {
        local: true,
        files: BTreeMap::new(),
    };
    world.overlay(
        id,
        Overlay {
            capabilities,
            ..Overlay::default()
        },
    );
}

/// Asks, and gives where the answer will come.
fn ask(
    world: &World,
    id: &str,
    topic: &str,
    payload: &[u8],
) -> Result<mpsc::Receiver<LocalAnswer>, LocalRequestError> {
    let (answer, answered) = mpsc::channel();
    let request = LocalRequest::new(
        topic.to_owned(),
        Bytes::copy_from_slice(payload),
        Instant::now() + common::PATIENCE,
        move |result| answer.send(result).unwrap(),
    )?;
    world.host().local_request(&plugin_id(id), request)?;
    Ok(answered)
}

/// Asks and waits for the answer; none if the plugin was unloaded.
fn answer(world: &World, id: &str, topic: &str, payload: &[u8]) -> Option<LocalAnswer> {
    let answered = ask(world, id, topic, payload).unwrap();
    answered.recv_timeout(common::PATIENCE).ok()
}

/// What was published, as topic, length and whether it is retained.
fn published(world: &World, id: &str) -> Vec<(String, usize, bool)> {
    let about = world
        .events(id)
        .into_iter()
        .filter_map(|event| match event {
            HostEvent::Published { messages, .. } => Some(messages),
            _ => None,
        });
    let short = about.flatten();
    short
        .map(|message| (message.topic, message.payload.len(), message.retain))
        .collect()
}

#[test]
fn requests_are_answered_and_messages_published() {
    let world = with_local("bridge", "recorder");
    let told = world.events("bridge");
    let held = |event: &HostEvent| matches!(event, HostEvent::Local { held: true, .. });
    let up = |event: &HostEvent| matches!(event, HostEvent::Up(_));
    assert!(told.iter().position(held).unwrap() < told.iter().position(up).unwrap());

    let echoed = answer(&world, "bridge", "echo", b"\x00binary\xff");
    assert_eq!(echoed, Some(Ok(Bytes::from_static(b"\x00binary\xff"))));
    let refused = answer(&world, "bridge", "refuse", b"");
    let text = "the \\u{1b}[31mplayer\\nis off".to_owned();
    assert_eq!(refused, Some(Err(LocalRequestError::Failed(text))));
    let largest = answer(&world, "bridge", "large", b"65536")
        .unwrap()
        .unwrap();
    assert_eq!(largest.len(), LOCAL_PAYLOAD_MAX);
    let too_large = answer(&world, "bridge", "large", b"65537");
    let bytes = LOCAL_PAYLOAD_MAX + 1;
    assert_eq!(
        too_large,
        Some(Err(LocalRequestError::AnswerTooLarge { bytes }))
    );

    // What a request causes is published before its answer is there.
    let done = answer(&world, "bridge", "act", b"retain volume 40");
    assert_eq!(done, Some(Ok(Bytes::from_static(b"done"))));
    assert_eq!(
        published(&world, "bridge"),
        [("volume".to_owned(), 2, true)]
    );
    world.deliver("bridge", message(device(2), "publish bell ring"));
    wait_for("a second message", || {
        published(&world, "bridge").len() == 2
    });
    assert_eq!(
        published(&world, "bridge")[1],
        ("bell".to_owned(), 4, false)
    );
    let status = world.status("bridge").unwrap();
    assert_eq!(status.refused_publishes, 0);
    assert!(status.refused_capabilities.is_empty());
    let nobody = ask(&world, "nobody", "echo", b"").unwrap_err();
    assert_eq!(nobody, LocalRequestError::Unknown);
    assert_no_errors();
}

#[test]
fn without_the_capability_nothing_passes_and_nothing_else_is_lost() {
    let mut world = World::new();
    world.install("asks", "recorder", ASKS);
    world.install("granted", "recorder", "");
    grant(&mut world, "granted");
    world.start();
    for id in ["asks", "granted"] {
        world.wait_state(id, "running");
        for _ in 0..3 {
            world.deliver(id, message(device(2), "publish bell ring"));
        }
        wait_for("three refusals", || {
            world.status(id).unwrap().refused_publishes == 3
        });
        let refused = answer(&world, id, "echo", b"x");
        assert_eq!(refused, Some(Err(LocalRequestError::NotGranted)));
        let said = warnings(id);
        let said = said
            .iter()
            .filter(|line| line.contains("the capability `local`"));
        assert_eq!(said.count(), 1, "{id}: the log says it once");
        assert!(published(&world, id).is_empty());
        assert!(
            plugin_lines(id)
                .iter()
                .all(|line| !line.contains("on-local-request"))
        );
        world.deliver(id, message(device(2), "still here"));
        world.wait_line(id, "on-peer-message still here");
        assert_eq!(world.status(id).unwrap().last_fault, None);
        let local = |event: &HostEvent| matches!(event, HostEvent::Local { .. });
        assert!(!world.events(id).iter().any(local));
    }
    let refused = world.status("asks").unwrap().refused_capabilities;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("local = true"), "{refused:?}");
    assert!(
        world
            .status("granted")
            .unwrap()
            .refused_capabilities
            .is_empty()
    );
}

#[test]
fn a_plugin_without_local_events_takes_no_requests() {
    let world = with_local("mute", "minimal");
    let refused = answer(&world, "mute", "echo", b"x");
    assert_eq!(refused, Some(Err(LocalRequestError::NotOffered)));
    assert!(
        LocalRequestError::NotOffered
            .to_string()
            .contains("local-events")
    );
}

#[test]
fn a_fault_in_a_request_is_its_answer_and_the_next_instance_takes_the_next() {
    let world = with_local("fragile", "recorder");
    let first = ask(&world, "fragile", "trap", b"").unwrap();
    let queued = ask(&world, "fragile", "echo", b"queued").unwrap();
    let lost = first.recv_timeout(common::PATIENCE).unwrap().unwrap_err();
    assert_eq!(lost.code(), "faulted");
    assert!(
        lost.to_string().contains("on-local-request: it trapped"),
        "{lost}"
    );
    // Asked while nothing ran, so that nobody waits for a plugin that may never come back.
    let missed = queued.recv_timeout(common::PATIENCE).unwrap().unwrap_err();
    assert_eq!(missed, LocalRequestError::NotRunning { state: "back-off" });
    world.wait_state("fragile", "running");
    let back = answer(&world, "fragile", "echo", b"back");
    assert_eq!(back, Some(Ok(Bytes::from_static(b"back"))));
    let spun = answer(&world, "fragile", "spin", b"").unwrap().unwrap_err();
    assert!(spun.to_string().contains("ms of CPU"), "{spun}");
}

#[test]
fn requests_wait_over_a_reload_and_are_bounded() {
    let world = with_local("held", "recorder");
    let slow = |number: usize| ask(&world, "held", "echo", format!("{number}").as_bytes());
    // The plugin's thread is held up, and what waits is bounded.
    world.clock.stall("held");
    world.deliver("held", message(device(2), "x"));
    let manifest = format!("version = \"0.2.0\"\n{ASKS}");
    world.install("held", "recorder", &manifest);
    let waiting: Vec<_> = (0..LOCAL_REQUESTS_MAX).map(|n| slow(n).unwrap()).collect();
    assert_eq!(slow(99).unwrap_err(), LocalRequestError::Busy);
    world.clock.release();
    for (number, answered) in waiting.into_iter().enumerate() {
        let answer = answered.recv_timeout(common::PATIENCE).unwrap();
        assert_eq!(answer, Ok(Bytes::from(number.to_string())));
    }
    world.wait_generation("held", 2);
    assert_no_errors();
}

#[test]
fn what_nobody_waits_for_is_not_asked() {
    let world = with_local("late", "recorder");
    let (answer, answered) = mpsc::channel();
    let request = LocalRequest::new(
        "echo".to_owned(),
        Bytes::from_static(b"late"),
        Instant::now(),
        move |result| answer.send(result).unwrap(),
    );
    world
        .host()
        .local_request(&plugin_id("late"), request.unwrap())
        .unwrap();
    let late = answered.recv_timeout(common::PATIENCE).unwrap();
    assert_eq!(late, Err(LocalRequestError::TimedOut));
    assert!(
        plugin_lines("late")
            .iter()
            .all(|line| !line.contains("on-local-request"))
    );
}

#[test]
fn an_unloaded_plugin_drops_what_waits() {
    let mut world = with_local("gone", "recorder");
    world.clock.stall("gone");
    world.deliver("gone", message(device(2), "x"));
    let waiting = ask(&world, "gone", "echo", b"x").unwrap();
    world.stop_within(Duration::ZERO);
    world.clock.release();
    let dropped = waiting.recv_timeout(Duration::from_secs(10));
    assert_eq!(dropped, Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn floods_of_messages_are_bounded() {
    let world = with_local("flood", "hostile");
    world.deliver("flood", message(device(2), "publish-huge"));
    world.wait_warning(
        "flood",
        "a message for local programs is dropped: a payload of 3145728",
    );
    world.deliver("flood", message(device(2), "publish-flood"));
    wait_for("the flood's end", || {
        world.status("flood").unwrap().refused_publishes > 90_000
    });
    assert!(published(&world, "flood").len() <= 301, "the quota holds");
    let state = world.status("flood").unwrap().state;
    assert_eq!(state, "running");
    let hostile = answer(&world, "flood", "any", b"").unwrap().unwrap_err();
    assert!(
        hostile.to_string().chars().all(|c| !c.is_control()),
        "{hostile:?}"
    );
    let huge = LocalRequest::new("t".into(), vec![0; 1 << 20].into(), Instant::now(), drop);
    assert_eq!(huge.unwrap_err().code(), "invalid");
}
