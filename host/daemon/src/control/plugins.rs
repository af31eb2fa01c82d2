//! What the control socket answers about one plugin, and the orders it takes for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use consort_plugin_host::{
    Level, LogLine, Order, OrderError, PluginDetails, PluginHost, PluginHostStatus,
};
use consort_proto::{InvalidPluginId, PluginId};
use serde::{Deserialize, Serialize};

use super::types::VERSION;
use crate::local::Bridge;

/// The plugin host, once it was started, and what its plugins reach local programs by.
#[derive(Clone, Debug, Default)]
pub struct Hosted {
    /// Runs the plugins.
    pub host: Arc<OnceLock<Arc<PluginHost>>>,
    /// The sockets for local programs.
    pub bridge: Arc<OnceLock<Arc<Bridge>>>,
}

impl Hosted {
    /// Closes the sockets for local programs; the plugins have ended.
    pub fn close_sockets(&self) {
        if let Some(bridge) = self.bridge.get() {
            bridge.close_all();
        }
    }
}

/// One plugin, as `consort plugin inspect --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInspection {
    /// Always 1.
    pub v: u32,
    /// Which plugin.
    pub id: String,
    /// Where it is in its life.
    pub state: String,
    /// How many contents of its file were taken.
    pub generation: u64,
    /// The beginning of the hash of the content that counts.
    pub content_hash: Option<String>,
    /// Why it last faulted, or why its file was last refused.
    pub last_fault: Option<String>,
    /// Where in the plugin that fault was, the innermost function first.
    pub last_backtrace: Vec<String>,
    /// Messages that were dropped because it was too slow or not running.
    pub dropped_messages: u64,
    /// Messages to the group that were refused at the call: too large, or beyond the quota.
    pub refused_messages: u64,
    /// Writes of replicated state that were refused at the call: too large, or beyond a quota.
    pub refused_writes: u64,
    /// Messages for local programs that were refused: without the capability, beyond the quota, or
    /// too large.
    pub refused_publishes: u64,
    /// What holds for the content that counts; null before there is one.
    pub holds: Option<PluginHolds>,
}

/// What holds for a plugin: what it asks for, as far as the operator grants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginHolds {
    /// Its file.
    pub file: String,
    /// Its version.
    pub version: String,
    /// This device's rank in its elections.
    pub priority: i16,
    /// Whether this device takes over from a healthy leader of lower priority.
    pub preempt: bool,
    /// The keys of its `config`; the values may be secret.
    pub config_keys: Vec<String>,
    /// Its limits, by the keys and in the units of `[limits]`.
    pub limits: BTreeMap<String, u64>,
    /// The limits that the operator's cap made smaller.
    pub capped: Vec<CappedLimit>,
    /// What it may reach outside its sandbox.
    pub capabilities: HeldCapabilities,
    /// What its replicated state may take.
    pub replicated_state: HeldState,
    /// The interfaces that it offers.
    pub exports: Vec<String>,
    /// The interfaces that it names.
    pub imports: Vec<String>,
}

/// A limit that the operator's cap made smaller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CappedLimit {
    /// The key under `[limits]`.
    pub key: String,
    /// What was asked for.
    pub asked: u64,
    /// What holds.
    pub granted: u64,
}

/// What a plugin may reach outside its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCapabilities {
    /// The folders it has.
    pub files: Vec<HeldFolder>,
    /// Whether it talks with programs on this device.
    pub local: bool,
    /// The socket for those programs; null where there is none.
    pub local_socket: Option<String>,
    /// What it asks for and does not get.
    pub refused: Vec<RefusedCapability>,
}

/// A folder that a plugin has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFolder {
    /// The plugin sees it as `/<name>`.
    pub name: String,
    /// Where it is on this device.
    pub path: String,
    /// `read` or `read-write`.
    pub access: String,
}

/// Something that a plugin asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCapability {
    /// `local` or `files.<name>`.
    pub capability: String,
    /// Why, and what would grant it.
    pub reason: String,
}

/// What a plugin's replicated state may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldState {
    /// How often changes are sent.
    pub interval_ms: u64,
    /// Bytes of all keys and values.
    pub quota_bytes: u64,
    /// Whether this device keeps it over a restart.
    pub persist: bool,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// Always 1.
    pub v: u32,
    /// Which plugin.
    pub id: String,
    /// `reload`, `disable` or `enable`.
    pub order: String,
}

/// Lines of a plugin's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLog {
    /// Always 1.
    pub v: u32,
    /// Oldest first.
    pub lines: Vec<PluginLogLine>,
}

/// A line of a plugin's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLogLine {
    /// Grows by one from line to line, and by more where the plugin was unloaded in between.
    pub number: u64,
    /// Since the Unix epoch, by this device's wall clock.
    pub at_us: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// Whether the host says it, not the plugin.
    pub by_host: bool,
    /// The line.
    pub text: String,
}

impl PluginInspection {
    /// What the host knows of a plugin.
    #[must_use]
    pub fn new(
        status: PluginHostStatus,
        details: Option<&PluginDetails>,
        local_socket: Option<PathBuf>,
    ) -> Self {
        Self {
            v: VERSION,
            id: status.id.to_string(),
            state: status.state.to_owned(),
            generation: status.generation,
            content_hash: status.hash,
            last_fault: status.last_fault,
            last_backtrace: status.last_backtrace,
            dropped_messages: status.dropped_messages,
            refused_messages: status.refused_messages,
            refused_writes: status.refused_writes,
            refused_publishes: status.refused_publishes,
            holds: details.map(|details| holds(details, local_socket)),
        }
    }
}

