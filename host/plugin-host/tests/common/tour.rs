//! The tour of a language under test: an instance that is driven by hand, and the payloads that
//! the tours understand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use consort_plugin_host::{
    ClockReading, Code, Instance, InstanceSettings, Level, Limits, LogSink, Outcome, StartError,
};
use consort_proto::{Origin, PluginCommand, PluginEvent, StateChange, StateOutcome, StateUpdate};

use super::{EPOCH_US, device, plugin_id, tenure, this_device};

/// The plugins in the folder that a variable names, by language. Those that `CONSORT_LANGUAGES` lists
/// must be among them, or one that was built would go untested.
pub(crate) fn plugins(variable: &str) -> Option<Vec<(String, PathBuf)>> {
    let folder = PathBuf::from(std::env::var_os(variable)?);
    let files = std::fs::read_dir(&folder).expect("the variable names a folder");
    let found: BTreeMap<String, PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    let wanted = std::env::var("CONSORT_LANGUAGES").expect("it lists what was built");
    let wanted: BTreeSet<&str> = wanted.split_whitespace().collect();
    let there: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let missing: Vec<_> = wanted.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} in {}", folder.display());
    Some(found.into_iter().collect())
}

#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) Arc<Mutex<Vec<String>>>);

impl LogSink for Lines {
    fn line(&mut self, level: Level, text: &str) {
        let mark = if level == Level::Info {
            String::new()
        } else {
            format!("{level:?}: ")
        };
        self.0.lock().unwrap().push(format!("{mark}{text}"));
    }
}

/// An instance and its log.
pub(crate) struct Tour {
    pub(crate) instance: Instance,
    pub(crate) lines: Lines,
}

pub(crate) fn at(offset_us: u64) -> ClockReading {
    ClockReading {
        group_time_us: EPOCH_US + offset_us,
        synchronised: true,
        error_bound_us: 250,
    }
}

impl Tour {
    pub(crate) fn make(
        code: &Code,
        config: &[(&str, &str)],
    ) -> (Self, Result<Outcome, StartError>) {
        let lines = Lines::default();
        let config = config
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let settings = InstanceSettings {
            plugin: plugin_id("tour"),
            this_device: this_device(),
            config: Arc::new(config.collect::<BTreeMap<String, String>>()),
            limits: Limits::default(),
            files: BTreeMap::new(),
            local: true,
            seed: [7; 32],
            run: 0,
            log: Box::new(lines.clone()),
        };
        let mut instance = Instance::new(code, settings, at(0)).unwrap();
        let setup = instance.setup(at(0));
        (Self { instance, lines }, setup)
    }

    pub(crate) fn new(code: &Code) -> Self {
        let (tour, setup) = Self::make(code, &[("greeting", "hi")]);
        if let Err(error) = setup {
            panic!("{error}; {:?}", tour.lines.0.lock().unwrap());
        }
        tour
    }

    pub(crate) fn deliver(&mut self, event: PluginEvent) -> Vec<PluginCommand> {
        match self.instance.deliver(&event, at(1_000)) {
            Ok(outcome) => outcome.commands,
            Err(fault) => panic!("{fault}; {:?}", self.lines.0.lock().unwrap()),
        }
    }

    pub(crate) fn ask(&mut self, payload: Vec<u8>) -> Vec<PluginCommand> {
        self.deliver(message(payload))
    }

    pub(crate) fn fire(&mut self, offset_us: u64) {
        let (outcome, result) = self.instance.fire_timers(at(offset_us));
        result.unwrap();
        assert_eq!(outcome, Outcome::default());
    }

    /// The lines since the last look.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().drain(..).collect()
    }

    #[track_caller]
    pub(crate) fn expect(&self, expected: &[&str]) {
        assert_eq!(self.take_lines(), expected);
    }
}

pub(crate) fn message(payload: Vec<u8>) -> PluginEvent {
    PluginEvent::PeerMessage {
        sender: device(2),
        payload: payload.into(),
    }
}

pub(crate) fn from_leader(payload: Vec<u8>) -> PluginEvent {
    PluginEvent::LeaderMessage {
        sender: tenure(device(2), 3),
        payload: payload.into(),
    }
}

/// MessagePack of a short text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0xa0 | u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

/// MessagePack of `{"op": op}`.
pub(crate) fn op(op: &str) -> Vec<u8> {
    [vec![0x81], text("op"), text(op)].concat()
}

pub(crate) fn hello(from: &str) -> Vec<u8> {
    [
        vec![0x82],
        text("op"),
        text("hello"),
        text("from"),
        text(from),
    ]
    .concat()
}

/// What the node tells of the group's state.
pub(crate) fn update(changes: impl Into<Vec<StateChange>>, handled: u32) -> PluginEvent {
    PluginEvent::State(StateUpdate {
        changes: changes.into(),
        handled,
        room: u64::MAX,
        whole: false,
    })
}

pub(crate) fn put(origin: Origin, key: &str, value: Vec<u8>) -> StateChange {
    let outcome = StateOutcome::Put {
        value: value.into(),
        expires_at: None,
    };
    change(origin, key, outcome)
}

pub(crate) fn change(origin: Origin, key: &str, outcome: StateOutcome) -> StateChange {
    StateChange {
        origin,
        key: key.into(),
        outcome,
        own: false,
    }
}

/// Values at the edges of every form, each in its shortest encoding.
pub(crate) fn values() -> Vec<Vec<u8>> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    let mut values: Vec<_> = [
        "c0",
        "c2",
        "c3",
        "00",
        "7f",
        "cc80",
        "ccff",
        "cd0100",
        "cdffff",
        "ce00010000",
        "ceffffffff",
        "cf0000000100000000",
        "cf0020000000000001",
        "cfffffffffffffffff",
        "ff",
        "e0",
        "d0df",
        "d080",
        "d1ff7f",
        "d18000",
        "d2ffff7fff",
        "d280000000",
        "d3ffffffff7fffffff",
        "d38000000000000000",
        "cb3ff8000000000000",
        "cbbfd0000000000000",
        "a0",
        "a2c3bc",
        "a7e282acf09f9880",
        "c400",
        "c403010200",
        "90",
        "80",
        "9193",
        "82a16101a16291c3",
    ]
    .map(hex)
    .into();
    // An array whose one element is an array of three.
    let array = values
        .iter()
        .position(|value| *value == [0x91, 0x93])
        .unwrap();
    values[array].extend([1, 2, 3]);
    for length in [31_usize, 32, 255, 256, 1_000] {
        let letters = vec![b'x'; length];
        let mut head = match length {
            0..32 => vec![0xa0 | length as u8],
            32..256 => vec![0xd9, length as u8],
            _ => vec![0xda, (length >> 8) as u8, length as u8],
        };
        head.extend(&letters);
        values.push(head);
        let mut binary = match length {
            0..256 => vec![0xc4, length as u8],
            _ => vec![0xc5, (length >> 8) as u8, length as u8],
        };
        binary.extend(&letters);
        values.push(binary);
    }
    values
}
