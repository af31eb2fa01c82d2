//! The answering side of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::plugins::{self, Hosted};
use super::rotate::{self, Asked};
use super::types::Status;
use super::{
    PATH_FILE, PATH_MAX, PLUGINS_PATH, ROTATE_PATH, STATUS_PATH, hashed_name, path_in_data_dir,
    runtime_dirs,
};
use crate::storage::make_private_dir;

/// The latest snapshot; none before the first.
pub type Latest = watch::Receiver<Option<Arc<Status>>>;

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket {path}: {source}")]
pub struct OpenControlError {
    path: PathBuf,
    source: io::Error,
}

/// An open control socket. Dropping it removes its files.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Option<UnixListener>,
    files: Vec<PathBuf>,
}

impl ControlSocket {
    /// Opens the socket for this data folder, whose lock the caller holds: so a socket that is
    /// there already is a dead one and is removed.
    ///
    /// # Errors
    /// No folder takes the socket.
    pub fn open(data_dir: &Path) -> Result<Self, OpenControlError> {
        let path_file = data_dir.join(PATH_FILE);
        remove(&path_file);
        if let Some(path) = path_in_data_dir(data_dir) {
            let listener = listen(&path).map_err(|source| OpenControlError {
                path: path.clone(),
                source,
            })?;
            return Ok(Self {
                listener: Some(listener),
                files: vec![path],
            });
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenControlError { path, source }
        };
        let (listener, path) = listen_elsewhere(data_dir).map_err(failed(data_dir))?;
        let text = std::path::absolute(&path).map_err(failed(&path))?;
        fs::write(&path_file, text.as_os_str().as_encoded_bytes()).map_err(failed(&path_file))?;
        Ok(Self {
            listener: Some(listener),
            files: vec![path, path_file],
        })
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.files[0]
    }

    /// Answers requests from `latest`, and hands on what is asked of the driver, for as long as it
    /// is polled.
    pub async fn serve(mut self, latest: Latest, driver: mpsc::Sender<Asked>, hosted: Hosted) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let router = Router::new()
            .route(STATUS_PATH, get(status))
            .with_state(latest)
            .route(ROTATE_PATH, post(rotate::rotate).with_state(driver))
            .nest(PLUGINS_PATH, of_plugins(hosted));
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the control socket failed");
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        for file in &self.files {
            remove(file);
        }
    }
}

/// What there is about one plugin.
fn of_plugins(hosted: Hosted) -> Router {
    Router::new()
        .route("/{id}", get(plugins::inspect))
        .route("/{id}/logs", get(plugins::logs))
        .route("/{id}/{order}", post(plugins::order))
        .with_state(hosted)
}

async fn status(State(latest): State<Latest>) -> Response {
    let snapshot = latest.borrow().clone();
    match snapshot {
        Some(status) => Json(&*status).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting").into_response(),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    remove(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Listens in the first runtime folder that is private and has room.
fn listen_elsewhere(data_dir: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let name = hashed_name(data_dir)?;
    let mut last = io::Error::other("every runtime folder has too long a name");
    for dir in runtime_dirs() {
        let path = dir.join(&name);
        if path.as_os_str().len() > PATH_MAX {
            continue;
        }
        match private(&dir).and_then(|()| listen(&path)) {
            Ok(listener) => return Ok((listener, path)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes sure that a folder, which may lie where everybody writes, is this user's alone.
pub(super) fn private(dir: &Path) -> io::Result<()> {
    make_private_dir(dir)?;
    let found = fs::symlink_metadata(dir)?;
    let mine = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
    if mine && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} belongs to another user or is open to others",
            dir.display()
        ),
    ))
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(%error, path = %path.display(), "removing a file failed"),
    }
}
