//! The bounds of every value in a plan.

use core::time::Duration;

use consort_proto::{PluginId, Version};

use super::error::PlanError;
use super::rate::{BURST_MIN, RATE_MIN};
use super::span::show;
use super::{
    Action, DevicePlan, Expect, Mode, PLAN_VERSION, Plan, PluginPlan, RatePlan, StatePlan, Step,
    Who, WritesPlan,
};
use crate::network::Link;

const NODES_MAX: usize = 2000;
const DURATION_MAX: Duration = Duration::from_secs(30 * 86_400);
const DELAY_MAX: Duration = Duration::from_secs(60);
const DRIFT_MAX: i32 = 50_000;
const RATE_MAX: u32 = 100_000;
const BANDWIDTH_MIN: u64 = 1_000;
/// The least time that is left after the faults' end.
const CALM_MIN: Duration = Duration::from_secs(30);
const STEPS_MAX: usize = 10_000;
const STRANGERS_MAX: u32 = 16;

type Checked = Result<(), PlanError>;

pub(super) fn plan(plan: &Plan) -> Checked {
    if plan.v != PLAN_VERSION {
        return Err(PlanError::value(
            "v",
            plan.v,
            "this program reads version 1",
        ));
    }
    if !(1..=NODES_MAX).contains(&plan.nodes) {
        let allowed = format!("1 to {NODES_MAX} devices");
        return Err(PlanError::value("nodes", plan.nodes, allowed));
    }
    if plan.duration.is_zero() || plan.duration > DURATION_MAX {
        let allowed = "more than nothing and at most 30d";
        return Err(PlanError::value("for", show(plan.duration), allowed));
    }
    if plan.spread > DELAY_MAX {
        return Err(PlanError::value("spread", show(plan.spread), "at most 1m"));
    }
    calm(plan)?;
    link("link", &plan.link)?;
    plan.send_rate.as_ref().map_or(Ok(()), send_rate)?;
    for (i, device) in plan.devices.iter().enumerate() {
        self::device(plan, &format!("device[{i}]"), device)?;
        let earlier = plan.devices[..i].iter().any(|d| d.index == device.index);
        if earlier {
            let key = format!("device[{i}].index");
            return Err(PlanError::value(
                key,
                device.index,
                "each device at most once",
            ));
        }
    }
    plugins("plugin", &plan.plugins)?;
    for (i, beat) in plan.beats.iter().enumerate() {
        let key = format!("beat[{i}]");
        plugin_known(plan, &key, beat.plugin.as_ref())?;
        payload(&key, beat.len)?;
        if beat.every < Duration::from_millis(1) {
            let key = format!("{key}.every");
            return Err(PlanError::value(key, show(beat.every), "at least 1ms"));
        }
    }
    for (i, writes) in plan.writes.iter().enumerate() {
        self::writes(plan, &format!("writes[{i}]"), writes)?;
    }
    if plan.steps.len() > STEPS_MAX {
        let allowed = format!("at most {STEPS_MAX} steps");
        return Err(PlanError::value("step", plan.steps.len(), allowed));
    }
    for (i, step) in plan.steps.iter().enumerate() {
        self::step(plan, &format!("step[{i}]"), step)?;
    }
    for (i, expect) in plan.expectations.iter().enumerate() {
        self::expect(plan, &format!("expect[{i}]"), expect)?;
    }
    Ok(())
}

fn calm(plan: &Plan) -> Checked {
    if plan.mode == Mode::Safety {
        return match plan.calm {
            Some(calm) => Err(PlanError::value(
                "calm",
                show(calm),
                "only with mode = \"liveness\"",
            )),
            None => Ok(()),
        };
    }
    let calm = plan.calm_at().unwrap_or_default();
    if plan.duration < calm + CALM_MIN {
        let allowed = format!(
            "faults end at {} and 30s must be left then: at least {}",
            show(calm),
            show(calm + CALM_MIN)
        );
        return Err(PlanError::value("for", show(plan.duration), allowed));
    }
    Ok(())
}

fn link(key: &str, link: &Link) -> Checked {
    let chances = [
        ("loss", link.loss),
        ("duplicate", link.duplicate),
        ("reorder", link.reorder),
        ("corrupt", link.corrupt),
        ("burst.loss", link.burst.map_or(0.0, |burst| burst.loss)),
    ];
    for (name, chance) in chances {
        if !(0.0..=1.0).contains(&chance) {
            let key = format!("{key}.{name}");
            return Err(PlanError::value(key, chance, "a chance, from 0.0 to 1.0"));
        }
    }
    let mut times = vec![("delay", link.delay), ("jitter", link.jitter)];
    if let Some(burst) = link.burst {
        times.extend([("burst.gap", burst.gap), ("burst.length", burst.length)]);
    }
    for (name, time) in times {
        if time > DELAY_MAX {
            return Err(PlanError::value(
                format!("{key}.{name}"),
                show(time),
                "at most 1m",
            ));
        }
    }
    match link.bandwidth {
        Some(rate) if rate < BANDWIDTH_MIN => Err(PlanError::value(
            format!("{key}.bandwidth"),
            rate,
            format!("bytes a second, at least {BANDWIDTH_MIN}"),
        )),
        Some(_) | None => Ok(()),
    }
}

