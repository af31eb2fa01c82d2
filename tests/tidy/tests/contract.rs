//! The contract may grow, and never so that a plugin built against an earlier 0.1 of it stops
//! working: `wit/` is held against each copy that is kept beside the plugins in
//! `tests/guests/compat`.
//!
//! wit-component tells whether a component of the earlier world still fits the present one. The
//! contract promises more: what a plugin may export is asked by interface, so interfaces that
//! plugins export never gain a function, and types are frozen.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use wit_parser::{
    InterfaceId, PackageId, Resolve, SourceMap, Type, TypeDefKind, TypeId, WorldId, WorldItem,
};

/// The files of a contract, by name.
type Texts = BTreeMap<String, String>;

/// The worlds that plugins are built for, and whether those gain exports: what a plugin of the
/// world `plugin` leaves out, the host does not call.
const WORLDS: [(&str, bool); 3] = [
    ("host-imports", false),
    ("minimal", false),
    ("plugin", true),
];

fn read(folder: &Path) -> Texts {
    let files = std::fs::read_dir(folder).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let texts: Texts = paths
        .filter(|path| path.extension().is_some_and(|end| end == "wit"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(!texts.is_empty(), "{} has no contract", folder.display());
    texts
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The kept copies, by name.
fn kept() -> Vec<(String, Texts)> {
    let folders = std::fs::read_dir(root().join("tests/guests/compat")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let kept: Vec<_> = folders
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, read(&path.join("wit")))
        })
        .collect();
    assert!(!kept.is_empty());
    kept
}

/// Two contracts in one resolver.
struct Pair {
    resolve: Resolve,
    old: PackageId,
    new: PackageId,
}

impl Pair {
    fn new(old: &Texts, new: &Texts) -> Self {
        let mut resolve = Resolve::default();
        let mut push = |texts: &Texts, version: &str| {
            let mut sources = SourceMap::new();
            for (name, text) in texts {
                // One resolver has no two packages of one name and version.
                let text = text.replace("consort:plugin@0.1.0", version);
                sources.push_str(name, text);
            }
            let group = sources.parse().map_err(|(_, error)| error).unwrap();
            resolve.push_group(group).unwrap()
        };
        let old = push(old, "consort:plugin@0.1.0");
        let new = push(new, "consort:plugin@0.1.1");
        Self { resolve, old, new }
    }

    fn world(&self, package: PackageId, name: &str) -> WorldId {
        self.resolve.packages[package].worlds[name]
    }

    fn interfaces(&self, package: PackageId) -> BTreeMap<&str, InterfaceId> {
        let interfaces = self.resolve.packages[package].interfaces.iter();
        interfaces.map(|(name, id)| (name.as_str(), *id)).collect()
    }

    /// The names of a world's imports, or of its exports.
    fn names(&self, world: WorldId, exports: bool) -> BTreeSet<&str> {
        let world = &self.resolve.worlds[world];
        let items = if exports {
            world.exports.values()
        } else {
            world.imports.values()
        };
        let ids = items.filter_map(|item| match item {
            WorldItem::Interface { id, .. } => Some(*id),
            _ => None,
        });
        ids.filter_map(|id| self.resolve.interfaces[id].name.as_deref())
            .collect()
    }

    /// A function's parameters and result.
    fn signature(&self, interface: InterfaceId, function: &str) -> Option<String> {
        let function = self.resolve.interfaces[interface].functions.get(function)?;
        let params = function.params.iter();
        let params: Vec<String> = params
            .map(|param| format!("{}: {}", param.name, self.shown(param.ty)))
            .collect();
        let result = function.result.map(|result| self.shown(result));
        Some(format!("({}) -> {result:?}", params.join(", ")))
    }

    /// A type as one writes it; one with a name by that.
    fn shown(&self, shown: Type) -> String {
        match shown {
            Type::Id(id) => match &self.resolve.types[id].name {
                Some(name) => name.clone(),
                None => self.definition(id),
            },
            plain => format!("{plain:?}"),
        }
    }

    /// What a type consists of, in order.
    fn definition(&self, id: TypeId) -> String {
        let optional = |of: &Option<Type>| of.map(|of| self.shown(of));
        match &self.resolve.types[id].kind {
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                let fields =
                    fields.map(|field| format!("{}: {}", field.name, self.shown(field.ty)));
                format!("record {:?}", fields.collect::<Vec<_>>())
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                let cases = cases.map(|case| format!("{}({:?})", case.name, optional(&case.ty)));
                format!("variant {:?}", cases.collect::<Vec<_>>())
            }
            TypeDefKind::Enum(of) => {
                let cases = of.cases.iter().map(|case| case.name.as_str());
                format!("enum {:?}", cases.collect::<Vec<_>>())
            }
            TypeDefKind::Tuple(tuple) => {
                let types = tuple.types.iter().map(|of| self.shown(*of));
                format!("tuple {:?}", types.collect::<Vec<_>>())
            }
            TypeDefKind::Option(of) => format!("option {}", self.shown(*of)),
            TypeDefKind::List(of) => format!("list {}", self.shown(*of)),
            TypeDefKind::Result(result) => {
                format!(
                    "result {:?} {:?}",
                    optional(&result.ok),
                    optional(&result.err)
                )
            }
            TypeDefKind::Type(of) => self.shown(*of),
            other => panic!("the contract has no {}", other.as_str()),
        }
    }

    /// What is against the contract's promise.
    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let (old, new) = (self.interfaces(self.old), self.interfaces(self.new));
        let exported = self.names(self.world(self.old, "plugin"), true);
        for (name, old) in old {
            match new.get(name) {
                Some(new) => self.compare(name, old, *new, exported.contains(name), &mut breaches),
                None => breaches.push(format!("{name} is gone")),
            }
        }
        for (world, grows) in WORLDS {
            let (old, new) = (self.world(self.old, world), self.world(self.new, world));
            for exports in [false, true] {
                let (old, new) = (self.names(old, exports), self.names(new, exports));
                let gone = old.difference(&new);
                breaches.extend(gone.map(|name| format!("{world} has no {name}")));
                if exports && !grows {
                    let added = new.difference(&old);
                    breaches.extend(added.map(|name| format!("{world} demands {name}")));
                }
            }
        }
        breaches
    }

    fn compare(
        &self,
        name: &str,
        old: InterfaceId,
        new: InterfaceId,
        exported: bool,
        breaches: &mut Vec<String>,
    ) {
        let (before, after) = (&self.resolve.interfaces[old], &self.resolve.interfaces[new]);
        for function in before.functions.keys() {
            let before = self.signature(old, function);
            match self.signature(new, function) {
                None => breaches.push(format!("{name}.{function} is gone")),
                after if after == before => {}
                after => breaches.push(format!("{name}.{function}: {before:?}, then {after:?}")),
            }
        }
        if exported {
            let functions = after.functions.keys();
            let added = functions.filter(|function| !before.functions.contains_key(*function));
            breaches.extend(added.map(|function| format!("{name} gains {function}")));
        }
        for (of, id) in &before.types {
            let before = self.definition(*id);
            match after.types.get(of).map(|id| self.definition(*id)) {
                None => breaches.push(format!("{name}.{of} is gone")),
                Some(after) if after == before => {}
                Some(after) => breaches.push(format!("{name}.{of}: {before}, then {after}")),
            }
        }
    }

    /// What wit-component has against the new contract.
    fn semver_breaches(mut self) -> Vec<String> {
        let mut breaches = Vec::new();
        for (name, grows) in WORLDS {
            let (old, new) = (self.world(self.old, name), self.world(self.new, name));
            if grows {
                let before: BTreeSet<String> = self
                    .names(old, true)
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                let interfaces = &self.resolve.interfaces;
                let stays = |item: &WorldItem| match item {
                    WorldItem::Interface { id, .. } => {
                        let name = interfaces[*id].name.as_ref();
                        name.is_some_and(|name| before.contains(name))
                    }
                    _ => true,
                };
                self.resolve.worlds[new]
                    .exports
                    .retain(|_, item| stays(item));
            }
            let check = wit_component::semver_check(self.resolve.clone(), old, new);
            breaches.extend(check.err().map(|error| format!("{name}: {error:#}")));
        }
        breaches
    }
}

