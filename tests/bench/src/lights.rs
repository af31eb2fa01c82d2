//! How far apart the devices of a group act that act on the same beat of the group's clock.
//!
//! For each beat of the plugin `lights`: the time between the first and the last device's log line,
//! as their daemons wrote them, by the clock of the one machine. Whatever lies between a timer of
//! the group's clock and the line is in it: the daemon's loop, the plugin's thread, the machine's
//! other work.

use std::collections::BTreeMap;
use std::time::Duration;

use consort_e2e::programs;

use crate::Daemons;
use crate::daemons::{IPV4, Lab, title};
use crate::samples::Samples;

const BEAT: Duration = Duration::from_millis(500);
/// What the leader's plugin says to all while there is load, each 20 ms.
const LOAD: &str = "[plugins.measured.config]\ntalk = 5\n";
/// From a leader's death until its successor leads and a little longer.
const AROUND_DEATH: Duration = Duration::from_secs(5);
const DEATHS: usize = 5;

pub(crate) fn lights(setting: &Daemons) -> Option<()> {
    beats(setting, "lights, idle", "")?;
    beats(setting, "lights, 250 broadcasts of 1 KiB a second", LOAD)?;
    deaths(setting)
}

fn lab(setting: &Daemons, more: &str) -> Option<Lab> {
    let mut lab = Lab::new(setting)?;
    for device in &lab.group.devices {
        device.install(&programs::plugin("lights"), "lights.wasm");
        if !more.is_empty() {
            device.install(&programs::guest("measured"), "measured.wasm");
        }
        let beat = format!("[plugins.lights.config]\nbeat_ms = {}\n", BEAT.as_millis());
        device.configure(&format!("{IPV4}{beat}{more}"));
    }
    lab.group.start();
    lab.group.wait_settled(&lab.all());
    // The clocks settle.
    std::thread::sleep(Duration::from_secs(10));
    Some(lab)
}

fn beats(setting: &Daemons, what: &str, more: &str) -> Option<()> {
    let lab = lab(setting, more)?;
    let marks = lab.group.marks();
    std::thread::sleep(BEAT * (setting.times + 2));
    print(setting, what, shown(&lab, &lab.all(), &marks));
    Some(())
}

/// The leader of `lights` is killed again and again.
fn deaths(setting: &Daemons) -> Option<()> {
    let mut lab = lab(setting, "")?;
    let mut all = Beats::default();
    for _ in 0..DEATHS {
        lab.group.wait_settled(&lab.all());
        std::thread::sleep(Duration::from_secs(10));
        let plugin = lab.group.devices[0].plugin("lights")?;
        let leader = plugin["leader"]["id"].as_str()?.to_owned();
        let mut devices = lab.group.devices.iter();
        let leader = devices.position(|device| device.id() == leader)?;
        let marks = lab.group.marks();
        lab.group.devices[leader].kill();
        std::thread::sleep(AROUND_DEATH);
        let rest = lab.group.all_but(&[leader]);
        let seen = shown(&lab, &rest, &marks);
        all.spreads.extend(seen.spreads);
        all.missed += seen.missed;
        lab.group.devices[leader].start();
    }
    print(setting, "lights, 5 s from the leader's death on", all);
    Some(())
}

/// What devices made of the beats.
#[derive(Default)]
struct Beats {
    /// Of each that all showed: the time from the first device to the last.
    spreads: Vec<Duration>,
    /// Those that some showed and some did not, the first and the last of the time apart, which is cut
    /// somewhere.
    missed: usize,
}

fn shown(lab: &Lab, among: &[usize], marks: &[usize]) -> Beats {
    let mut beats: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for place in among {
        for line in lab.group.devices[*place].log().since(marks[*place]) {
            let due = line
                .message
                .split(' ')
                .find(|word| word.starts_with("due="));
            if let (true, Some(due), Some(at)) =
                (line.is_by_plugin("lights"), due, line.written_us())
            {
                beats.entry(due.to_owned()).or_default().push(at);
            }
        }
    }
    let inner = beats.values().skip(1).take(beats.len().saturating_sub(2));
    let missed = inner.filter(|times| times.len() < among.len()).count();
    let whole = beats
        .into_values()
        .filter(|times| times.len() == among.len());
    let spreads = whole.filter_map(|times| {
        let spread = times.iter().max()? - times.iter().min()?;
        Some(Duration::from_micros(u64::try_from(spread).ok()?))
    });
    Beats {
        spreads: spreads.collect(),
        missed,
    }
}

fn print(setting: &Daemons, what: &str, beats: Beats) {
    let mut samples = Samples::default();
    beats
        .spreads
        .into_iter()
        .for_each(|spread| samples.add(spread));
    samples.print(&title(setting, what));
    println!(
        "beats that some devices showed and some did not: {}",
        beats.missed
    );
}
