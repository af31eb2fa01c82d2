//! Replicated state over real daemons.
//!
//! A time between two devices is the difference of the times that their daemons wrote into their
//! logs, by the clock of the one machine they run on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use consort_e2e::log::Line;
use consort_e2e::programs;

use crate::Daemons;
use crate::daemons::{IPV4, Lab, title};
use crate::samples::Samples;

const PLUGIN: &str = "measured";
/// Far enough apart that the group has been quiet for some intervals of 1 s.
const WRITE_EVERY: Duration = Duration::from_secs(4);
/// Keys of 1 KiB that the joiner has to fetch.
const FILL: u64 = 1000;
const CHURN_FOR: Duration = Duration::from_secs(60);
/// Additions of all devices together.
const ADDITIONS: usize = 10_000;
/// A device must not crash so shortly after its last addition, with a little added.
const SAFE_AFTER: Duration = Duration::from_millis(2_200);
/// How long a group may take for what has no bound of its own here.
const PATIENCE: Duration = Duration::from_secs(300);

impl Lab {
    /// A lab with the plugin that measures, and its settings on each device.
    pub(crate) fn measured(setting: &Daemons, config: impl Fn(usize) -> String) -> Option<Self> {
        let lab = Self::new(setting)?;
        for (place, device) in lab.group.devices.iter().enumerate() {
            device.install(&programs::guest(PLUGIN), "measured.wasm");
            device.configure(&with_config(&config(place)));
        }
        Some(lab)
    }
}

fn with_config(config: &str) -> String {
    format!("{IPV4}[plugins.{PLUGIN}.config]\n{config}")
}

/// Lines of the measuring plugin that begin so.
fn says(begin: &str) -> impl Fn(&Line) -> bool {
    move |line| line.is_by_plugin(PLUGIN) && line.message.starts_with(begin)
}

/// When each number was first said after these words, by the clock of the machine.
fn numbered(lines: &[Line], begin: &str) -> BTreeMap<u64, i64> {
    let mut found = BTreeMap::new();
    let said = says(begin);
    for line in lines.iter().filter(|line| said(line)) {
        let number = line.message[begin.len()..].parse();
        if let (Ok(number), Some(at)) = (number, line.written_us()) {
            found.entry(number).or_insert(at);
        }
    }
    found
}

fn between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to - from).unwrap_or(0))
}

/// Looks until something is there, longer than tests do.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn write(setting: &Daemons) -> Option<()> {
    let mut lab = Lab::measured(setting, |place| match place {
        0 => format!("write_us = {}\n", WRITE_EVERY.as_micros()),
        _ => String::new(),
    })?;
    lab.group.start();
    lab.group.wait_settled(&lab.all());
    let marks = lab.group.marks();
    let times = setting.times as usize;
    // One more: the last one may be under way.
    std::thread::sleep(WRITE_EVERY * (setting.times + 1));
    let lines = |place: usize| lab.group.devices[place].log().since(marks[place]);
    let written = numbered(&lines(0), "writes ");
    let others = lab.group.all_but(&[0]);
    let seen: Vec<_> = others
        .iter()
        .map(|place| numbered(&lines(*place), "sees "))
        .collect();
    let (mut each, mut all, mut missed) = (Samples::default(), Samples::default(), 0_usize);
    for (number, at) in written.into_iter().take(times) {
        let arrivals: Vec<i64> = seen
            .iter()
            .filter_map(|seen| seen.get(&number))
            .copied()
            .collect();
        arrivals
            .iter()
            .for_each(|arrival| each.add(between(at, *arrival)));
        missed += others.len() - arrivals.len();
        if arrivals.len() == others.len()
            && let Some(last) = arrivals.iter().max()
        {
            all.add(between(at, *last));
        }
    }
    each.print(&title(setting, "1 KiB written -> at one other device"));
    all.print(&title(setting, "1 KiB written -> at every device"));
    println!("  {missed} values were overtaken by the next one, {WRITE_EVERY:?} later");
    Some(())
}

pub(crate) fn join(setting: &Daemons) -> Option<()> {
    let mut lab = Lab::measured(setting, |place| match place {
        0 => format!("fill = {FILL}\n"),
        _ => String::new(),
    })?;
    let joiner = lab.group.devices.len() - 1;
    let rest = lab.group.all_but(&[joiner]);
    for place in &rest {
        lab.group.devices[*place].spawn();
    }
    for place in &rest {
        lab.group.devices[*place].wait_running();
    }
    let holds = format!("holds {FILL}");
    for place in &rest[1..] {
        until("1 MiB at the group", || {
            lab.group.devices[*place].log().find(0, says(&holds))
        });
    }
    let (mut whole, mut from_member) = (Samples::default(), Samples::default());
    let marks: Vec<usize> = rest
        .iter()
        .map(|p| lab.group.devices[*p].log().mark())
        .collect();
    for _ in 0..setting.times {
        lab.group.wait_settled(&rest);
        let before = Instant::now();
        let device = &mut lab.group.devices[joiner];
        device.start();
        let held = until("1 MiB at the joiner", || device.log().find(0, says(&holds)));
        let member = device
            .log()
            .wait(0, "a member", |line| line.message == "member added");
        whole.add(held.at.saturating_duration_since(before));
        from_member.add(held.at.saturating_duration_since(member.at));
        device.kill();
    }
    let changes = rest.iter().zip(&marks);
    let changes = changes.filter(|(place, mark)| {
        !consort_e2e::roles(lab.group.devices[**place].log(), **mark).is_empty()
    });
    let changes = changes.count();
    whole.print(&title(setting, "joiner started -> it holds 1 MiB"));
    from_member.print(&title(setting, "joiner's first member -> it holds 1 MiB"));
    println!("  {changes} of the other devices changed their role meanwhile");
    Some(())
}

