//! Plans for a plugin whose own code runs: what they may expect of it, and what they may not say.

use consort_proto::MAX_PAYLOAD;
use serde::{Deserialize, Serialize};

use super::check::who;
use super::error::PlanError;
use super::{Action, Expect, LocalRequest, Mode, Plan, PluginPlan, True, Who};

/// Bytes of a local request's topic, as plugin hosts have it.
const LOCAL_TOPIC_MAX: usize = 128;

/// A key of the group's replicated state. With none of the values given it must be there and the
/// same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateExpect {
    /// Which kind of state.
    pub kind: StateKind,
    /// Which key.
    pub key: String,
    /// With the kind `device`: whose state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// Whose view of it counts. Default: every device that is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Who>,
    /// The value, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// A text that is part of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// With the kind `counter`: the sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
    /// There is no such key anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<True>,
}

/// The kinds of replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    /// Written by anyone.
    Shared,
    /// Written by the leader.
    Leader,
    /// Written by its device.
    Device,
    /// Summed up.
    Counter,
}

/// A line of the plugin's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogExpect {
    /// A text that is part of the line.
    pub contains: String,
    /// Each of these devices writes it. Default: any one device does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Who>,
}

/// The digits of a value, if they are well formed.
pub(super) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

pub(super) fn check_state(plan: &Plan, key: &str, expect: &StateExpect) -> Result<(), PlanError> {
    let wrong = |name: &str, value: &dyn core::fmt::Display, allowed: &str| {
        Err(PlanError::value(format!("{key}.{name}"), value, allowed))
    };
    let device = expect.kind == StateKind::Device;
    match expect.of {
        Some(of) if !device => return wrong("of", &of, "only with kind = \"device\""),
        Some(of) if of >= plan.nodes => {
            let allowed = format!("there are {} devices, from 0 on", plan.nodes);
            return wrong("of", &of, &allowed);
        }
        None if device => return wrong("of", &"nothing", "with kind = \"device\": whose state"),
        Some(_) | None => {}
    }
    let values = [
        expect.text.is_some(),
        expect.hex.is_some(),
        expect.contains.is_some(),
        expect.sum.is_some(),
        expect.absent.is_some(),
    ];
    let given = values.iter().filter(|given| **given).count();
    if given > 1 {
        return wrong(
            "text",
            &given,
            "at most one of text, hex, contains, sum, absent",
        );
    }
    if let Some(sum) = expect.sum
        && expect.kind != StateKind::Counter
    {
        return wrong("sum", &sum, "only with kind = \"counter\"");
    }
    if expect.kind == StateKind::Counter && (values[0] || values[1] || values[2]) {
        return wrong("kind", &"counter", "a counter has a sum");
    }
    match &expect.hex {
        Some(hex) if bytes_of_hex(hex).is_none() => {
            wrong("hex", hex, "pairs of hexadecimal digits")
        }
        Some(_) | None => Ok(()),
    }
}

impl Expect {
    /// The devices it names.
    pub(super) fn whos(&self) -> impl Iterator<Item = &Who> {
        let state = self.state.as_ref().and_then(|state| state.on.as_ref());
        let log = self.log.as_ref().and_then(|log| log.on.as_ref());
        [
            self.one_leader.as_ref(),
            self.see_all.as_ref(),
            self.leads.as_ref(),
            self.no_change.as_ref(),
            state,
            log,
        ]
        .into_iter()
        .flatten()
    }

