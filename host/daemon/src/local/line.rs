//! The lines on a plugin's socket: one JSON object each, in UTF-8, ended by a line feed.
//!
//! A payload is `text` where it is UTF-8 and `base64` where it is not; a client may use either.
//! What a client says has an `op`, what it is told has an `event`. An `id` that the client chose comes
//! back with the answer.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most bytes of a client's line, without its end: more than the longest payload in base64 needs.
pub const LINE_MAX: usize = 128 << 10;

/// The most bytes of an `id` that is a text.
const ID_MAX: usize = 64;

/// What a client says.
#[derive(Debug, PartialEq)]
pub enum Op {
    /// To be told what is published, under one topic or under all.
    Subscribe {
        /// None for all.
        topic: Option<String>,
    },
    /// Not to be told any more.
    Unsubscribe {
        /// None for all.
        topic: Option<String>,
    },
    /// To have the plugin's answer.
    Request {
        /// What it is about.
        topic: String,
        /// What it carries.
        payload: Bytes,
    },
}

/// A line of a client that is understood.
#[derive(Debug, PartialEq)]
pub struct Heard {
    /// Comes back with the answer.
    pub id: Option<Value>,
    /// What it says.
    pub op: Op,
}

/// A line of a client that is not understood.
#[derive(Debug, PartialEq)]
pub struct NotUnderstood {
    /// The line's own, if it could be read.
    pub id: Option<Value>,
    /// What is wrong with it and what is allowed.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    op: OpName,
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    base64: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OpName {
    Subscribe,
    Unsubscribe,
    Request,
}

/// Reads a client's line.
///
/// # Errors
/// It is none; the text says what is wrong and what is allowed.
pub fn read(line: &[u8]) -> Result<Heard, NotUnderstood> {
    let raw: Raw = serde_json::from_slice(line).map_err(|error| NotUnderstood {
        id: None,
        why: format!(
            "no line of this protocol, as {{\"op\":\"request\",\"topic\":\"volume\",\"text\":\"40\"}}: {error}"
        ),
    })?;
    let id = match raw.id {
        Some(Value::String(text)) if text.len() > ID_MAX => {
            let why = format!("an id of {} bytes; use at most {ID_MAX}", text.len());
            return Err(NotUnderstood { id: None, why });
        }
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            let why = "the id must be a text or a number".to_owned();
            return Err(NotUnderstood { id: None, why });
        }
        Some(Value::Null) | None => None,
        Some(id) => Some(id),
    };
    match op(raw.op, raw.topic, raw.text, raw.base64) {
        Ok(op) => Ok(Heard { id, op }),
        Err(why) => Err(NotUnderstood { id, why }),
    }
}

fn op(
    name: OpName,
    topic: Option<String>,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Op, String> {
    if name != OpName::Request && (text.is_some() || base64.is_some()) {
        return Err("only a request has a payload".to_owned());
    }
    match name {
        OpName::Subscribe => Ok(Op::Subscribe { topic }),
        OpName::Unsubscribe => Ok(Op::Unsubscribe { topic }),
        OpName::Request => {
            let topic = topic.ok_or("a request needs a topic")?;
            let payload = payload(text, base64)?;
            Ok(Op::Request { topic, payload })
        }
    }
}

fn payload(text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("give the payload as text or as base64, not both".to_owned()),
        (Some(text), None) => Ok(text.into()),
        (None, Some(code)) => BASE64
            .decode(code.as_bytes())
            .map(Bytes::from)
            .map_err(|error| format!("the base64 is damaged: {error}")),
        (None, None) => Ok(Bytes::new()),
    }
}

/// What a client is told.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Said<'a> {
    /// Something was published.
    Message {
        /// Under which topic.
        topic: &'a str,
        /// What.
        #[serde(flatten)]
        payload: Payload<'a>,
        /// Whether it was published before the client subscribed.
        retained: bool,
    },
    /// The client is told what is published from here on; what is retained follows.
    Subscribed {
        /// The client's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        /// None for all.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
    },
    /// The client is not told any more.
    Unsubscribed {
        /// The client's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        /// None for all.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
    },
    /// The plugin's answer to a request.
    Answer {
        /// The client's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        /// What.
        #[serde(flatten)]
        payload: Payload<'a>,
    },
    /// What was asked for did not happen.
    Error {
        /// The client's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        /// A word for programs.
        code: &'a str,
        /// What was wrong, for people.
        error: &'a str,
    },
}

/// Bytes in a line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload<'a> {
    /// They are UTF-8.
    Text(&'a str),
    /// They are not.
    Base64(String),
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Base64(BASE64.encode(bytes)),
        }
    }
}

impl<'a> Said<'a> {
    /// Says that something did not happen.
    #[must_use]
    pub const fn error(code: &'a str, error: &'a str, id: Option<&'a Value>) -> Self {
        Self::Error { id, code, error }
    }

    /// The line, with its end.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_read() {
        let heard = |text: &str| read(text.as_bytes()).expect(text);
        let subscribe = heard(r#"{"op":"subscribe"}"#);
        assert_eq!(subscribe.op, Op::Subscribe { topic: None });
        let request = heard(r#"{"op":"request","id":7,"topic":"t","text":"a\nb"}"#);
        let op = Op::Request {
            topic: "t".into(),
            payload: Bytes::from_static(b"a\nb"),
        };
        assert_eq!((request.id, request.op), (Some(json!(7)), op));
        let binary = heard(r#"{"op":"request","topic":"t","base64":"AP8="}"#);
        let payload = Bytes::from_static(b"\0\xff");
        let topic = "t".to_owned();
        assert_eq!(binary.op, Op::Request { topic, payload });
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, word) in [
            ("", "EOF"),
            ("volume 40", "expected value"),
            ("[1]", "invalid type"),
            (r#"{"op":"shout"}"#, "`subscribe`, `unsubscribe`, `request`"),
            (r#"{"op":"request","topic":"t","payload":"x"}"#, "`base64`"),
            (r#"{"op":"request"}"#, "needs a topic"),
            (r#"{"op":"subscribe","text":"x"}"#, "only a request"),
            (
                r#"{"op":"request","topic":"t","text":"x","base64":"eA=="}"#,
                "not both",
            ),
            (r#"{"op":"request","topic":"t","base64":"?"}"#, "damaged"),
            (r#"{"op":"subscribe","id":{}}"#, "a text or a number"),
        ] {
            let wrong = read(line.as_bytes()).expect_err(line);
            assert!(wrong.why.contains(word), "{line}: {}", wrong.why);
        }
        let wrong = read(br#"{"op":"request","id":"x"}"#).expect_err("no topic");
        assert_eq!(wrong.id, Some(json!("x")), "the error can be told apart");
    }

    #[test]
    fn lines_are_written_as_documented() {
        let written = |said: Said<'_>| String::from_utf8(said.encode().to_vec()).expect("text");
        let message = |payload: &'static [u8]| Said::Message {
            topic: "t",
            payload: payload.into(),
            retained: true,
        };
        assert_eq!(
            written(message(b"\"a\"")),
            "{\"event\":\"message\",\"topic\":\"t\",\"text\":\"\\\"a\\\"\",\"retained\":true}\n"
        );
        assert!(written(message(b"\xff")).contains(r#""base64":"/w==""#));
        let id = json!("a");
        assert_eq!(
            written(Said::error("busy", "later", Some(&id))),
            "{\"event\":\"error\",\"id\":\"a\",\"code\":\"busy\",\"error\":\"later\"}\n"
        );
    }
}
