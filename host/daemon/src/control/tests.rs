use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::client::{ClientError, fetch_status};
use super::server::ControlSocket;
use super::*;
use crate::snapshot::tests::status;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Asks a server on `data_dir` that has `snapshot`; returns the answer and where the socket was.
async fn ask(
    data_dir: &Path,
    snapshot: Option<types::Status>,
) -> (Result<types::Status, ClientError>, PathBuf) {
    let socket = ControlSocket::open(data_dir).expect("opens");
    let path = socket.path().to_owned();
    let mode = fs::metadata(&path)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_publish, latest) = watch::channel(snapshot.map(Arc::new));
    let (driver, _requests) = mpsc::channel(1);
    let server = tokio::spawn(socket.serve(latest, driver, plugins::Hosted::default()));
    let answer = fetch_status(data_dir).await;
    server.abort();
    let _ = server.await;
    (answer, path)
}

#[tokio::test]
async fn the_status_arrives_as_it_was_published() {
    let dir = folder();
    let (answer, path) = ask(dir.path(), Some(status())).await;
    assert_eq!(answer.expect("an answer"), status());
    assert_eq!(path, dir.path().join("control.sock"));
    assert!(!path.exists(), "the server removes its socket");
}

#[tokio::test]
async fn a_deep_data_folder_gets_its_socket_elsewhere() {
    let dir = folder();
    let deep = dir.path().join("x".repeat(60)).join("y".repeat(60));
    fs::create_dir_all(&deep).expect("made");
    let (answer, path) = ask(&deep, Some(status())).await;
    assert_eq!(answer.expect("an answer"), status());
    assert!(path.as_os_str().len() <= PATH_MAX, "{path:?}");
    assert!(!path.exists() && !deep.join(PATH_FILE).exists());
}

#[tokio::test]
async fn a_daemon_without_a_snapshot_says_that_it_is_starting() {
    let dir = folder();
    let (answer, _) = ask(dir.path(), None).await;
    let error = answer.expect_err("refused");
    assert!(
        matches!(error, ClientError::Refused { status: 503, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_daemon_that_is_what_is_said() {
    let dir = folder();
    let error = fetch_status(dir.path()).await.expect_err("nobody");
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
    // A socket of a daemon that was killed.
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let error = fetch_status(dir.path()).await.expect_err("nobody");
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
    let (answer, _) = ask(dir.path(), Some(status())).await;
    assert_eq!(answer.expect("the dead socket is replaced"), status());
}
