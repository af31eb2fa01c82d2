//! From a file's bytes to compiled code: functions without surroundings, since this is the part that
//! works on a stranger's file.
//!
//! Three kinds of file are taken: a component; a core module that carries its component type; and
//! a core module without one, whose exports then say which interfaces it has. Code that somebody
//! compiled elsewhere is refused: loading it would run native code.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wasmtime::{Engine, Module};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, SourceMap};

/// The largest file that is taken.
pub const FILE_BYTES_MAX: usize = 32 << 20;

const LIFECYCLE: &str = "consort:plugin/lifecycle@0.1.0";

/// Why a file gives no component.
#[derive(Debug, Error)]
pub enum CompileError {
    /// Nothing was written yet.
    #[error("the file is empty")]
    Empty,
    /// It exceeds [`FILE_BYTES_MAX`].
    #[error("the file has {bytes} bytes, more than the limit of {} MiB", FILE_BYTES_MAX >> 20)]
    TooLarge {
        /// How large it is, as far as it was read.
        bytes: u64,
    },
    /// It is native code.
    #[error(
        "the file is precompiled code, which would run outside the sandbox; copy the .wasm file that it was made from"
    )]
    Precompiled,
    /// It is something else.
    #[error("the file is no WebAssembly: it does not begin with \"\\0asm\"")]
    NotWasm,
    /// The beginning is right, the rest is not.
    #[error("the file is truncated or damaged: {0}")]
    Damaged(String),
    /// A core module that does not fit the contract.
    #[error(
        "the file is a core module that does not fit the world consort:plugin/plugin@0.1.0: {0}"
    )]
    ModuleMismatch(String),
    /// It uses a proposal that is off, or exceeds a limit of the engine.
    #[error(
        "the engine refuses the file: {0}; build it without that (docs/plugins.md has the features of WebAssembly that plugins may use)"
    )]
    Refused(String),
    /// The compiler's memory does not suffice for it.
    #[error(
        "compiling it takes more than {mib} MiB of memory; build it with less code in one file"
    )]
    TooMuchMemory {
        /// The limit.
        mib: u64,
    },
    /// The compiler's CPU time does not suffice for it.
    #[error(
        "compiling it takes more than {seconds} s of CPU time; build it with less code in one function"
    )]
    TooMuchCpu {
        /// The limit.
        seconds: u64,
    },
    /// The compiler was not done in time.
    #[error(
        "compiling it takes more than {} s; the machine may be overloaded",
        .limit.as_secs_f32()
    )]
    TooSlow {
        /// The limit, in wall time.
        limit: Duration,
    },
    /// The compiled code is longer than any sensible plugin's.
    #[error("its compiled code is too long; build it with less code")]
    CodeTooLarge,
    /// The compiler ended on it.
    #[error("the compiler failed on it: {0}")]
    Crashed(String),
    /// The compiler does not start; the file may be fine.
    #[error("the compiler does not start: {0}; `consort plugin reload` tries again")]
    NoCompiler(String),
    /// The result is not wanted any more.
    #[error("compiling it was given up")]
    Cancelled,
}

/// Looks at a file's size and first bytes: all that is worth knowing before it is parsed.
///
/// # Errors
/// The file is no plugin.
pub(crate) fn look_at(bytes: &[u8]) -> Result<(), CompileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(CompileError::TooLarge {
            bytes: bytes.len() as u64,
        });
    }
    if bytes.is_empty() {
        return Err(CompileError::Empty);
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(CompileError::Precompiled);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm);
    }
    Ok(())
}

/// Compiles a file's bytes for engines like `engine`.
///
/// # Errors
/// The bytes are no plugin.
pub(crate) fn precompile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    look_at(bytes)?;
    let component = component_of(bytes).map_err(|error| named_by(engine, bytes, error))?;
    engine
        .precompile_component(&component)
        .map_err(|error| CompileError::Refused(innermost(&error)))
}

/// What is wrong with a module that became no component. Where it uses a feature that is off, the engine
/// says so, and the encoder only what followed from it.
fn named_by(engine: &Engine, bytes: &[u8], error: CompileError) -> CompileError {
    if !matches!(error, CompileError::ModuleMismatch(_)) {
        return error;
    }
    match Module::validate(engine, bytes) {
        Ok(()) => error,
        Err(refusal) => CompileError::Refused(innermost(&refusal)),
    }
}

/// The component that a file is, or becomes.
///
/// # Errors
/// The bytes are damaged, or a module that does not fit the contract.
pub fn component_of(bytes: &[u8]) -> Result<Cow<'_, [u8]>, CompileError> {
    let exports = parse(bytes)?;
    if Parser::is_component(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    encode(bytes, &exports)
        .map(Cow::Owned)
        .map_err(CompileError::ModuleMismatch)
}

/// Reads the whole file once, which tells a damaged file from a refused one, and collects the
/// names of what it exports.
fn parse(bytes: &[u8]) -> Result<BTreeSet<String>, CompileError> {
    let damaged = |error: wasmparser::BinaryReaderError| CompileError::Damaged(error.to_string());
    let mut exports = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::ExportSection(section) = payload.map_err(damaged)? {
            for export in section {
                exports.insert(export.map_err(damaged)?.name.to_owned());
            }
        }
    }
    Ok(exports)
}

/// Wraps a core module into a component.
fn encode(module: &[u8], exports: &BTreeSet<String>) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| format!("{error:#}");
    let (stripped, _) = wit_component::metadata::decode(module).map_err(|e| text(&e))?;
    let mut module = module.to_vec();
    if stripped.is_none() {
        let (resolve, world) = world_of(exports)?;
        let embed = wit_component::embed_component_metadata;
        embed(&mut module, &resolve, world, StringEncoding::UTF8).map_err(|e| text(&e))?;
    }
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|e| text(&e))
}

/// The world of a module without a component type: all that the contract's world has, without the
/// interfaces of which the module exports no function. `lifecycle` stays, since no plugin is
/// without it.
fn world_of(exports: &BTreeSet<String>) -> Result<(Resolve, wit_parser::WorldId), String> {
    let mut sources = SourceMap::new();
    for (name, contents) in [
        ("types.wit", include_str!("../../../wit/types.wit")),
        ("imports.wit", include_str!("../../../wit/imports.wit")),
        ("exports.wit", include_str!("../../../wit/exports.wit")),
        ("world.wit", include_str!("../../../wit/world.wit")),
    ] {
        sources.push_str(name, contents);
    }
    let mut resolve = Resolve::default();
    let group = sources.parse().map_err(|(_, e)| format!("{e}"))?;
    let package = resolve.push_group(group).map_err(|e| format!("{e:#}"))?;
    let world = resolve
        .select_world(&[package], Some("plugin"))
        .map_err(|e| format!("{e:#}"))?;
    let left_out = |interface: &str| {
        let prefix = format!("{interface}#");
        interface != LIFECYCLE && !exports.iter().any(|name| name.starts_with(&prefix))
    };
    let left_out: Vec<_> = resolve.worlds[world]
        .exports
        .keys()
        .filter(|key| left_out(&resolve.name_world_key(key)))
        .cloned()
        .collect();
    resolve.worlds[world]
        .exports
        .retain(|key, _| !left_out.contains(key));
    Ok((resolve, world))
}

/// The causes of an error on one line, without the backtrace.
pub(crate) fn innermost(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error
        .chain()
        .map(|cause| cause.to_string().replace('\n', " "))
        .collect();
    causes.join(": ")
}
