//! A step of a rotation of the group's secret, asked of the daemon.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use consort_proto::RotateError;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::types::VERSION;

/// Steps that wait for the driver at most.
pub const REQUESTS_MAX: usize = 4;

/// What the control socket takes: one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Which step.
    pub step: RotateStep,
    /// Whether to pass over members that are not ready for it.
    pub force: bool,
}

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotateStep {
    /// A fresh secret that everybody accepts.
    Install,
    /// The fresh secret is sent under.
    Use,
    /// The former secret is refused.
    Remove,
    /// A fresh secret for listed devices, at once.
    Compromised,
}

impl From<RotateStep> for consort_proto::RotateStep {
    fn from(step: RotateStep) -> Self {
        match step {
            RotateStep::Install => Self::Install,
            RotateStep::Use => Self::Use,
            RotateStep::Remove => Self::Remove,
            RotateStep::Compromised => Self::Compromised,
        }
    }
}

/// What came of a step on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateAnswer {
    /// Always 1.
    pub v: u32,
    /// The active secret's epoch; null if the step was refused.
    pub epoch: Option<u32>,
    /// Why the step was refused and nothing was changed; null if it was taken.
    pub refused: Option<String>,
    /// The present devices that are not ready for the step.
    pub not_ready: Vec<String>,
}

impl RotateAnswer {
    /// The answer to what the node says.
    #[must_use]
    pub fn new(result: Result<u32, RotateError>) -> Self {
        let not_ready = match &result {
            Err(RotateError::NotHeld(devices) | RotateError::NotUsed(devices)) => {
                devices.iter().map(ToString::to_string).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        };
        Self {
            v: VERSION,
            epoch: result.as_ref().ok().copied(),
            refused: result.err().map(|error| error.to_string()),
            not_ready,
        }
    }
}

/// A request on its way to the driver.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: RotateRequest,
    /// Where the answer goes.
    pub answer: oneshot::Sender<RotateAnswer>,
}

pub(super) async fn rotate(
    State(driver): State<mpsc::Sender<Asked>>,
    Json(request): Json<RotateRequest>,
) -> Response {
    let (answer, answered) = oneshot::channel();
    if driver.try_send(Asked { request, answer }).is_err() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is busy or stopping",
        )
            .into_response();
    }
    match answered.await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping").into_response(),
    }
}
