//! Devices that are allowed and denied by the settings, as people see them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::daemon::{Daemon, free_port};
use super::{Home, assert_ends, checked, stdout};

/// The id of the device that lives in a home, as its daemon tells it.
fn device_id(home: &Home) -> String {
    let daemon = Daemon::start(home, free_port());
    let status = home.json("status", &["status", "--json"]);
    drop(daemon);
    status["device"]["id"].as_str().expect("text").to_owned()
}

/// The peers of a home's daemon by state.
fn peer_states(home: &Home) -> Vec<(String, String)> {
    let status = home.json("status", &["status", "--json"]);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let peers = status["peers"].as_array().expect("a list").iter();
    peers
        .map(|peer| (text(&peer["id"]), text(&peer["state"])))
        .collect()
}

/// Waits until each of `homes` sees one other device, in this state.
fn wait_for_peer(homes: &[(&Home, &str, &str)]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for (home, id, state) in homes {
        let expected = vec![((*id).to_owned(), (*state).to_owned())];
        loop {
            let seen = peer_states(home);
            if seen == expected {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{seen:?} instead of {expected:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Two devices with one secret.
fn pair() -> [Home; 2] {
    let homes = [Home::new(), Home::new()];
    homes[0].run(&["group", "new"]);
    let secret = stdout(&homes[0].run(&["group", "export"]));
    let joined = homes[1].run_with_input(&["group", "join"], &secret);
    assert_ends(&joined, 0, &[]);
    homes
}

#[test]
fn a_denied_device_is_kept_out_and_shown() {
    let [one, other] = pair();
    let ids = [device_id(&one), device_id(&other)];
    let ports = [free_port(), free_port()];
    let seeds = |port: u16| format!("seeds = [\"127.0.0.1:{port}\"]\n");
    let denied = format!("{}[group]\ndeny = [\"{}\"]", seeds(ports[1]), ids[1]);
    let first = Daemon::start_with(&one, ports[0], &denied);
    let second = Daemon::start_with(&other, ports[1], &seeds(ports[0]));
    wait_for_peer(&[(&one, &ids[1], "denied")]);
    let status = one.json("status", &["status", "--json"]);
    assert!(
        status["counters"]["handshakes_denied"].as_u64() > Some(0),
        "{status}"
    );
    assert_eq!(status["counters"]["handshakes_put_off"], 0);
    assert_eq!(status["group"]["members"], 1);
    let shown = stdout(&one.run(&["status"]));
    assert!(
        shown.contains("denied") && shown.contains("group.deny"),
        "{shown}"
    );
    drop(first);

    let first = Daemon::start_with(&one, ports[0], &seeds(ports[1]));
    wait_for_peer(&[(&one, &ids[1], "member"), (&other, &ids[0], "member")]);
    drop((first, second));
}

#[test]
fn a_stolen_secret_is_replaced_on_the_devices_that_are_allowed() {
    let [one, other] = pair();
    let ids = [device_id(&one), device_id(&other)];
    let ports = [free_port(), free_port()];
    let settings = |port: u16| {
        let ids = ids.join("\", \"");
        format!("seeds = [\"127.0.0.1:{port}\"]\n[group]\nallow = [\"{ids}\"]")
    };
    let first = Daemon::start_with(&one, ports[0], &settings(ports[1]));
    let second = Daemon::start_with(&other, ports[1], &settings(ports[0]));
    wait_for_peer(&[(&one, &ids[1], "member"), (&other, &ids[0], "member")]);
    let report = one.json("rotate", &["group", "rotate", "--compromised", "--json"]);
    assert_eq!(report["epoch"], 2);
    assert_eq!(report["acknowledged"][0]["id"], json!(ids[1]), "{report}");
    drop((first, second));
    let held = |home: &Home| home.json("group", &["group", "show", "--json"]);
    assert_eq!(held(&one)["secrets"], held(&other)["secrets"]);
    assert_eq!(held(&one)["secrets"].as_array().map(Vec::len), Some(1));
}

#[test]
fn ids_of_devices_are_checked_where_they_are_written() {
    let home = Home::new();
    let id = device_id(&home);
    let mistyped = {
        let changed = if id.starts_with('a') { "b" } else { "a" };
        format!("{changed}{}", &id[1..])
    };
    let text = format!("[group]\nallow = [\"{id}\"]\ndeny = [\n  \"{mistyped}\",\n]\n");
    home.write("a.toml", &text);
    let refused = home.run(&["config", "show", "--config", "a.toml"]);
    let said = [
        "a.toml:4: group.deny: ",
        &mistyped,
        "is mistyped",
        "`consort status --json`",
    ];
    assert_ends(&refused, 3, &said);
    let many = format!("\"{id}\",").repeat(4097);
    home.write("b.toml", &format!("[group]\nallow = [{many}]\n"));
    let refused = home.run(&["config", "show", "--config", "b.toml"]);
    assert_ends(
        &refused,
        3,
        &["b.toml:2: group.allow: ", "4097", "expected 0 to 4096"],
    );

    let mut command = home.command(&["config", "show", "--json"]);
    command.env("CONSORT_GROUP_ALLOW", format!("{id}, {id}"));
    let shown = checked("config-show", &command.output().expect("runs"));
    let values = shown["values"].as_array().expect("a list");
    let of = |key: &str| {
        values
            .iter()
            .find(|value| value["key"] == key)
            .expect("it is there")
    };
    assert_eq!(of("group.allow")["value"], json!([id, id]));
    assert_eq!(of("group.allow")["place"], "$CONSORT_GROUP_ALLOW");
    assert_eq!(of("group.deny")["value"], json!([]));
    let mut command = home.command(&["config", "show"]);
    command.env("CONSORT_GROUP_DENY", &mistyped);
    let said = ["$CONSORT_GROUP_DENY: group.deny: ", "is mistyped"];
    assert_ends(&command.output().expect("runs"), 3, &said);
}
