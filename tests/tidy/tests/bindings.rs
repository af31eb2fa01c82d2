//! Every function of the contract is in every SDK: whoever changes `wit/` is told where the bindings
//! lack it. Zig's and AssemblyScript's, whose exports are by hand, are held to the functions' types as well,
//! as the canonical ABI passes them.
//!
//! Rust makes its bindings at every build, so for it the layer above is looked at. What this workspace makes
//! itself is compared in `generated.rs`, what wit-bindgen and componentize-py have made by
//! `cargo xtask test --guests`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use consort_tidy::bindings::{camel, pascal, resolved, snake};
use consort_tidy::{assert_none, root, source};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{InterfaceId, Resolve, WorldItem};

/// A function of the contract.
#[derive(Debug)]
struct Function {
    interface: String,
    name: String,
    /// Whether plugins call it; otherwise the host does.
    imported: bool,
    /// Its parameters and its result in bits, as they are passed.
    bits: (Vec<u32>, Vec<u32>),
}

impl Function {
    /// The module's name.
    fn module(&self) -> String {
        format!("consort:plugin/{}@0.1.0", self.interface)
    }

    /// The name of an export.
    fn export(&self) -> String {
        format!("{}@0.1.0#{}", self.interface, self.name)
    }
}

/// All functions of the world that the SDKs are for.
fn functions(resolve: &Resolve) -> Vec<Function> {
    let (_, world) = resolve
        .worlds
        .iter()
        .find(|(_, world)| world.name == "plugin")
        .unwrap();
    let of = |item: &WorldItem, imported: bool| match item {
        WorldItem::Interface { id, .. } => of_interface(resolve, *id, imported),
        other => panic!("the world has more than interfaces: {other:?}"),
    };
    let imports = world.imports.values().flat_map(|item| of(item, true));
    let exports = world.exports.values().flat_map(|item| of(item, false));
    imports.chain(exports).collect()
}

fn of_interface(resolve: &Resolve, id: InterfaceId, imported: bool) -> Vec<Function> {
    let interface = &resolve.interfaces[id];
    let variant = if imported {
        AbiVariant::GuestImport
    } else {
        AbiVariant::GuestExport
    };
    let functions = interface.functions.iter().map(|(name, function)| {
        let signature = resolve.wasm_signature(variant, function);
        Function {
            interface: interface.name.clone().unwrap(),
            name: name.clone(),
            imported,
            bits: (
                signature.params.iter().map(bits).collect(),
                signature.results.iter().map(bits).collect(),
            ),
        }
    });
    functions.collect()
}

fn bits(of: &WasmType) -> u32 {
    match of {
        WasmType::I32 | WasmType::F32 | WasmType::Pointer | WasmType::Length => 32,
        WasmType::I64 | WasmType::F64 | WasmType::PointerOrI64 => 64,
    }
}

/// The SDKs' files, by their paths below `guest-sdk`.
struct Sdks(BTreeMap<String, String>);

impl Sdks {
    fn read() -> Self {
        let folder = root().join("guest-sdk");
        let mut paths = Vec::new();
        for end in ["rs", "c", "h", "zig", "ts", "mjs", "js", "go", "py", "pyi"] {
            source::collect(&folder, end, &mut paths);
        }
        let name = |path: &Path| path.strip_prefix(&folder).unwrap().display().to_string();
        let files = paths
            .iter()
            .map(|path| (name(path), std::fs::read_to_string(path).unwrap()));
        Self(files.collect())
    }

    /// A file; empty if there is none.
    fn file(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    /// All files whose path begins like this, with theirs.
    fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        let files = self.0.iter();
        files
            .filter(move |(path, _)| path.starts_with(folder))
            .map(|(_, text)| text.as_str())
    }
}

/// Says what a language's SDK lacks of a function.
type Check = fn(&Function, &Sdks) -> Result<(), String>;

/// Where functions are missing, or have other types.
fn breaches(functions: &[Function], sdks: &Sdks) -> Vec<String> {
    let checks: [(&str, Check); 7] = [
        ("rust", rust),
        ("c", c),
        ("zig", zig),
        ("assemblyscript", assemblyscript),
        ("go", go),
        ("js", js),
        ("python", python),
    ];
    let mut breaches = Vec::new();
    for function in functions {
        for (language, check) in checks {
            if let Err(lacks) = check(function, sdks) {
                let Function {
                    interface, name, ..
                } = function;
                breaches.push(format!("{language}: {interface}.{name}: {lacks}"));
            }
        }
    }
    breaches
}

/// An error unless `text` holds `wanted`.
fn holds(text: &str, wanted: &str) -> Result<(), String> {
    if text.contains(wanted) {
        Ok(())
    } else {
        Err(format!("no {wanted}"))
    }
}