fn holds(details: &PluginDetails, local_socket: Option<PathBuf>) -> PluginHolds {
    let capped = details.capped.iter().map(|capped| CappedLimit {
        key: capped.key.to_owned(),
        asked: capped.asked,
        granted: capped.granted,
    });
    let limits = details.limits.named().into_iter();
    let limits = limits.map(|(key, value)| (key.to_owned(), value));
    PluginHolds {
        file: details.file.display().to_string(),
        version: details.spec.version.to_string(),
        priority: details.spec.priority,
        preempt: details.spec.preempt,
        config_keys: details.config.keys().cloned().collect(),
        limits: limits.collect(),
        capped: capped.collect(),
        capabilities: held(details, local_socket),
        replicated_state: HeldState {
            interval_ms: u64::try_from(details.state.interval.as_millis()).unwrap_or(u64::MAX),
            quota_bytes: details.state.quota,
            persist: details.state.persist,
        },
        exports: details.exports.clone(),
        imports: details.imports.clone(),
    }
}

fn held(details: &PluginDetails, local_socket: Option<PathBuf>) -> HeldCapabilities {
    let files = details
        .capabilities
        .files
        .iter()
        .map(|(name, folder)| HeldFolder {
            name: name.clone(),
            path: folder.path.display().to_string(),
            access: folder.access.as_str().to_owned(),
        });
    let refused = details.capabilities.refused.iter();
    let refused = refused.map(|refusal| RefusedCapability {
        capability: refusal.capability.clone(),
        reason: refusal.reason.clone(),
    });
    HeldCapabilities {
        files: files.collect(),
        local: details.capabilities.local,
        local_socket: local_socket.map(|path| path.display().to_string()),
        refused: refused.collect(),
    }
}

impl From<LogLine> for PluginLogLine {
    fn from(line: LogLine) -> Self {
        let since = line.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let level = match line.level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        Self {
            number: line.number,
            at_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            level: level.to_owned(),
            by_host: line.by_host,
            text: line.text,
        }
    }
}

pub(super) async fn inspect(State(hosted): State<Hosted>, Path(id): Path<String>) -> Response {
    let (host, id) = match find(&hosted, &id) {
        Ok(found) => found,
        Err(error) => return error.into_response(),
    };
    let status = host.status().into_iter().find(|status| status.id == id);
    match status {
        Some(status) => {
            let socket = hosted.bridge.get().and_then(|bridge| bridge.path(&id));
            let details = host.details(&id);
            Json(PluginInspection::new(status, details.as_deref(), socket)).into_response()
        }
        None => refused(&OrderError::Unknown(id)),
    }
}

pub(super) async fn logs(
    State(hosted): State<Hosted>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let (host, id) = match find(&hosted, &id) {
        Ok(found) => found,
        Err(error) => return error.into_response(),
    };
    // Without a number that can be read it is all that is kept.
    let query = query.unwrap_or_default();
    let after = query.strip_prefix("after=").and_then(|n| n.parse().ok());
    match host.log_lines(&id, after.unwrap_or(0)) {
        Some(lines) => Json(PluginLog {
            v: VERSION,
            lines: lines.into_iter().map(PluginLogLine::from).collect(),
        })
        .into_response(),
        None => refused(&OrderError::Unknown(id)),
    }
}

pub(super) async fn order(
    State(hosted): State<Hosted>,
    Path((id, word)): Path<(String, String)>,
) -> Response {
    let order = match word.as_str() {
        "reload" => Order::Reload,
        "disable" => Order::Disable,
        "enable" => Order::Enable,
        _ => return (StatusCode::NOT_FOUND, "there is no such order").into_response(),
    };
    let (host, id) = match find(&hosted, &id) {
        Ok(found) => found,
        Err(error) => return error.into_response(),
    };
    let asked = id.clone();
    // It waits for the plugin's last callbacks.
    let outcome = tokio::task::spawn_blocking(move || host.order(&asked, order)).await;
    match outcome.unwrap_or(Err(OrderError::Busy)) {
        Ok(()) => Json(OrderAnswer {
            v: VERSION,
            id: id.to_string(),
            order: word,
        })
        .into_response(),
        Err(error) => refused(&error),
    }
}

fn find(hosted: &Hosted, id: &str) -> Result<(Arc<PluginHost>, PluginId), NotFound> {
    let host = hosted.host.get().ok_or(NotFound::Starting)?;
    let id = PluginId::new(id.to_owned()).map_err(NotFound::NoId)?;
    Ok((Arc::clone(host), id))
}

/// Why there is no plugin to speak of.
enum NotFound {
    Starting,
    NoId(InvalidPluginId),
}

impl IntoResponse for NotFound {
    fn into_response(self) -> Response {
        match self {
            Self::Starting => {
                (StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting").into_response()
            }
            Self::NoId(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    }
}

fn refused(error: &OrderError) -> Response {
    let status = match error {
        OrderError::Unknown(_) => StatusCode::NOT_FOUND,
        OrderError::Disabled(_) => StatusCode::CONFLICT,
        OrderError::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.to_string()).into_response()
}
