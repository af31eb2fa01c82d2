//! Which colour shows when.
//!
//! A programme begins at an instant of group time and has a beat; the colour of an instant follows
//! from the programme alone, so devices agree without a word, and one that joins late shows what
//! the others show. A new programme begins a little ahead, so that everyone knows it by then; until
//! it begins, the one before goes on.

use std::fmt;
use std::time::Duration;

use consort_plugin::GroupTime;
use consort_plugin::config::ParseError;
use serde::{Deserialize, Serialize};

const COLOURS: [&str; 3] = ["red", "green", "blue"];
const BEAT: Duration = Duration::from_secs(2);

const BEAT_MS_MIN: u64 = 20;
const BEAT_MS_MAX: u64 = 3_600_000;
const COLOURS_MAX: usize = 64;
const NAME_MAX: usize = 32;

/// How long ahead a programme begins. The state's interval is a second, so everyone in reach knows
/// it by then.
const NOTICE: Duration = Duration::from_secs(2);

/// Colours in turn, one per beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Programme {
    pub(crate) from: GroupTime,
    beat_us: u64,
    colours: Vec<String>,
}

/// One beat of a programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat<'a> {
    pub(crate) number: u64,
    pub(crate) due: GroupTime,
    pub(crate) colour: &'a str,
}

impl Programme {
    /// Whether it has colours and a beat that a device can follow. It may come from a device with
    /// another version of this plugin.
    pub(crate) fn is_sound(&self) -> bool {
        let beats = BEAT_MS_MIN * 1000..=BEAT_MS_MAX * 1000;
        are_colours(&self.colours) && beats.contains(&self.beat_us)
    }

    /// The beat under way at `now`; none before it begins.
    fn beat_at(&self, now: GroupTime) -> Option<Beat<'_>> {
        if now < self.from {
            return None;
        }
        let number = self.beats_until(now);
        let index = usize::try_from(number % self.colours.len() as u64).unwrap_or(0);
        Some(Beat {
            number,
            due: self.due(number),
            colour: &self.colours[index],
        })
    }

    /// The first beat after `now`.
    fn next_after(&self, now: GroupTime) -> GroupTime {
        if now < self.from {
            return self.from;
        }
        self.due(self.beats_until(now).saturating_add(1))
    }

    fn beats_until(&self, now: GroupTime) -> u64 {
        let elapsed = now.as_micros() - self.from.as_micros();
        elapsed / self.beat_us
    }

    fn due(&self, number: u64) -> GroupTime {
        self.from + Duration::from_micros(self.beat_us.saturating_mul(number))
    }
}

/// The programme under way, and the one that follows it.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    current: Option<Programme>,
    next: Option<Programme>,
}

impl Stage {
    /// Takes the programme that holds from its beginning on.
    pub(crate) fn take(&mut self, programme: Programme, now: GroupTime) {
        self.turn(now);
        if programme.from <= now {
            self.current = Some(programme);
            self.next = None;
        } else if self.current.as_ref() != Some(&programme) {
            self.next = Some(programme);
        }
    }

    /// The beat under way.
    pub(crate) fn beat_at(&mut self, now: GroupTime) -> Option<Beat<'_>> {
        self.turn(now);
        self.current.as_ref()?.beat_at(now)
    }

    /// When to look again.
    pub(crate) fn next_after(&self, now: GroupTime) -> Option<GroupTime> {
        let beat = self.current.as_ref().map(|current| current.next_after(now));
        let turn = self.next.as_ref().map(|next| next.from);
        [beat, turn].into_iter().flatten().min()
    }

    fn turn(&mut self, now: GroupTime) {
        if self.next.as_ref().is_some_and(|next| next.from <= now) {
            self.current = self.next.take();
        }
    }
}

/// What the operator asks for; none if she leaves it to others.
pub(crate) fn settings(
    colours: Option<&str>,
    beat_ms: Option<u64>,
) -> Result<Option<(Vec<String>, Duration)>, ParseError> {
    if colours.is_none() && beat_ms.is_none() {
        return Ok(None);
    }
    let named = match colours {
        None => COLOURS.map(str::to_owned).to_vec(),
        Some(text) => {
            let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
            if !are_colours(&names) {
                return Err(ParseError::new("colours", text, &NoColours));
            }
            names
        }
    };
    let beat = match beat_ms {
        None => BEAT,
        Some(millis @ BEAT_MS_MIN..=BEAT_MS_MAX) => Duration::from_millis(millis),
        Some(other) => {
            let allowed = format!("{BEAT_MS_MIN} to {BEAT_MS_MAX} are allowed");
            return Err(ParseError::new("beat_ms", &other.to_string(), &allowed));
        }
    };
    Ok(Some((named, beat)))
}

/// What a device that just became leader is to write, if anything: a group keeps its programme
/// unless this device's operator asked for another.
pub(crate) fn of_new_leader(
    known: Option<Programme>,
    wanted: Option<&(Vec<String>, Duration)>,
    now: GroupTime,
) -> Option<Programme> {
    let (colours, beat) = match (wanted, known) {
        (None, Some(_)) => return None,
        (None, None) => (COLOURS.map(str::to_owned).to_vec(), BEAT),
        (Some((colours, beat)), known) => {
            let same = known
                .is_some_and(|known| known.colours == *colours && known.beat_us == micros(*beat));
            if same {
                return None;
            }
            (colours.clone(), *beat)
        }
    };
    Some(Programme {
        from: now + NOTICE,
        beat_us: micros(beat),
        colours,
    })
}