fn rust(function: &Function, sdks: &Sdks) -> Result<(), String> {
    let (interface, name) = (snake(&function.interface), snake(&function.name));
    if !function.imported {
        // The compiler demands the functions of interfaces that it knows of.
        let export = sdks.file("rust/src/export.rs");
        holds(
            export,
            &format!("impl<S: Slot> raw::{interface}::Guest for"),
        )?;
        return holds(export, &format!("fn {name}("));
    }
    let call = format!("host::{name}(");
    let own = format!("plugin::{interface} as host;");
    let by_macro = format!("keyed_state!({interface})");
    let keyed = sdks.file("rust/src/state.rs");
    let has = |text: &str| {
        (text.contains(&own) && text.contains(&call))
            || (text.contains(&by_macro) && keyed.contains(&call))
    };
    if sdks.below("rust/src/").any(has) {
        Ok(())
    } else {
        Err(format!("no {call} of {interface}"))
    }
}

fn c(function: &Function, sdks: &Sdks) -> Result<(), String> {
    let generated = sdks.file("c/bindings/plugin.c");
    let (header, layer) = (
        sdks.file("c/bindings/plugin.h"),
        [
            sdks.file("c/src/consort.c"),
            sdks.file("c/include/consort.h"),
        ]
        .concat(),
    );
    let (module, name) = (function.module(), &function.name);
    let symbol = format!(
        "consort_plugin_{}_{}",
        snake(&function.interface),
        snake(name)
    );
    if function.imported {
        let wanted = format!("__import_module__(\"{module}\"), __import_name__(\"{name}\")");
        holds(generated, &wanted)?;
        holds(header, &format!(" {symbol}("))?;
        // The kinds of state with keys have their functions by a macro.
        let kind = function.interface.trim_end_matches("-state");
        let by_macro = format!("consort_plugin_##kind##_state_{}(", snake(name));
        if layer.contains(&format!("({kind})\n")) && layer.contains(&by_macro) {
            return Ok(());
        }
        holds(&layer, &format!("{symbol}("))
    } else {
        holds(generated, &format!("__export_name__(\"{module}#{name}\")"))?;
        holds(header, &format!(" exports_{symbol}("))?;
        holds(&layer, &format!(" exports_{symbol}("))
    }
}

fn zig(function: &Function, sdks: &Sdks) -> Result<(), String> {
    let (module, name) = (function.module(), &function.name);
    if !function.imported {
        let export = format!("pub fn @\"{}\"", function.export());
        let text = sdks.file("zig/src/consort.zig");
        return typed(text, &export, function, ") callconv(.c) ");
    }
    let quoted = if name.contains('-') {
        format!("@\"{name}\"")
    } else {
        name.clone()
    };
    let import = format!("pub extern \"{module}\" fn {quoted}");
    typed(sdks.file("zig/src/host.zig"), &import, function, ") ")
}

fn assemblyscript(function: &Function, sdks: &Sdks) -> Result<(), String> {
    if !function.imported {
        let names = sdks.file("assemblyscript/consort/rename.mjs");
        let wanted = format!(": \"{}\",", function.export());
        let line = names.lines().find(|line| line.ends_with(&wanted));
        let line = line.ok_or_else(|| format!("no {wanted} in rename.mjs"))?;
        let own = line.trim().trim_end_matches(wanted.as_str());
        let text = sdks.file("assemblyscript/consort/exports.ts");
        return typed(text, &format!("export function {own}"), function, "): ");
    }
    let import = format!(
        "@external(\"{}\", \"{}\")\n",
        function.module(),
        function.name
    );
    for text in sdks.below("assemblyscript/consort/") {
        if let Some((_, declared)) = text.split_once(&import) {
            let own = declared.split('(').next().unwrap_or_default();
            return typed(declared, own, function, "): ");
        }
    }
    Err(format!("no {}", import.trim()))
}

/// Finds a declaration, and holds its types to the contract's. `result` is what stands between the
/// parameters and the result.
fn typed(text: &str, begin: &str, function: &Function, result: &str) -> Result<(), String> {
    let begin = format!("{begin}(");
    let (_, declared) = text
        .split_once(&begin)
        .ok_or_else(|| format!("no {begin}"))?;
    let (params, rest) = declared
        .split_once(result)
        .ok_or_else(|| format!("{begin}: its end is not where it is looked for"))?;
    let result = rest.split([';', '{', '\n']).next().unwrap_or_default();
    // A pointer says in parentheses what to; the commas there are none between parameters.
    let mut depth = 0;
    let split = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    let params: Vec<u32> = params
        .split(split)
        .map(str::trim)
        .filter(|param| !param.is_empty())
        .map(written_bits)
        .collect();
    let result = Some(result.trim()).filter(|result| *result != "void");
    let found = (params, result.map(written_bits).into_iter().collect());
    if found == function.bits {
        Ok(())
    } else {
        Err(format!(
            "{begin}: {found:?}, but the contract has {:?}",
            function.bits
        ))
    }
}

/// The width of a parameter or a result, as Zig and AssemblyScript write them.
fn written_bits(written: &str) -> u32 {
    let of = written.rsplit(": ").next().unwrap_or(written);
    match of {
        "u64" | "i64" => 64,
        "u32" | "i32" | "usize" | "bool" => 32,
        pointer if pointer.starts_with(['*', '[']) => 32,
        other => panic!("a type of unknown width: {other:?} in {written:?}"),
    }
}

