//! What keeps a daemon from starting, or a command from reaching it: a clear error and an exit
//! code of its own.

use std::net::UdpSocket;
use std::process::Output;

use consort_e2e::group::loopback;
use consort_e2e::{Device, Group};

#[test]
fn each_refusal_has_its_exit_code() {
    let mut group = Group::on_loopback(1, "");
    let device = &mut group.devices[0];
    assert_ends(&device.run(&["status"]), 6, &["data"]);
    device.start();
    let pid = device.pid();
    assert_ends(&device.run(&["run"]), 5, &["another daemon", "data"]);
    let status = device.status().expect("the first one goes on");
    assert_eq!(status["device"]["pid"], pid);
    assert!(device.stop().0.success());
    assert_ends(&device.run(&["status"]), 6, &["data"]);
    check_address_in_use(device);
    check_config(device);
}

fn check_address_in_use(device: &Device) {
    let taken = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    device.configure(&loopback(address.port(), std::iter::empty()));
    assert_ends(&device.run(&["run"]), 4, &["in use", &address.to_string()]);
}

fn check_config(device: &Device) {
    device.configure("[network]\nprot = 1\n");
    assert_ends(
        &device.run(&["run"]),
        3,
        &["consort.toml:5", "network.prot", "allowed here"],
    );
    device.configure("[network\n");
    assert_ends(&device.run(&["run"]), 3, &["consort.toml:4"]);
    std::fs::remove_file(device.folder().join("consort.toml")).expect("removed");
    assert_ends(&device.run(&["run"]), 3, &["cannot read", "consort.toml"]);
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, said: &[&str]) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    for part in said {
        assert!(errors.contains(part), "{part:?} is missing in: {errors}");
    }
}