pub(crate) fn churn(setting: &Daemons) -> Option<()> {
    let nodes = usize::from(setting.nodes);
    // 100 keys a second, spread over the devices as evenly as may be.
    let mut lab = Lab::measured(setting, |place| {
        let own = 100 / nodes + usize::from(place < 100 % nodes);
        format!("churn = {own}\nbytes = 32\n")
    })?;
    lab.group.start();
    let all = lab.all();
    lab.group.wait_settled(&all);
    std::thread::sleep(Duration::from_secs(10));
    let before: Vec<u64> = all.iter().map(|place| lab.sent(*place)).collect();
    std::thread::sleep(CHURN_FOR);
    let mut rates: Vec<u64> = all
        .iter()
        .map(|place| (lab.sent(*place) - before[*place]) / CHURN_FOR.as_secs())
        .collect();
    rates.sort_unstable();
    println!(
        "{}: {} B/s per device on average, {} to {}",
        title(
            setting,
            "sent while 100 keys of 32 bytes change each second"
        ),
        rates.iter().sum::<u64>() / rates.len() as u64,
        rates[0],
        rates[rates.len() - 1]
    );
    Some(())
}

pub(crate) fn count(setting: &Daemons) -> Option<()> {
    let nodes = usize::from(setting.nodes);
    assert!(
        nodes >= 4 && ADDITIONS.is_multiple_of(2 * nodes),
        "{nodes} devices do not fit"
    );
    let share = ADDITIONS / nodes;
    // These add one half, crash, and add the other half.
    let crashing = [nodes - 1, nodes - 2, nodes - 3];
    let half = |count: usize| format!("adds = {count}\ndump = true\n");
    let mut lab = Lab::measured(setting, |place| {
        half(if crashing.contains(&place) {
            share / 2
        } else {
            share
        })
    })?;
    let firewalls = lab.firewalls()?;
    let part = |split: &dyn Fn(usize) -> bool| {
        for (place, firewall) in firewalls.iter().enumerate() {
            let beyond = (0..nodes).filter(|other| split(*other) != split(place));
            let beyond: Vec<String> = beyond.map(consort_e2e::Switch::ipv4).collect();
            firewall.lose_from_all(&beyond);
        }
    };
    let heal = || {
        firewalls
            .iter()
            .for_each(consort_e2e::firewall::Firewall::open)
    };
    let crash = |lab: &mut Lab, place: usize| {
        let device = &mut lab.group.devices[place];
        let said = format!("added {}", share / 2);
        let last = until("the first half", || device.log().find(0, says(&said)));
        std::thread::sleep((last.at + SAFE_AFTER).saturating_duration_since(Instant::now()));
        device.kill();
        device.configure(&with_config(&half(share / 2)));
        device.start();
    };
    lab.group.start();
    lab.group.wait_members(&lab.all());
    part(&|place| place < nodes / 2);
    std::thread::sleep(Duration::from_secs(8));
    heal();
    std::thread::sleep(Duration::from_secs(2));
    part(&|place| place % 2 == 0);
    crash(&mut lab, crashing[0]);
    std::thread::sleep(Duration::from_secs(8));
    heal();
    crash(&mut lab, crashing[1]);
    crash(&mut lab, crashing[2]);
    let whole = format!("n={ADDITIONS}");
    let deadline = Instant::now() + PATIENCE;
    while sums(&lab).iter().any(|sum| *sum != whole) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    let first = sums(&lab);
    // Nothing is counted twice later either, when the restarted devices take over their past.
    std::thread::sleep(Duration::from_secs(30));
    let second = sums(&lab);
    println!(
        "{}: {}, 30 s later {}",
        title(setting, "10,000 additions, two partitions, three crashes"),
        summary(&first),
        summary(&second)
    );
    let exact = first.iter().chain(&second).all(|sum| *sum == whole);
    exact.then_some(())
}

/// The sum that each device shows.
fn sums(lab: &Lab) -> Vec<String> {
    let devices = lab.group.devices.iter();
    let sum = devices.map(|device| {
        let lines = device.log().since(0);
        let last = lines.iter().rev().find(|line| says("state ")(line));
        let sum = last.and_then(|line| line.message.rsplit("; ").next());
        sum.unwrap_or("nothing").to_owned()
    });
    sum.collect()
}

/// The different sums and how many devices have each.
fn summary(sums: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for sum in sums {
        *counts.entry(sum).or_default() += 1;
    }
    let counts = counts
        .iter()
        .map(|(sum, count)| format!("{sum} at {count}"));
    counts.collect::<Vec<_>>().join(", ")
}
