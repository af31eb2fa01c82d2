//! From flags and a file to a plan: flags win over the file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use consort_sim::{BeatPlan, Plan, PlanError, Seed};

use super::{Args, SimError};

const NODES: usize = 5;
const DURATION: Duration = Duration::from_secs(60);
/// Whoever leads broadcasts this often where no scenario says otherwise.
const BEAT: Duration = Duration::from_secs(1);
const BEAT_LEN: usize = 64;
/// A scenario is written by hand: more than this is another kind of file.
const FILE_MAX: u64 = 1 << 20;

/// The plan that flags and file make together.
pub(super) fn plan(args: &Args) -> Result<Plan, SimError> {
    let mut plan = match &args.scenario {
        Some(path) => read(path)?,
        None if args.file.is_some() => Plan::new(NODES, DURATION),
        None => {
            let mut plan = Plan::new(NODES, DURATION);
            plan.beats.push(BeatPlan {
                plugin: None,
                every: BEAT,
                len: BEAT_LEN,
            });
            plan
        }
    };
    if let Some(nodes) = args.nodes {
        plan.nodes = nodes;
    }
    if let Some(duration) = args.duration {
        plan.duration = duration;
    }
    if let Some(loss) = args.loss {
        plan.link.loss = loss;
    }
    if let Some(delay) = args.delay {
        plan.link.delay = delay;
    }
    plan.check().map_err(SimError::Flags)?;
    let fits = |plan: &Plan| match args.file {
        Some(_) => plan.check_hosted(),
        None => plan.check_scripted(),
    };
    if let Some(path) = &args.scenario {
        fits(&plan).map_err(|error| wrong(path, error))?;
    }
    if let Some(path) = &args.expect {
        plan.expect_also(&text(path)?)
            .and_then(|()| fits(&plan))
            .map_err(|error| wrong(path, error))?;
    }
    Ok(plan)
}

fn wrong(path: &Path, error: PlanError) -> SimError {
    SimError::Scenario {
        path: path.to_owned(),
        error,
    }
}

fn read(path: &Path) -> Result<Plan, SimError> {
    Plan::from_toml(&text(path)?).map_err(|error| wrong(path, error))
}

fn text(path: &Path) -> Result<String, SimError> {
    let failed = |source| SimError::Read {
        path: path.to_owned(),
        source,
    };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > FILE_MAX {
        let why = format!("it has {size} bytes, a scenario at most {FILE_MAX}");
        return Err(failed(std::io::Error::other(why)));
    }
    fs::read_to_string(path).map_err(failed)
}

/// The seed of the flags, else of the file, else a random one.
pub(super) fn seed(args: &Args, plan: &Plan) -> Result<Seed, SimError> {
    match args.seed.or(plan.seed) {
        Some(seed) => Ok(seed),
        None => random_seed(),
    }
}

/// A seed nobody asked for.
pub(super) fn random_seed() -> Result<Seed, SimError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| SimError::Random)?;
    Ok(Seed(u64::from_le_bytes(bytes)))
}

/// The command that repeats a run.
pub(super) fn replay(args: &Args, seed: Seed) -> String {
    let mut line = "consort sim".to_owned();
    if let Some(file) = &args.file {
        line.push(' ');
        line.push_str(&quoted(&file.display().to_string()));
    }
    // Writing to a text cannot fail.
    let _ = write!(line, " --seed {seed}");
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(line, " --{flag} {}", quoted(&value));
        }
    };
    add("nodes", args.nodes.map(|nodes| nodes.to_string()));
    add("loss", args.loss.map(|loss| loss.to_string()));
    let text = |duration| humantime::format_duration(duration).to_string();
    add(
        "delay",
        args.delay.map(text).map(|text| text.replace(' ', "")),
    );
    add(
        "for",
        args.duration.map(text).map(|text| text.replace(' ', "")),
    );
    add(
        "scenario",
        args.scenario
            .as_ref()
            .map(|path| path.display().to_string()),
    );
    let expect = args.expect.as_ref();
    add("expect", expect.map(|path| path.display().to_string()));
    for (key, value) in &args.config {
        add("config", Some(format!("{key}={value}")));
    }
    line
}

/// A word for a shell: in quotes where it has other characters than paths and numbers have.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-=+:,%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A share, as `20%` or `0.2`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map(|value| value / scale);
    match share {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share, as 20% or 0.2".to_owned()),
    }
}

/// A duration, as `5ms` or `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 5ms or 1m30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("dir/a-b_1.wasm"), "dir/a-b_1.wasm");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn shares_are_between_nothing_and_all() {
        assert_eq!(share("20%"), Ok(0.2));
        assert_eq!(share("0.2"), Ok(0.2));
        assert_eq!(share("0"), Ok(0.0));
        for wrong in ["20", "-1%", "101%", "", "%", "NaN", "a lot"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