fn are_colours(names: &[String]) -> bool {
    let fits = |name: &String| (1..=NAME_MAX).contains(&name.len());
    (1..=COLOURS_MAX).contains(&names.len()) && names.iter().all(fits)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A text names no colours.
struct NoColours;

impl fmt::Display for NoColours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "1 to {COLOURS_MAX} names of 1 to {NAME_MAX} bytes are allowed, separated by commas"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> GroupTime {
        GroupTime::from_micros(1_000_000_000) + Duration::from_millis(millis)
    }

    fn programme(from: u64, beat_ms: u64, colours: &str) -> Programme {
        Programme {
            from: at(from),
            beat_us: beat_ms * 1000,
            colours: colours.split(',').map(str::to_owned).collect(),
        }
    }

    fn shows(stage: &mut Stage, millis: u64) -> Option<(u64, String)> {
        let beat = stage.beat_at(at(millis))?;
        Some((beat.number, beat.colour.to_owned()))
    }

    #[test]
    fn colours_follow_each_other_beat_by_beat() {
        let mut stage = Stage::default();
        stage.take(programme(1_000, 500, "a,b"), at(0));
        assert_eq!(shows(&mut stage, 999), None);
        assert_eq!(stage.next_after(at(0)), Some(at(1_000)));
        for (millis, number, colour) in [
            (1_000, 0, "a"),
            (1_499, 0, "a"),
            (1_500, 1, "b"),
            (2_000, 2, "a"),
            (9_750, 17, "b"),
        ] {
            let expected = Some((number, colour.to_owned()));
            assert_eq!(shows(&mut stage, millis), expected, "at {millis}");
        }
        assert_eq!(stage.next_after(at(1_499)), Some(at(1_500)));
        assert_eq!(stage.next_after(at(1_500)), Some(at(2_000)));
    }

    #[test]
    fn a_late_device_shows_what_the_others_show() {
        let (mut early, mut late) = (Stage::default(), Stage::default());
        early.take(programme(0, 20, "a,b,c"), at(0));
        late.take(programme(0, 20, "a,b,c"), at(777));
        assert_eq!(shows(&mut late, 777), shows(&mut early, 777));
        assert_eq!(late.next_after(at(777)), Some(at(780)));
    }

    #[test]
    fn the_programme_before_goes_on_until_the_next_begins() {
        let mut stage = Stage::default();
        stage.take(programme(0, 500, "a"), at(0));
        stage.take(programme(1_250, 500, "b"), at(600));
        assert_eq!(shows(&mut stage, 1_249), Some((2, "a".to_owned())));
        assert_eq!(stage.next_after(at(1_249)), Some(at(1_250)));
        assert_eq!(shows(&mut stage, 1_250), Some((0, "b".to_owned())));
        // Told again of the one under way: nothing changes.
        stage.take(programme(1_250, 500, "b"), at(1_300));
        assert_eq!(shows(&mut stage, 1_800), Some((1, "b".to_owned())));
    }

    #[test]
    fn a_new_leader_keeps_what_there_is_unless_it_is_told_otherwise() {
        let known = || Some(programme(0, 500, "a,b"));
        let wanted = |colours: &str, beat| {
            let names: Vec<String> = colours.split(',').map(str::to_owned).collect();
            (names, Duration::from_millis(beat))
        };
        assert_eq!(of_new_leader(known(), None, at(9)), None);
        let same = wanted("a,b", 500);
        assert_eq!(of_new_leader(known(), Some(&same), at(9)), None);
        let other = wanted("a,b", 400);
        let written = of_new_leader(known(), Some(&other), at(9));
        assert_eq!(written, Some(programme(2_009, 400, "a,b")));
        let first = of_new_leader(None, None, at(0)).unwrap();
        assert_eq!(first, programme(2_000, 2_000, "red,green,blue"));
        assert!(first.is_sound());
    }

    #[test]
    fn settings_have_bounds() {
        assert_eq!(settings(None, None), Ok(None));
        let beat = settings(None, Some(20)).unwrap().unwrap();
        assert_eq!((beat.0.len(), beat.1), (3, Duration::from_millis(20)));
        let colours = settings(Some("a, b"), None).unwrap().unwrap();
        assert_eq!(colours, (vec!["a".to_owned(), "b".to_owned()], BEAT));
        for (colours, beat) in [
            (Some(""), None),
            (Some("a,,b"), None),
            (None, Some(19)),
            (None, Some(BEAT_MS_MAX + 1)),
        ] {
            assert!(settings(colours, beat).is_err(), "{colours:?} {beat:?}");
        }
        assert!(settings(Some(&vec!["a"; 65].join(",")), None).is_err());
    }

    #[test]
    fn what_no_light_can_follow_is_seen() {
        assert!(programme(0, 20, "a").is_sound());
        assert!(!programme(0, 0, "a").is_sound());
        assert!(!programme(0, 500, "").is_sound());
        let none = Programme {
            colours: Vec::new(),
            ..programme(0, 500, "a")
        };
        assert!(!none.is_sound());
    }
}
