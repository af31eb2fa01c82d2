//! From a file's bytes to a component: one function without surroundings, since it is the part
//! that works on a stranger's file.
//!
//! Three kinds of file are taken: a component; a core module that carries its component type; and
//! a core module without one, whose exports then say which interfaces it has. Code that somebody
//! compiled elsewhere is refused: loading it would run native code.

use std::collections::BTreeSet;

use thiserror::Error;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::Component;
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
    #[error("the engine refuses the file: {0}")]
    Refused(String),
}

/// Makes a component of a file's bytes.
///
/// # Errors
/// The bytes are no plugin; nothing is left behind.
pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, CompileError> {
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
    let exports = parse(bytes)?;
    let encoded;
    let component = if Parser::is_component(bytes) {
        bytes
    } else {
        encoded = encode(bytes, &exports).map_err(CompileError::ModuleMismatch)?;
        &encoded
    };
    Component::new(engine, component).map_err(|error| CompileError::Refused(innermost(&error)))
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
