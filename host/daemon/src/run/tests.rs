//! Whole daemons in this process, with an empty plugins folder.

use std::time::Duration;

use consort_proto::GroupSecret;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Network;
use crate::control::client::fetch_status;
use crate::control::types::Status;

fn config(dir: &std::path::Path, listen: &str) -> Config {
    Config {
        name: "test".to_owned(),
        data_dir: dir.join("data"),
        plugins_dir: dir.join("plugins"),
        network: Network {
            listen: vec![listen.parse().expect("an address")],
            discovery_port: 1,
            multicast: false,
            broadcast: false,
            send_rate: consort_proto::SendRate::default(),
            seeds: vec![],
            interfaces: vec![],
            interfaces_denied: vec![],
        },
        access: consort_proto::Access::default(),
        local: crate::config::LocalConfig::default(),
        plugins: std::collections::BTreeMap::new(),
        cores_dir: None,
    }
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("plugins")).expect("made");
    dir
}

fn identity() -> StaticSecret {
    StaticSecret::new([5; 32])
}

fn start(
    config: &Config,
    group: Option<Keyring>,
) -> (oneshot::Sender<()>, JoinHandle<Result<(), RunError>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let daemon = run_until(config.clone(), None, identity(), group, async {
        drop(stopped.await)
    });
    (stop, tokio::spawn(daemon))
}

/// The status of a daemon that is starting.
async fn status(config: &Config) -> Status {
    for _ in 0..200 {
        if let Ok(status) = fetch_status(&config.data_dir).await {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the daemon does not answer");
}

#[tokio::test]
async fn a_group_of_one_opens_no_socket_answers_and_stops() {
    let dir = folder();
    let config = config(dir.path(), "127.0.0.1:0");
    for boot in 1..=2 {
        let (stop, daemon) = start(&config, None);
        let status = status(&config).await;
        assert_eq!(status.device.boot_counter, boot);
        assert!(!status.group.has_secret);
        assert_eq!(status.group.members, 1);
        assert_eq!(status.group.listen, Vec::<String>::new());
        assert_eq!(status.counters.datagrams_sent, 0);
        stop.send(()).expect("it runs");
        let stopped = tokio::time::timeout(Duration::from_secs(2), daemon).await;
        stopped
            .expect("in time")
            .expect("no panic")
            .expect("in order");
        assert!(!config.data_dir.join("control.sock").exists());
    }
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_folder_is_refused() {
    let dir = folder();
    let config = config(dir.path(), "127.0.0.1:0");
    let (stop, daemon) = start(&config, None);
    status(&config).await;
    let error = run_until(config.clone(), None, identity(), None, async {})
        .await
        .expect_err("locked");
    assert!(
        matches!(&error, RunError::DataFolderLocked(p) if *p == config.data_dir),
        "{error}"
    );
    assert_eq!(
        status(&config).await.device.boot_counter,
        1,
        "the first goes on"
    );
    stop.send(()).expect("it runs");
    daemon.await.expect("no panic").expect("in order");
}

#[tokio::test]
async fn an_address_in_use_is_refused_before_anything_is_written() {
    let dir = folder();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let config = config(dir.path(), &address.to_string());
    let secret = GroupSecret::from_random(&[1; 48]);
    let error = run_until(
        config.clone(),
        None,
        identity(),
        Some(secret.into()),
        async {},
    )
    .await
    .expect_err("in use");
    assert!(
        matches!(error, RunError::AddressInUse(a) if a == address),
        "{error}"
    );
    assert!(!config.data_dir.join("consort.redb").exists());
}
