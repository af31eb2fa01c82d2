//! `consort plugin check`: a plugin's file without a daemon. It is compiled as the daemon does it,
//! started once in a sandbox that reaches nothing, and everything it offers and needs is said.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use consort_plugin_host::{
    ClockReading, Code, FILE_BYTES_MAX, Instance, InstanceSettings, Level, LogSink, Overlay,
    Runtime, Settings,
};
use consort_proto::{Peer, PluginId, PublicKey};
use serde::Serialize;

use super::PluginError;
use crate::cli::{CliError, output};
use crate::control::types::VERSION;
use crate::plugins::compiler;

/// The name of a plugin's file that has a folder to itself, and a manifest perhaps.
const IN_FOLDER: &str = "plugin.wasm";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin's file, or a folder with plugin.wasm and perhaps plugin.toml.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What there is to say of a file.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    file: String,
    /// None: the defaults hold.
    manifest: Option<String>,
    bytes: u64,
    version: String,
    exports: Vec<String>,
    imports: Vec<String>,
    wasi: Vec<String>,
    capabilities: Vec<String>,
    limits: Vec<Limit>,
    compile_ms: u64,
    setup_ms: u64,
    memory_bytes: u64,
    log: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Limit {
    key: &'static str,
    value: u64,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let report = check(&args.file)?;
    output::result(&report, args.json)
}

fn check(file: &Path) -> Result<Report, PluginError> {
    let (wasm_file, manifest_file) = files(file);
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |source| PluginError::Read { file, source }
    };
    let wasm = read_wasm(&wasm_file)?;
    let manifest = match &manifest_file {
        Some(path) => Some(fs::read_to_string(path).map_err(unreadable(path))?),
        None => None,
    };
    let id = name_of(file);
    let settings = Settings::new(
        &id,
        manifest_file.as_deref().zip(manifest.as_deref()),
        Some(&Overlay::default()),
    )?;
    let cache = tempfile::tempdir().map_err(unreadable(Path::new("a temporary folder")))?;
    let runtime = Runtime::with_compiler(&cache.path().join("compiled"), compiler(), None)?;
    let compiling = Instant::now();
    let code = Code::new(&runtime, &wasm).map_err(|error| PluginError::NoPlugin {
        file: wasm_file.clone(),
        error,
    })?;
    let compiled = compiling.elapsed();
    let lines = Lines::default();
    let starting = Instant::now();
    let memory =
        start(&code, &id, &settings, lines.clone()).map_err(|cause| PluginError::DoesNotStart {
            file: wasm_file.clone(),
            cause,
        })?;
    let (wasi, imports) = code
        .imports()
        .into_iter()
        .partition(|name| name.starts_with("wasi:"));
    let limits = settings.limits().named().into_iter();
    Ok(Report {
        v: VERSION,
        file: wasm_file.display().to_string(),
        manifest: manifest_file.map(|path| path.display().to_string()),
        bytes: wasm.len() as u64,
        version: settings.version().to_string(),
        exports: code.exports(),
        imports,
        wasi,
        capabilities: settings.asked_capabilities(),
        limits: limits.map(|(key, value)| Limit { key, value }).collect(),
        compile_ms: millis(compiled),
        setup_ms: millis(starting.elapsed()),
        memory_bytes: memory as u64,
        log: lines.take(),
    })
}

/// The content of a plugin's file; of one beyond the limit as much as it takes to be refused.
///
/// # Errors
/// It cannot be read; where a folder was given that holds none, the text says what to name instead.
pub(in crate::cli) fn read_wasm(file: &Path) -> Result<Vec<u8>, PluginError> {
    let mut wasm = Vec::new();
    let read = File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut wasm));
    match (read, file.parent()) {
        (Ok(_), _) => Ok(wasm),
        (Err(error), Some(folder))
            if error.kind() == io::ErrorKind::NotFound
                && file.ends_with(IN_FOLDER)
                && folder.is_dir() =>
        {
            let folder = folder.to_owned();
            Err(PluginError::NoFile { folder })
        }
        (Err(source), _) => Err(PluginError::Read {
            file: file.to_owned(),
            source,
        }),
    }
}