fn send_rate(rate: &RatePlan) -> Checked {
    let values = [
        ("bytes_per_second", rate.bytes_per_second, RATE_MIN),
        (
            "peer_bytes_per_second",
            rate.peer_bytes_per_second,
            RATE_MIN,
        ),
        ("burst", rate.burst, BURST_MIN),
    ];
    for (name, value, least) in values {
        if value < least {
            let key = format!("send_rate.{name}");
            return Err(PlanError::value(key, value, format!("at least {least}")));
        }
    }
    Ok(())
}

fn device(plan: &Plan, key: &str, device: &DevicePlan) -> Checked {
    node(plan, &format!("{key}.index"), device.index)?;
    for seed in &device.seeds {
        node(plan, &format!("{key}.seeds"), *seed)?;
    }
    for name in &device.names {
        node(plan, &format!("{key}.names"), *name)?;
    }
    drift(&format!("{key}.drift_ppm"), device.drift_ppm)?;
    if !(1..=15).contains(&device.protocol) {
        let key = format!("{key}.protocol");
        return Err(PlanError::value(key, device.protocol, "1 to 15"));
    }
    if let Some(starts) = device.starts {
        within_run(plan, &format!("{key}.starts"), starts)?;
    }
    plugins(
        &format!("{key}.plugin"),
        device.plugins.as_deref().unwrap_or_default(),
    )
}

fn plugins(key: &str, plugins: &[PluginPlan]) -> Checked {
    for (i, plugin) in plugins.iter().enumerate() {
        if let Err(error) = PluginId::new(&plugin.id) {
            return Err(PlanError::value(
                format!("{key}[{i}].id"),
                &plugin.id,
                error.to_string(),
            ));
        }
        version(&format!("{key}[{i}].version"), &plugin.version)?;
        if let Some(kept) = &plugin.state {
            state(&format!("{key}[{i}].state"), kept)?;
        }
        if plugins[..i].iter().any(|other| other.id == plugin.id) {
            let key = format!("{key}[{i}].id");
            return Err(PlanError::value(
                key,
                &plugin.id,
                "each plugin at most once",
            ));
        }
    }
    Ok(())
}

fn state(key: &str, state: &StatePlan) -> Checked {
    let (secs, ms) = (Duration::from_secs, Duration::from_millis);
    let interval = state.interval.unwrap_or_else(|| secs(1));
    if !(ms(50)..=secs(3600)).contains(&interval) {
        let key = format!("{key}.interval");
        return Err(PlanError::value(key, show(interval), "50ms to 1h"));
    }
    let keep = state.keep_absent.unwrap_or_else(|| secs(86_400));
    // The group's lineage is renewed once a second, 24 times in this.
    if !(secs(25)..=secs(30 * 86_400)).contains(&keep) {
        let key = format!("{key}.keep_absent");
        return Err(PlanError::value(key, show(keep), "25s to 30d"));
    }
    Ok(())
}

fn writes(plan: &Plan, key: &str, writes: &WritesPlan) -> Checked {
    plugin_known(plan, key, writes.plugin.as_ref())?;
    if writes.every < Duration::from_millis(1) {
        let key = format!("{key}.every");
        return Err(PlanError::value(key, show(writes.every), "at least 1ms"));
    }
    if writes.kinds.is_empty() {
        let key = format!("{key}.kinds");
        return Err(PlanError::value(key, "[]", "at least one kind"));
    }
    let numbers = [
        ("keys", writes.keys as usize, 1, 10_000),
        (
            "len",
            writes.len,
            crate::message::PAYLOAD_MIN,
            consort_proto::STATE_VALUE_MAX,
        ),
        ("large", writes.large as usize, 0, 1000),
        ("expiring", writes.expiring as usize, 0, 100),
        ("deleting", writes.deleting as usize, 0, 100),
    ];
    for (name, number, least, most) in numbers {
        if !(least..=most).contains(&number) {
            let key = format!("{key}.{name}");
            return Err(PlanError::value(key, number, format!("{least} to {most}")));
        }
    }
    Ok(())
}

fn version(key: &str, text: &str) -> Checked {
    match text.parse::<Version>() {
        Ok(_) => Ok(()),
        Err(error) => Err(PlanError::value(key, text, error.to_string())),
    }
}