    /// The condition that needs a plugin's own code, if it has one.
    fn of_hosted(&self) -> Option<&'static str> {
        [
            ("state", self.state.is_some()),
            ("log", self.log.is_some()),
            ("no_log", self.no_log.is_some()),
            ("no_faults", self.no_faults.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

/// A request of a local program.
pub(super) fn local(plan: &Plan, key: &str, request: &LocalRequest) -> Result<(), PlanError> {
    who(plan, &format!("{key}.node"), &request.node)?;
    let topic = &request.topic;
    if topic.is_empty() || topic.len() > LOCAL_TOPIC_MAX || topic.chars().any(char::is_control) {
        let allowed = format!("1 to {LOCAL_TOPIC_MAX} bytes without control characters");
        return Err(PlanError::value(format!("{key}.topic"), topic, allowed));
    }
    if request.text.is_some() && request.hex.is_some() {
        let allowed = "at most one of text and hex";
        return Err(PlanError::value(key, "text and hex", allowed));
    }
    match request.payload() {
        None => {
            let text = request.hex.as_deref().unwrap_or_default();
            let allowed = "pairs of hexadecimal digits";
            Err(PlanError::value(format!("{key}.hex"), text, allowed))
        }
        Some(payload) if payload.len() > MAX_PAYLOAD => {
            let allowed = format!("at most {MAX_PAYLOAD} bytes");
            Err(PlanError::value(key, payload.len(), allowed))
        }
        Some(_) => Ok(()),
    }
}

impl LocalRequest {
    /// What it carries; none if the digits are no bytes.
    pub(super) fn payload(&self) -> Option<Vec<u8>> {
        match (&self.text, &self.hex) {
            (_, Some(hex)) => bytes_of_hex(hex),
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, None) => Some(Vec::new()),
        }
    }
}

/// A file of expectations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectations {
    #[serde(default)]
    expect: Vec<Expect>,
}

impl Plan {
    /// Adds the expectations of a text that has nothing else: `[[expect]]` tables.
    ///
    /// # Errors
    /// The text has another form, or an expectation does not fit this plan.
    pub fn expect_also(&mut self, text: &str) -> Result<(), PlanError> {
        let more: Expectations = toml::from_str(text).map_err(|error| PlanError::form(&error))?;
        let alone = Self {
            expectations: more.expect,
            ..self.clone()
        };
        alone.check()?;
        self.expectations.extend(alone.expectations);
        Ok(())
    }

    /// Checks that nothing in the plan asks for a plugin's own code.
    ///
    /// # Errors
    /// The first thing that does.
    pub fn check_scripted(&self) -> Result<(), PlanError> {
        let allowed = "only where a plugin's file is simulated: consort sim FILE.wasm";
        for (i, step) in self.steps.iter().enumerate() {
            if matches!(step.action, Action::Local(_)) {
                let key = format!("step[{i}].local");
                return Err(PlanError::value(key, "given", allowed));
            }
        }
        for (i, expect) in self.expectations.iter().enumerate() {
            if let Some(name) = expect.of_hosted() {
                let key = format!("expect[{i}].{name}");
                return Err(PlanError::value(key, "given", allowed));
            }
        }
        Ok(())
    }

