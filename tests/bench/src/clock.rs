//! How far the group times of daemons in network namespaces lie apart.
//!
//! All daemons of a machine share the suspend-aware monotonic clock, and each tells by its control
//! socket how its group time follows from it. So group time on each is reckoned for one and the
//! same instant, and what differs from the reference's is the error, to the microsecond.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use consort_e2e::{Device, programs, wait};
use consort_proto::{ClockView, Time};

use crate::Daemons;
use crate::daemons::{Lab, title};

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(500);
/// What the clocks get to find their rates, and what a change of leader is looked at for.
const SETTLE: Duration = Duration::from_secs(20);
const AFTER_DEATH: Duration = Duration::from_secs(5);

/// Errors against the reference, in microseconds, and how many exceed what was stated.
#[derive(Debug, Default)]
struct Errors {
    us: Vec<u64>,
    bounds: Vec<u64>,
    beyond: usize,
}

impl Errors {
    fn add(&mut self, error: u64, bound: u64) {
        self.us.push(error);
        self.bounds.push(bound);
        // A microsecond for the rounding of each clock.
        self.beyond += usize::from(error > bound.saturating_add(2));
    }

    fn print(mut self, name: &str) {
        self.us.sort_unstable();
        self.bounds.sort_unstable();
        let at = |sorted: &[u64], percent: usize| match (sorted.len() * percent).div_ceil(100) {
            0 => 0,
            rank => sorted[rank - 1],
        };
        print!(
            "{name}: {} samples, p50 {} µs, p99 {} µs, most {} µs",
            self.us.len(),
            at(&self.us, 50),
            at(&self.us, 99),
            at(&self.us, 100),
        );
        match self.bounds.last() {
            Some(&u64::MAX) | None => println!(),
            Some(_) => println!(
                "; stated bound p50 {} µs, {} beyond it",
                at(&self.bounds, 50),
                self.beyond
            ),
        }
    }
}

/// Idle, under broadcasts, and across the leader's death.
pub(crate) fn clock(setting: &Daemons) -> Option<()> {
    let mut lab = Lab::new(setting)?;
    lab.group.start();
    let all = lab.all();
    lab.group.wait_settled(&all);
    std::thread::sleep(SETTLE);
    watch(&lab, &all, setting.times).print(&title(setting, "group clock, idle"));
    let leader = lab.group.wait_settled(&all);
    let before = lines(&lab, &all);
    lab.group.devices[leader].kill();
    let rest = lab.group.all_but(&[leader]);
    across(&lab, &rest, &before).print(&title(setting, "group clock across the leader's death"));
    lab.group.wait_one_leader(&rest);
    lab.group.devices[leader].start();
    lab.group.wait_settled(&all);
    for device in &lab.group.devices {
        device.install(&programs::guest("talker"), "talker.wasm");
    }
    std::thread::sleep(SETTLE);
    watch(&lab, &all, setting.times).print(&title(
        setting,
        "group clock, 250 broadcasts of 1 kB a second",
    ));
    Some(())
}

/// Looks again and again while nothing changes.
fn watch(lab: &Lab, devices: &[usize], times: u32) -> Errors {
    let mut errors = Errors::default();
    for _ in 0..times {
        std::thread::sleep(EVERY);
        let views = lines(lab, devices);
        let now = instant(&views);
        let reference = views.iter().find(|view| is_reference(view));
        let Some(reference) = reference.map(|view| view.group_time(now)) else {
            continue;
        };
        for view in views.iter().filter(|view| !is_reference(view)) {
            if view.synchronised {
                let error = view.group_time(now).abs_diff(reference);
                errors.add(error, view.error_bound_at(now));
            }
        }
    }
    errors
}

/// After the leader's death: against the line of the leader that is gone, as if it went on.
fn across(lab: &Lab, rest: &[usize], before: &[ClockView]) -> Errors {
    let gone = before.iter().find(|view| is_reference(view));
    let gone = *gone.expect("one was the reference");
    let mut errors = Errors::default();
    let began = Instant::now();
    while began.elapsed() < AFTER_DEATH {
        std::thread::sleep(Duration::from_millis(100));
        let views = lines(lab, rest);
        let now = instant(&views);
        for view in &views {
            // Each counts, whether it says how good it is or not.
            errors.add(
                view.group_time(now).abs_diff(gone.group_time(now)),
                u64::MAX,
            );
        }
    }
    errors
}

fn is_reference(view: &ClockView) -> bool {
    view.synchronised && view.error_bound == 0 && view.bound_ppb == 0
}

/// An instant at which all lines hold.
fn instant(views: &[ClockView]) -> Time {
    let latest = views.iter().map(|view| view.at).max();
    Time::from_micros(latest.unwrap_or(0))
}

fn lines(lab: &Lab, devices: &[usize]) -> Vec<ClockView> {
    let line = |place: &usize| line(&lab.group.devices[*place]);
    devices.iter().map(line).collect()
}

/// A daemon's line of group time.
fn line(device: &Device) -> ClockView {
    let status = wait::until("a status", || status(device));
    let clock = &status["clock"];
    let number = |key: &str| clock["line"][key].as_u64().expect("a number");
    let rate = |key: &str| {
        let ppb = clock["line"][key].as_i64().expect("a number");
        i32::try_from(ppb).expect("within its bounds")
    };
    let at = Time::from_micros(number("at_us"));
    let bound = clock["line"]["error_bound_us"].as_u64();
    ClockView {
        rate_ppb: rate("rate_ppb"),
        slew_ppb: rate("slew_ppb"),
        slew_us: number("slew_us"),
        synchronised: clock["synchronised"] == true,
        error_bound: bound.unwrap_or(u64::MAX),
        bound_ppb: u32::try_from(number("bound_ppb")).expect("within its bounds"),
        ..ClockView::free_running(at, number("group_at_us"))
    }
}

/// Asks a daemon for its status, without a process of its own for each question.
fn status(device: &Device) -> Option<serde_json::Value> {
    let mut socket = UnixStream::connect(device.folder().join("data/control.sock")).ok()?;
    let request = "GET /v1/status HTTP/1.1\r\nHost: consort\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