/// The plugin's file and the manifest beside it.
pub(in crate::cli) fn files(given: &Path) -> (PathBuf, Option<PathBuf>) {
    let wasm = if given.is_dir() {
        given.join(IN_FOLDER)
    } else {
        given.to_owned()
    };
    let manifest = wasm
        .file_name()
        .is_some_and(|name| name == IN_FOLDER)
        .then(|| wasm.with_file_name("plugin.toml"));
    (wasm, manifest.filter(|path| path.is_file()))
}

/// The id that the file would have in a plugins folder, or one that stands for it.
pub(in crate::cli) fn name_of(given: &Path) -> PluginId {
    let whole = given.canonicalize().unwrap_or_else(|_| given.to_owned());
    let named = if whole.file_name().is_some_and(|name| name == IN_FOLDER) {
        whole.parent().and_then(Path::file_name)
    } else if whole.is_dir() {
        whole.file_name()
    } else {
        whole.file_stem()
    };
    named
        .and_then(|name| PluginId::new(name.to_string_lossy().into_owned()).ok())
        .unwrap_or_else(|| PluginId::new("checked".to_owned()).expect("a valid id"))
}

/// Starts the plugin once; gives the memory it then has.
fn start(code: &Code, id: &PluginId, settings: &Settings, lines: Lines) -> Result<usize, String> {
    let device = PublicKey::new([1; 32]).map_err(|error| error.to_string())?;
    let settings = InstanceSettings {
        plugin: id.clone(),
        this_device: Peer {
            device: device.device_id(),
            name: "check".to_owned(),
            address: "127.0.0.1".to_owned(),
            is_self: true,
            clock_delta: 0,
            round_trip: 0,
        },
        config: settings.config(),
        limits: settings.limits().clone(),
        files: std::collections::BTreeMap::new(),
        local: true,
        seed: [0; 32],
        run: 0,
        log: Box::new(lines),
    };
    let reading = ClockReading {
        group_time_us: crate::clock::wall_us(),
        synchronised: false,
        error_bound_us: 0,
    };
    let mut instance = Instance::new(code, settings, reading).map_err(|error| error.to_string())?;
    instance.setup(reading).map_err(|error| error.to_string())?;
    Ok(instance.memory_bytes())
}

/// Keeps what the plugin logs.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        let mut lines = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut lines)
    }
}

impl LogSink for Lines {
    fn line(&mut self, _: Level, text: &str) {
        let mut lines = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.push(text.to_owned());
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is a plugin.", self.file)?;
        writeln!(f, "Size          {} KiB", self.bytes.div_ceil(1024))?;
        match &self.manifest {
            Some(path) => writeln!(f, "Manifest      {path}")?,
            None => writeln!(
                f,
                "Manifest      none: the defaults hold; a plugin.toml counts beside a file that is \
                 named {IN_FOLDER}"
            )?,
        }
        writeln!(f, "Version       {}", self.version)?;
        writeln!(f, "Exports       {}", list(&self.exports))?;
        writeln!(f, "Imports       {}", list(&self.imports))?;
        writeln!(f, "WASI          {}", list(&self.wasi))?;
        writeln!(f, "Capabilities  {}", list(&self.capabilities))?;
        let limits = self.limits.iter();
        let limits: Vec<_> = limits.map(|l| format!("{} {}", l.key, l.value)).collect();
        writeln!(f, "Limits        {}", limits.join(", "))?;
        writeln!(f, "Compiled in   {} ms", self.compile_ms)?;
        writeln!(f, "Started in    {} ms", self.setup_ms)?;
        writeln!(
            f,
            "Memory        {} KiB after setup",
            self.memory_bytes >> 10
        )?;
        for line in &self.log {
            writeln!(f, "Log           {line}")?;
        }
        Ok(())
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_read_up_to_the_limit() {
        let read = read_wasm(Path::new("/dev/zero")).expect("readable");
        assert_eq!(read.len(), FILE_BYTES_MAX + 1);
    }
}