fn step(plan: &Plan, key: &str, step: &Step) -> Checked {
    within_run(plan, &format!("{key}.at"), step.at)?;
    match &step.action {
        Action::Start(who) => self::who(plan, &format!("{key}.start"), who),
        Action::Crash(who) => self::who(plan, &format!("{key}.crash"), who),
        Action::Restart(restart) => self::who(plan, &format!("{key}.restart.node"), &restart.node),
        Action::Stop(who) => self::who(plan, &format!("{key}.stop"), who),
        Action::Pause(who) => self::who(plan, &format!("{key}.pause"), who),
        Action::Suspend(who) => self::who(plan, &format!("{key}.suspend"), who),
        Action::Resume(who) => self::who(plan, &format!("{key}.resume"), who),
        Action::DiskFull(who) => self::who(plan, &format!("{key}.disk_full"), who),
        Action::DiskFree(who) => self::who(plan, &format!("{key}.disk_free"), who),
        Action::Readdress(who) => self::who(plan, &format!("{key}.readdress"), who),
        Action::Rotate(rotate) => self::who(plan, &format!("{key}.rotate.node"), &rotate.node),
        Action::Partition(sides) => sides
            .iter()
            .flatten()
            .try_for_each(|side| node(plan, &format!("{key}.partition"), *side)),
        Action::Cut(pair) | Action::Mend(pair) => {
            self::who(plan, &format!("{key}.from"), &pair.from)?;
            self::who(plan, &format!("{key}.to"), &pair.to)
        }
        Action::Heal(_) => Ok(()),
        Action::Link(change) => {
            for end in [&change.from, &change.to].into_iter().flatten() {
                self::who(plan, &format!("{key}.link"), end)?;
            }
            link(&format!("{key}.link"), &change.apply(&plan.link))
        }
        Action::Flap(_) | Action::Flood(_) | Action::Replay(_) => spread_out(plan, key, step),
        Action::CrashAtWrite(crash) => {
            self::who(plan, &format!("{key}.crash_at_write.node"), &crash.node)
        }
        Action::LoseState(lose) => self::who(plan, &format!("{key}.lose_state.node"), &lose.node),
        Action::ClockJump(jump) => self::who(plan, &format!("{key}.clock_jump.node"), &jump.node),
        Action::ClockDrift(change) => {
            drift(&format!("{key}.clock_drift.ppm"), change.ppm)?;
            self::who(plan, &format!("{key}.clock_drift.node"), &change.node)
        }
        Action::Clone(clone) => node(plan, &format!("{key}.clone.node"), clone.node),
        Action::Stranger(stranger) if stranger.count > STRANGERS_MAX => Err(PlanError::value(
            format!("{key}.stranger.count"),
            stranger.count,
            format!("at most {STRANGERS_MAX}"),
        )),
        Action::Stranger(_) => Ok(()),
        Action::Local(request) => super::hosted::local(plan, &format!("{key}.local"), request),
        Action::PluginFault(_) | Action::PluginDown(_) | Action::PluginUp(_) | Action::Send(_) => {
            plugin_step(plan, key, step)
        }
    }
}

/// Actions that go on for a while.
fn spread_out(plan: &Plan, key: &str, step: &Step) -> Checked {
    match &step.action {
        Action::Flap(flap) => {
            who(plan, &format!("{key}.flap.node"), &flap.node)?;
            if let Some(to) = &flap.to {
                who(plan, &format!("{key}.flap.to"), to)?;
            }
            let shortest = flap.up.min(flap.down);
            if shortest < Duration::from_millis(1) {
                let key = format!("{key}.flap");
                return Err(PlanError::value(
                    key,
                    show(shortest),
                    "up and down: at least 1ms",
                ));
            }
            Ok(())
        }
        Action::Flood(flood) => {
            who(plan, &format!("{key}.flood.to"), &flood.to)?;
            if flood.rate == 0 || flood.rate > RATE_MAX {
                let allowed = format!("datagrams a second, 1 to {RATE_MAX}");
                return Err(PlanError::value(
                    format!("{key}.flood.rate"),
                    flood.rate,
                    allowed,
                ));
            }
            Ok(())
        }
        Action::Replay(replay) => who(plan, &format!("{key}.replay.to"), &replay.to),
        _ => Ok(()),
    }
}