fn go(function: &Function, sdks: &Sdks) -> Result<(), String> {
    let (interface, name) = (snake(&function.interface), &function.name);
    if !function.imported {
        let wanted = format!("//go:wasmexport consort:plugin/{}\n", function.export());
        holds(sdks.file("go/internal/bindings/wit_exports.go"), &wanted)?;
        let exports = sdks.file("go/internal/exports/exports.go");
        return holds(exports, &format!("func {}(", pascal(name)));
    }
    let generated = format!("go/internal/bindings/consort_plugin_{interface}/wit_bindings.go");
    let import = format!("//go:wasmimport {} {name}\n", function.module());
    holds(sdks.file(&generated), &import)?;
    let layer = [sdks.file("go/host.go"), sdks.file("go/state.go")].concat();
    holds(
        &layer,
        &format!("consort_plugin_{interface}.{}", pascal(name)),
    )
}

fn js(function: &Function, sdks: &Sdks) -> Result<(), String> {
    let text = sdks.file("js/consort/index.js");
    let name = camel(&function.name);
    if !function.imported {
        let begin = format!("\n    {}: {{\n", camel(&function.interface));
        let (_, object) = text.split_once(&begin).ok_or(format!("no {begin:?}"))?;
        let object = object.split("\n    },\n").next().unwrap_or_default();
        return holds(object, &format!("      {name}: ("));
    }
    let module = format!(" from \"{}\";", function.module());
    let line = text.lines().find(|line| line.ends_with(&module));
    let line = line.ok_or(format!("no{module}"))?;
    let own = line.trim_end_matches(module.as_str());
    let own = own.rsplit(' ').next().unwrap_or_default();
    if text.contains(&format!("keyed({own})")) {
        return holds(text, &format!(" host.{name}"))
            .or_else(|_| holds(text, &format!("(host.{name}(")));
    }
    holds(text, &format!("{own}.{name}"))
}

fn python(function: &Function, sdks: &Sdks) -> Result<(), String> {
    let (interface, name) = (snake(&function.interface), snake(&function.name));
    if !function.imported {
        let text = sdks.file("python/consort/__init__.py");
        let begin = format!("    class {}:\n", pascal(&function.interface));
        let (_, class) = text.split_once(&begin).ok_or(format!("no {begin:?}"))?;
        let class = class.split("    class ").next().unwrap_or_default();
        return holds(class, &format!("        def {name}(self"));
    }
    let stubs = format!("python/stubs/wit_world/imports/{interface}.pyi");
    holds(sdks.file(&stubs), &format!("\ndef {name}("))?;
    let layer = sdks
        .file(&format!("python/consort/{interface}.py"))
        .to_owned();
    holds(&layer, &format!("_host.{name}("))
}

#[test]
fn every_function_of_the_contract_is_in_every_sdk() {
    let functions = functions(&resolved("", ""));
    let count = |imported| functions.iter().filter(|f| f.imported == imported).count();
    assert!(count(true) > 30 && count(false) > 15, "{functions:#?}");
    let breaches = breaches(&functions, &Sdks::read());
    assert_none(&breaches, "wit/ and the bindings of the SDKs agree");
}

/// The languages whose bindings a change of the contract is against.
fn told(from: &str, to: &str, of: &str) -> Vec<String> {
    let breaches = breaches(&functions(&resolved(from, to)), &Sdks::read());
    let told = breaches.iter().map(|breach| {
        let (language, what) = breach.split_once(": ").unwrap();
        assert!(what.starts_with(of), "{breach}");
        language.to_owned()
    });
    told.collect()
}

const ALL: [&str; 7] = ["rust", "c", "zig", "assemblyscript", "go", "js", "python"];

#[test]
fn what_is_new_in_the_contract_is_missed_in_every_sdk() {
    let new = "reach: func(); send-to-all: func(";
    assert_eq!(told("send-to-all: func(", new, "messages.reach: "), ALL);
    let new = "keep: func(); delete: func(";
    let first = told("delete: func(", new, "leader-state.keep: ");
    assert_eq!(first, ALL);
    let new = "on-tick: func(); on-timer: func(";
    assert_eq!(told("on-timer: func(", new, "timers.on-tick: "), ALL);
}

#[test]
fn another_type_is_noticed_where_bindings_speak_the_abi() {
    let core = ["zig", "assemblyscript"];
    let changed = told(
        "wake-every: func(period: u64,",
        "wake-every: func(period: u32,",
        "clock.wake-every: ",
    );
    assert_eq!(changed, core);
    let changed = told(
        "token: u64, due: ",
        "token: u32, due: ",
        "timers.on-timer: ",
    );
    assert_eq!(changed, core);
    let more = told(
        "publish: func(topic: string,",
        "publish: func(to: string, topic: string,",
        "local.publish: ",
    );
    assert_eq!(more, core);
}