    /// Checks that the plan says nothing of plugins that only a scripted one does: the plugin that
    /// runs is the one of the file, and it alone decides what it sends and writes.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check_hosted(&self) -> Result<(), PlanError> {
        let unfit = |key: String, value: &str, allowed: &str| {
            Err(PlanError::value(key, value, allowed.to_owned()))
        };
        let file = "the plugin is the one of the file, with its plugin.toml";
        if !self.plugins.is_empty() {
            return unfit("plugin".into(), "given", file);
        }
        if let Some(device) = self.devices.iter().find(|device| device.plugins.is_some()) {
            return unfit(format!("device {}.plugin", device.index), "given", file);
        }
        let alone = "the plugin's own code decides what it sends and writes";
        if !self.beats.is_empty() {
            return unfit("beat".into(), "given", alone);
        }
        if !self.writes.is_empty() {
            return unfit("writes".into(), "given", alone);
        }
        if self.mode == Mode::Liveness {
            let allowed = "safety with expectations, where a plugin's own code runs";
            return unfit("mode".into(), "liveness", allowed);
        }
        for (i, step) in self.steps.iter().enumerate() {
            let key = |name: &str| format!("step[{i}].{name}");
            match &step.action {
                Action::Send(_) => return unfit(key("send"), "given", alone),
                Action::PluginFault(fault) if fault.back.is_some() => {
                    let allowed = "the plugin's host decides when it comes back";
                    return unfit(key("plugin_fault.back"), "given", allowed);
                }
                Action::PluginUp(up) if up.version.is_some() || up.priority.is_some() => {
                    let allowed = "without version and priority, which the file decides";
                    return unfit(key("plugin_up"), "given", allowed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The plan with the plugin whose own code runs.
    pub(super) fn with_hosted(&self, spec: &consort_proto::PluginSpec) -> Self {
        let mut plan = self.clone();
        plan.plugins = vec![PluginPlan {
            id: spec.id.to_string(),
            version: spec.version.to_string(),
            priority: spec.priority,
            preempt: spec.preempt,
            state: None,
        }];
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(bytes_of_hex("00 fF a1"), Some(vec![0, 255, 0xa1]));
        assert_eq!(bytes_of_hex(""), Some(vec![]));
        assert_eq!(bytes_of_hex("abc"), None);
        assert_eq!(bytes_of_hex("0g"), None);
    }

    #[test]
    fn what_scripted_plugins_do_is_refused_where_code_runs() {
        let head = "v = 1\nnodes = 3\nfor = \"9s\"\n";
        for (rest, word) in [
            ("[[plugin]]\nid = \"app\"\n", "plugin"),
            ("[[beat]]\nevery = \"1s\"\n", "beat"),
            ("[[writes]]\nevery = \"1s\"\n", "writes"),
            (
                "[[step]]\nat = \"1s\"\nsend = { from = 0 }\n",
                "step[0].send",
            ),
            (
                "[[step]]\nat = \"1s\"\nplugin_fault = { node = 0, back = \"1s\" }\n",
                "step[0].plugin_fault.back",
            ),
            (
                "[[step]]\nat = \"1s\"\nplugin_up = { node = 0, priority = 3 }\n",
                "step[0].plugin_up",
            ),
        ] {
            let plan = Plan::from_toml(&format!("{head}{rest}")).expect(rest);
            let error = plan.check_hosted().expect_err(rest).to_string();
            assert!(error.contains(word), "{error}");
            assert_eq!(plan.check_scripted(), Ok(()));
        }
    }

    #[test]
    fn expectations_of_code_are_read_and_written_back() {
        let head = "v = 1\nnodes = 3\nfor = \"9s\"\n";
        for rest in [
            "[[expect]]\nat = \"end\"\nstate = { kind = \"shared\", key = \"a\", text = \"b\" }\n",
            "[[expect]]\nat = \"1s\"\nwithin = \"2s\"\nlog = { contains = \"x\", on = \"all\" }\n",
            "[[expect]]\nno_log = \"error\"\n",
            "[[expect]]\nno_faults = true\nfor = \"3s\"\n",
            "[[expect]]\nat = \"end\"\nstate = { kind = \"counter\", key = \"a\", sum = 4 }\n",
        ] {
            let plan = Plan::from_toml(&format!("{head}{rest}")).expect(rest);
            assert_eq!(Plan::from_toml(&plan.to_toml()).as_ref(), Ok(&plan));
            assert!(plan.check_scripted().is_err(), "{rest}");
            assert_eq!(plan.check_hosted(), Ok(()));
        }
        for (rest, word) in [
            ("no_log = \"loud\"\n", "loud"),
            ("no_log = \"error\"\nwithin = \"1s\"\n", "no_log"),
            (
                "state = { kind = \"shared\", key = \"a\", sum = 1 }\n",
                "sum",
            ),
            ("state = { kind = \"device\", key = \"a\" }\n", "of"),
            (
                "state = { kind = \"shared\", key = \"a\", hex = \"abc\" }\n",
                "hex",
            ),
            ("state = { kind = \"shared\", kee = \"a\" }\n", "kee"),
            (
                "log = { contains = \"x\" }\nno_faults = true\n",
                "exactly one",
            ),
            (
                "at = \"end\"\nwithin = \"1s\"\none_leader = \"all\"\n",
                "over after",
            ),
        ] {
            let error = Plan::from_toml(&format!("{head}[[expect]]\n{rest}"));
            let error = error.expect_err(rest).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