#[test]
fn the_contract_has_only_grown() {
    let present = read(&root().join("wit"));
    for (name, kept) in kept() {
        assert_eq!(Pair::new(&kept, &present).breaches(), [""; 0], "{name}");
        let breaches = Pair::new(&kept, &present).semver_breaches();
        assert_eq!(breaches, [""; 0], "{name}");
    }
}

/// The contract with one text in the place of another.
fn changed(texts: &Texts, from: &str, to: &str) -> Texts {
    let changed = texts.iter();
    let changed: Texts = changed
        .map(|(name, text)| (name.clone(), text.replacen(from, to, 1)))
        .collect();
    assert_ne!(changed, *texts, "{from} is in it");
    changed
}

#[test]
fn growth_is_let_through() {
    let present = read(&root().join("wit"));
    let grown = changed(
        &present,
        "send-to-all: func(",
        "reach: func() -> u32; send-to-all: func(",
    );
    let grown = changed(
        &grown,
        "interface timers {",
        "interface dreams { on-dream: func(); } interface timers {",
    );
    let grown = changed(&grown, "export timers;", "export timers; export dreams;");
    assert_eq!(Pair::new(&present, &grown).breaches(), [""; 0]);
    assert_eq!(Pair::new(&present, &grown).semver_breaches(), [""; 0]);
}

#[test]
fn each_breach_is_found() {
    let present = read(&root().join("wit"));
    let changes = [
        (
            "on-timer: func(",
            "on-tick: func(); on-timer: func(",
            "timers gains on-tick",
            true,
        ),
        (
            "is-self: bool,",
            "is-self: bool, age: u32,",
            "types.peer: record",
            true,
        ),
        ("is-self: bool,\n", "", "types.peer: record", true),
        (
            "no-leader,",
            "no-leader, no-network,",
            "messages.send-error: variant",
            true,
        ),
        (
            "debug, info,",
            "debug, notice, info,",
            "log.level: enum",
            true,
        ),
        (
            "expired,",
            "expired, hidden,",
            "state-events.outcome: variant",
            true,
        ),
        (
            "is-leader: func() -> bool;",
            "",
            "group.is-leader is gone",
            true,
        ),
        (
            "period: u64, token",
            "period: u32, token",
            "clock.wake-every: ",
            true,
        ),
        (
            "prefix: string) -> list<string>;",
            "prefix: string) -> string;",
            "leader-state.keys: ",
            true,
        ),
        ("import counters;", "", "host-imports has no counters", true),
        (
            "export lifecycle;",
            "export lifecycle; export role;",
            "minimal demands role",
            true,
        ),
        // What nobody demands of a plugin any more looks like growth to wit-component.
        ("export timers;", "", "plugin has no timers", false),
    ];
    for (from, to, breach, to_semver) in changes {
        let new = changed(&present, from, to);
        let breaches = Pair::new(&present, &new).breaches();
        assert!(
            breaches.iter().any(|found| found.starts_with(breach)),
            "{breach}: {breaches:?}"
        );
        let found = !Pair::new(&present, &new).semver_breaches().is_empty();
        assert_eq!(found, to_semver, "{breach}");
    }
}
