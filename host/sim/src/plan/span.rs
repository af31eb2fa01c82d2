//! Durations as text: `250ms`, `1.5s`, `2m`. One number, one unit.

use core::time::Duration;

/// The units and how many microseconds each has, the largest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// The longest duration, and how far a clock may be off at most, in days.
const DAYS_MAX: u64 = 100;
const OFF_DAYS_MAX: u64 = 100 * 365;

/// Reads a duration.
///
/// # Errors
/// What it should look like.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    parse_upto(text, DAYS_MAX)
}

fn parse_upto(text: &str, days: u64) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let number = number.trim();
    let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim());
    let value: Option<f64> = number.parse().ok().filter(|_| plain);
    let (Some(value), Some((_, factor))) = (value, factor) else {
        return Err(format!(
            "{text:?} is no duration: give a number and one of d, h, m, s, ms, us, as in \"1.5s\""
        ));
    };
    let micros = (value * *factor as f64).round();
    if micros > (days * UNITS[0].1) as f64 {
        return Err(format!("{text:?} is too long: at most {days}d"));
    }
    Ok(Duration::from_micros(micros as u64))
}

/// Writes a duration in the largest unit that divides it.
pub(super) fn show(duration: Duration) -> String {
    let micros = consort_proto::micros(duration);
    let whole = |(_, factor): &&(&str, u64)| micros.is_multiple_of(*factor);
    match UNITS.iter().find(whole) {
        Some((name, factor)) if micros > 0 => format!("{}{name}", micros / factor),
        _ => "0s".to_owned(),
    }
}

/// Durations as text, for serde.
pub(crate) mod text {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).map_err(D::Error::custom)
    }
}

/// Durations as text, or the word `end`, for serde.
pub(crate) mod text_or_end {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::super::Expect;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if *duration == Expect::END {
            serializer.serialize_str("end")
        } else {
            super::text::serialize(duration, serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "end" {
            return Ok(Expect::END);
        }
        super::parse(&text).map_err(|error| D::Error::custom(format!("{error}, or `end`")))
    }
}

/// Durations that may be missing, for serde.
pub(crate) mod maybe {
    use core::time::Duration;

    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::text::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::text::deserialize(deserializer).map(Some)
    }
}

/// Microseconds with a sign as text, such as `-2s`, for serde.
pub(crate) mod signed {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(micros: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        let text = super::show(Duration::from_micros(micros.unsigned_abs()));
        let sign = if *micros < 0 { "-" } else { "" };
        serializer.serialize_str(&format!("{sign}{text}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(&text)),
        };
        let duration = super::parse_upto(rest, super::OFF_DAYS_MAX).map_err(D::Error::custom)?;
        let micros = i64::try_from(consort_proto::micros(duration)).map_err(D::Error::custom)?;
        Ok(sign * micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_their_text() {
        for (text, micros, shown) in [
            ("0s", 0, "0s"),
            ("250ms", 250_000, "250ms"),
            ("1.5s", 1_500_000, "1500ms"),
            ("2 m", 120_000_000, "2m"),
            ("36h", 129_600_000_000, "36h"),
            ("7us", 7, "7us"),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(duration, Duration::from_micros(micros), "{text}");
            assert_eq!(show(duration), shown);
            assert_eq!(parse(shown), Ok(duration));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "5", "s", "-1s", "1 week", "1e9s", "inf s", "1.2.3s", "9999d",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
