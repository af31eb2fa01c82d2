//! What a device of the demonstration says: one line of its log, read into what it means.
//!
//! The heartbeat plugin words its lines in a fixed way; every other line is kept as text. A line
//! that is no JSON, such as an error before the log has started, counts as a message too.

use consort_proto::DeviceId;
use serde_json::{Map, Value};

/// The plugin whose lines are counted.
pub(super) const HEARTBEAT: &str = "heartbeat";

/// The target of lines that plugins write themselves.
const PLUGIN_TARGET: &str = "plugin";

/// One line of a device's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    /// Whether it is a warning or an error.
    pub(super) is_warning: bool,
    /// The plugin that wrote it, or that it is about.
    pub(super) plugin: Option<String>,
    /// Whether the plugin itself wrote it.
    pub(super) is_plugins_own: bool,
    /// What it says.
    pub(super) message: String,
}

/// What the heartbeat plugin of one device reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// This device leads from here on.
    Promoted { term: u64 },
    /// This device leads no longer.
    Demoted,
    /// Another device leads from here on.
    Following { leader: DeviceId, term: u64 },
    /// That device leads no longer.
    LostLeader,
    /// This device, the leader, broadcast its `n`th message of this tenure.
    Broadcast { n: u64, term: u64 },
    /// That message arrived here.
    Heard { n: u64, term: u64, from: DeviceId },
}

impl LogLine {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Self {
        let Ok(Value::Object(object)) = serde_json::from_str(line) else {
            return Self {
                is_warning: true,
                plugin: None,
                is_plugins_own: false,
                message: line.trim().to_owned(),
            };
        };
        let level = text(&object, "level").unwrap_or_default();
        Self {
            is_warning: matches!(level, "WARN" | "ERROR"),
            plugin: field(&object, "plugin").map(str::to_owned),
            is_plugins_own: text(&object, "target") == Some(PLUGIN_TARGET),
            message: field(&object, "message").unwrap_or_default().to_owned(),
        }
    }

    /// Whether it comes from the plugin whose lines are counted.
    pub(super) fn is_heartbeat(&self) -> bool {
        self.plugin.as_deref() == Some(HEARTBEAT)
    }

    /// What the heartbeat plugin says by it, if it is the one that speaks.
    pub(super) fn heartbeat(&self) -> Option<Heartbeat> {
        if !self.is_heartbeat() {
            return None;
        }
        let words: Vec<&str> = self.message.split_whitespace().collect();
        let number = |key: &str| value(&words, key)?.parse().ok();
        match words.as_slice() {
            ["promoted", "leader", ..] => Some(Heartbeat::Promoted {
                term: number("term=")?,
            }),
            ["demoted", "leader", ..] => Some(Heartbeat::Demoted),
            ["following", leader, ..] => Some(Heartbeat::Following {
                leader: leader.parse().ok()?,
                term: number("term=")?,
            }),
            ["lost", "leader", ..] => Some(Heartbeat::LostLeader),
            ["broadcast", ..] => Some(Heartbeat::Broadcast {
                n: number("n=")?,
                term: number("term=")?,
            }),
            ["heard", ..] => Some(Heartbeat::Heard {
                n: number("n=")?,
                term: number("term=")?,
                from: value(&words, "from=")?.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// An event's fields stand at the top level or under `fields`, as the log's form has it.
fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    text(object, key).or_else(|| text(object.get("fields")?.as_object()?, key))
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Option<Heartbeat> {
        let line = serde_json::json!({
            "timestamp": "2026-01-01T00:00:00.000000Z",
            "level": "INFO",
            "plugin": "heartbeat",
            "message": message,
        });
        LogLine::parse(&line.to_string()).heartbeat()
    }

    #[test]
    fn each_line_of_the_heartbeat_is_understood() {
        let id: DeviceId = consort_proto::PublicKey::new([7; 32])
            .expect("valid")
            .device_id();
        assert_eq!(
            said("promoted leader term=3"),
            Some(Heartbeat::Promoted { term: 3 })
        );
        assert_eq!(said("demoted leader"), Some(Heartbeat::Demoted));
        let following = Heartbeat::Following {
            leader: id,
            term: 3,
        };
        assert_eq!(said(&format!("following {id} term=3")), Some(following));
        assert_eq!(said("lost leader"), Some(Heartbeat::LostLeader));
        assert_eq!(
            said("broadcast n=9 term=3"),
            Some(Heartbeat::Broadcast { n: 9, term: 3 })
        );
        let heard = Heartbeat::Heard {
            n: 9,
            term: 3,
            from: id,
        };
        assert_eq!(
            said(&format!("heard n=9 term=3 from={id} at=12")),
            Some(heard)
        );
        for other in [
            "",
            "broadcast",
            "broadcast n=x term=1",
            "following nobody term=1",
            "peer added",
        ] {
            assert_eq!(said(other), None, "{other}");
        }
    }

    #[test]
    fn other_lines_keep_their_text() {
        let nested =
            r#"{"level":"WARN","target":"plugin","fields":{"message":"slow","plugin":"playlist"}}"#;
        let expected = LogLine {
            is_warning: true,
            plugin: Some("playlist".into()),
            is_plugins_own: true,
            message: "slow".into(),
        };
        assert_eq!(LogLine::parse(nested), expected);
        assert_eq!(expected.heartbeat(), None);
        let plain = LogLine::parse("error: address in use\n");
        assert!(plain.is_warning);
        assert_eq!(plain.message, "error: address in use");
    }
}
