//! The asking side of the control socket.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::header::HOST;
use axum::http::{HeaderValue, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::rotate::{RotateAnswer, RotateRequest};
use super::types::Status;
use super::{PATH_FILE, ROTATE_PATH, STATUS_PATH, path_in_data_dir};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long an answer may be: far above a status with a thousand peers.
const BODY_MAX: usize = 16 << 20;

/// Why the daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon runs on this data folder.
    #[error("no daemon runs on the data folder {0}: start one with `consort run`")]
    NotRunning(PathBuf),
    /// The socket is there and cannot be used.
    #[error("cannot reach the daemon through {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon does not answer.
    #[error("the daemon has not answered within {} s", ANSWER_MAX.as_secs())]
    Silent,
    /// The daemon refuses.
    #[error("the daemon answered {status}: {text}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The answer is not understood, as happens between different versions.
    #[error("the daemon's answer is not understood: {0}")]
    Answer(String),
}

/// Asks the daemon on this data folder for its status.
///
/// # Errors
/// There is no daemon, or it does not answer as it should.
pub async fn fetch_status(data_dir: &Path) -> Result<Status, ClientError> {
    let request = Request::get(STATUS_PATH).body(Full::default());
    ask(data_dir, request.expect("a fixed request is well formed")).await
}

/// Asks the daemon on this data folder to take a step of a rotation.
///
/// # Errors
/// There is no daemon, or it does not answer as it should.
pub async fn ask_rotate(
    data_dir: &Path,
    request: RotateRequest,
) -> Result<RotateAnswer, ClientError> {
    let body = serde_json::to_vec(&request).map_err(|e| ClientError::Answer(e.to_string()))?;
    let request = Request::post(ROTATE_PATH)
        .header("content-type", "application/json")
        .body(Full::from(body));
    ask(data_dir, request.expect("a fixed request is well formed")).await
}

/// Asks the daemon on this data folder for what it answers at `path`.
///
/// # Errors
/// There is no daemon, or it does not answer as it should.
pub(crate) async fn get<T: DeserializeOwned>(
    data_dir: &Path,
    path: &str,
) -> Result<T, ClientError> {
    let request = Request::get(path).body(Full::default());
    ask(
        data_dir,
        request.map_err(|e| ClientError::Answer(e.to_string()))?,
    )
    .await
}

/// Asks the daemon on this data folder to do what `path` names.
///
/// # Errors
/// There is no daemon, or it does not answer as it should.
pub(crate) async fn post<T: DeserializeOwned>(
    data_dir: &Path,
    path: &str,
) -> Result<T, ClientError> {
    let request = Request::post(path).body(Full::default());
    ask(
        data_dir,
        request.map_err(|e| ClientError::Answer(e.to_string()))?,
    )
    .await
}

async fn ask<T: DeserializeOwned>(
    data_dir: &Path,
    request: Request<Full<Bytes>>,
) -> Result<T, ClientError> {
    let stream = connect(data_dir).await?;
    let body = tokio::time::timeout(ANSWER_MAX, exchange(stream, request))
        .await
        .map_err(|_| ClientError::Silent)??;
    serde_json::from_slice(&body).map_err(|e| ClientError::Answer(e.to_string()))
}

async fn connect(data_dir: &Path) -> Result<UnixStream, ClientError> {
    let not_running = || ClientError::NotRunning(data_dir.to_owned());
    let path = match path_in_data_dir(data_dir) {
        Some(path) => path,
        None => match fs::read(data_dir.join(PATH_FILE)) {
            Ok(text) => PathBuf::from(OsString::from_vec(text)),
            Err(_) => return Err(not_running()),
        },
    };
    UnixStream::connect(&path)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => not_running(),
            _ => ClientError::Connect { path, source },
        })
}

/// One request, and the body of its answer.
async fn exchange(
    stream: UnixStream,
    mut request: Request<Full<Bytes>>,
) -> Result<Bytes, ClientError> {
    let answer_error = |e: hyper::Error| ClientError::Answer(e.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(answer_error)?;
    let host = HeaderValue::from_static("consort");
    request.headers_mut().insert(HOST, host);
    let exchange = async {
        let response = sender.send_request(request).await.map_err(answer_error)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_MAX)
            .collect()
            .await
            .map_err(|e| ClientError::Answer(e.to_string()))?
            .to_bytes();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body).chars().take(200).collect();
        Err(ClientError::Refused {
            status: status.as_u16(),
            text,
        })
    };
    tokio::pin!(exchange);
    // The connection does the reading and writing; it ends after the exchange, or fails before.
    tokio::select! {
        outcome = &mut exchange => outcome,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(answer_error(error)),
        },
    }
}