fn plugin_step(plan: &Plan, key: &str, step: &Step) -> Checked {
    let (key, nodes, plugin) = match &step.action {
        Action::PluginFault(fault) => (
            format!("{key}.plugin_fault"),
            &fault.node,
            fault.plugin.as_ref(),
        ),
        Action::PluginDown(down) => (
            format!("{key}.plugin_down"),
            &down.node,
            down.plugin.as_ref(),
        ),
        Action::PluginUp(up) => {
            let key = format!("{key}.plugin_up");
            if let Some(text) = &up.version {
                version(&format!("{key}.version"), text)?;
            }
            (key, &up.node, up.plugin.as_ref())
        }
        Action::Send(send) => {
            let key = format!("{key}.send");
            payload(&key, send.len)?;
            if let Some(to) = &send.to {
                who(plan, &format!("{key}.to"), to)?;
            }
            (key, &send.from, send.plugin.as_ref())
        }
        _ => return Ok(()),
    };
    who(plan, &format!("{key}.node"), nodes)?;
    plugin_known(plan, &key, plugin)
}

fn expect(plan: &Plan, key: &str, expect: &Expect) -> Checked {
    let conditions = [
        ("one_leader", expect.one_leader.is_some()),
        ("see_all", expect.see_all.is_some()),
        ("leads", expect.leads.is_some()),
        ("no_change", expect.no_change.is_some()),
        ("state", expect.state.is_some()),
        ("log", expect.log.is_some()),
        ("no_log", expect.no_log.is_some()),
        ("no_faults", expect.no_faults.is_some()),
    ];
    let given = conditions.iter().filter(|(_, given)| *given);
    let given: Vec<_> = given.map(|(name, _)| *name).collect();
    let [name] = given[..] else {
        let names: Vec<_> = conditions.iter().map(|(name, _)| *name).collect();
        let allowed = format!("exactly one of {}", names.join(", "));
        return Err(PlanError::value(key, format!("{given:?}"), allowed));
    };
    for nodes in expect.whos() {
        who(plan, &format!("{key}.{name}"), nodes)?;
    }
    if let Some(state) = &expect.state {
        super::hosted::check_state(plan, &format!("{key}.state"), state)?;
    }
    plugin_known(plan, key, expect.plugin.as_ref())?;
    let (within, lasting) = (expect.within.is_some(), expect.lasting.is_some());
    let fits = match name {
        "no_change" => lasting && !within,
        "no_log" | "no_faults" => !within,
        _ => !lasting,
    };
    if !fits {
        let allowed =
            "no_change takes `for`, no_log and no_faults may take it, the others take `within`";
        return Err(PlanError::value(key, name, allowed));
    }
    let after = expect.within.or(expect.lasting).unwrap_or_default();
    let end = expect.begins(plan.duration) + after;
    within_run(plan, &format!("{key}.at"), end)
}

pub(super) fn who(plan: &Plan, key: &str, who: &Who) -> Checked {
    match who {
        Who::Nodes(nodes) => nodes.iter().try_for_each(|index| node(plan, key, *index)),
        Who::Leader | Who::Followers | Who::All => Ok(()),
    }
}

/// Devices and, behind them, the copies and strangers that steps add.
fn node(plan: &Plan, key: &str, index: usize) -> Checked {
    let added: usize = plan
        .steps
        .iter()
        .map(|step| match &step.action {
            Action::Clone(_) => 1,
            Action::Stranger(stranger) => stranger.count as usize,
            _ => 0,
        })
        .sum();
    let count = plan.nodes + added;
    if index >= count {
        let allowed = format!("there are {count} devices, from 0 to {}", count - 1);
        return Err(PlanError::value(key, index, allowed));
    }
    Ok(())
}

fn drift(key: &str, ppm: i32) -> Checked {
    if ppm.unsigned_abs() > DRIFT_MAX.unsigned_abs() {
        let allowed = format!("-{DRIFT_MAX} to {DRIFT_MAX}");
        return Err(PlanError::value(key, ppm, allowed));
    }
    Ok(())
}

fn payload(key: &str, len: usize) -> Checked {
    if len > consort_proto::MAX_PAYLOAD {
        let allowed = format!("at most {} bytes", consort_proto::MAX_PAYLOAD);
        return Err(PlanError::value(format!("{key}.len"), len, allowed));
    }
    Ok(())
}

fn within_run(plan: &Plan, key: &str, at: Duration) -> Checked {
    if at > plan.duration {
        let allowed = format!("the run is over after {}", show(plan.duration));
        return Err(PlanError::value(key, show(at), allowed));
    }
    Ok(())
}

fn plugin_known(plan: &Plan, key: &str, plugin: Option<&String>) -> Checked {
    let Some(id) = plugin else {
        return Ok(());
    };
    let own = plan
        .devices
        .iter()
        .filter_map(|device| device.plugins.clone());
    let mut all = plan.plugins_or_default();
    all.extend(own.flatten());
    if all.iter().any(|plugin| plugin.id == *id) {
        return Ok(());
    }
    let names: Vec<_> = all.iter().map(|plugin| plugin.id.as_str()).collect();
    let allowed = format!("one of {}", names.join(", "));
    Err(PlanError::value(format!("{key}.plugin"), id, allowed))
}
