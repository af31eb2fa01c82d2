//! What passes between a plugin and the programs on its device.
//!
//! A plugin publishes messages by topic, and answers requests. Both are bounded here, where they
//! enter: what is too large reaches neither side.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use consort_proto::MAX_PAYLOAD;
use thiserror::Error;

/// The most bytes of a topic.
pub const LOCAL_TOPIC_MAX: usize = 128;

/// The most bytes of a message, a request or an answer.
pub const LOCAL_PAYLOAD_MAX: usize = MAX_PAYLOAD;

/// The most requests that wait for one plugin.
pub const LOCAL_REQUESTS_MAX: usize = 32;

/// A message of a plugin for the programs on its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMessage {
    /// What it is about; [`is_local_topic`] holds.
    pub topic: String,
    /// At most [`LOCAL_PAYLOAD_MAX`] bytes.
    pub payload: Bytes,
    /// Whether programs that subscribe later get it too, until something else is published under
    /// the topic.
    pub retain: bool,
}

/// Whether a text can be a topic: 1 to [`LOCAL_TOPIC_MAX`] bytes without control characters.
#[must_use]
pub fn is_local_topic(topic: &str) -> bool {
    (1..=LOCAL_TOPIC_MAX).contains(&topic.len()) && !topic.chars().any(char::is_control)
}

/// What comes of a request.
pub type LocalAnswer = Result<Bytes, LocalRequestError>;

/// Why a request of a local program has no answer of the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LocalRequestError {
    /// The topic or the payload is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// There is no such plugin, or it was unloaded.
    #[error("there is no such plugin, or it was unloaded")]
    Unknown,
    /// The plugin does not have the capability.
    #[error("the plugin does not have the capability `local`")]
    NotGranted,
    /// The plugin takes no requests.
    #[error("the plugin takes no requests: it does not export local-events")]
    NotOffered,
    /// The plugin returned an error; its own words, without control characters.
    #[error("{0}")]
    Failed(String),
    /// The plugin's answer is too long.
    #[error("the plugin's answer has {bytes} bytes, more than {LOCAL_PAYLOAD_MAX}")]
    AnswerTooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// Too many requests wait for the plugin.
    #[error("{LOCAL_REQUESTS_MAX} requests wait for the plugin already; try again later")]
    Busy,
    /// The plugin does not run at the moment.
    #[error("the plugin does not run: it is {state}")]
    NotRunning {
        /// Where it is in its life.
        state: &'static str,
    },
    /// The plugin was lost in this request.
    #[error("the plugin faulted: {0}")]
    Faulted(String),
    /// The plugin has not answered in time. It may have carried the request out, or still do so.
    #[error("the plugin has not answered in time")]
    TimedOut,
}

impl LocalRequestError {
    /// A word for programs, which stays the same from version to version.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Unknown => "unknown-plugin",
            Self::NotGranted => "not-granted",
            Self::NotOffered => "not-offered",
            Self::Failed(_) => "failed",
            Self::AnswerTooLarge { .. } => "answer-too-large",
            Self::Busy => "busy",
            Self::NotRunning { .. } => "not-running",
            Self::Faulted(_) => "faulted",
            Self::TimedOut => "timed-out",
        }
    }
}

/// A request of a local program on its way to a plugin.
pub struct LocalRequest {
    topic: String,
    payload: Bytes,
    until: Instant,
    answer: Box<dyn FnOnce(LocalAnswer) + Send>,
}

impl LocalRequest {
    /// A request that the plugin is not troubled with after `until`. `answer` is called at most
    /// once, from any thread, and must not wait; it is dropped uncalled if the plugin is unloaded.
    ///
    /// # Errors
    /// The topic or the payload is not allowed.
    pub fn new(
        topic: String,
        payload: Bytes,
        until: Instant,
        answer: impl FnOnce(LocalAnswer) + Send + 'static,
    ) -> Result<Self, LocalRequestError> {
        check(&topic, &payload)?;
        Ok(Self {
            topic,
            payload,
            until,
            answer: Box::new(answer),
        })
    }

    /// What it is about.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What it carries.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Whether nobody waits for it any more at `now`.
    #[must_use]
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Ends it.
    pub fn answer(self, answer: LocalAnswer) {
        (self.answer)(answer);
    }
}

impl fmt::Debug for LocalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRequest")
            .field("topic", &self.topic)
            .field("payload", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Whether a request or a message may pass.
pub(crate) fn check(topic: &str, payload: &[u8]) -> Result<(), LocalRequestError> {
    if !is_local_topic(topic) {
        return Err(LocalRequestError::Invalid(format!(
            "a topic is 1 to {LOCAL_TOPIC_MAX} bytes without control characters"
        )));
    }
    if payload.len() > LOCAL_PAYLOAD_MAX {
        return Err(LocalRequestError::Invalid(format!(
            "a payload of {} bytes is too long; use at most {LOCAL_PAYLOAD_MAX}",
            payload.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_bounded_and_printable() {
        for topic in ["a", "now-playing", "zone 1/volume", &"x".repeat(128)] {
            assert!(is_local_topic(topic), "{topic}");
        }
        for topic in ["", "a\nb", "\u{1b}[31m", &"x".repeat(129)] {
            assert!(!is_local_topic(topic), "{topic:?}");
        }
    }

    #[test]
    fn what_is_too_large_makes_no_request() {
        let request = |topic: &str, bytes: usize| {
            let payload = Bytes::from(vec![0; bytes]);
            LocalRequest::new(topic.to_owned(), payload, Instant::now(), drop)
        };
        assert!(request("t", LOCAL_PAYLOAD_MAX).is_ok());
        let error = request("t", LOCAL_PAYLOAD_MAX + 1).expect_err("too long");
        assert!(error.to_string().contains("65537"), "{error}");
        assert_eq!(request("", 0).expect_err("no topic").code(), "invalid");
    }
}
