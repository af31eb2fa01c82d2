//! The program as the compiler of one plugin: what it makes, what bounds it, and what becomes of
//! files that are made to exhaust it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use consort_plugin_host::{
    ChildCompiler, Code, CodeError, CompileError, CompileLimits, Compiler, Runtime,
};
use consort_test_guests::{bombs, fixture, fixture_module};
use tempfile::TempDir;

/// This workspace's program, as the daemon starts it.
fn consort(limits: CompileLimits) -> Compiler {
    child(env!("CARGO_BIN_EXE_consort"), &["compile-plugin"], limits)
}

fn child(program: &str, arguments: &[&str], limits: CompileLimits) -> Compiler {
    Compiler::Child(ChildCompiler {
        program: PathBuf::from(program),
        arguments: arguments.iter().map(Into::into).collect(),
        limits,
    })
}

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn compile(&self, compiler: Compiler, wasm: &[u8]) -> Result<Code, CodeError> {
        let runtime = Runtime::with_compiler(&self.cache(), compiler, None).unwrap();
        Code::new(&runtime, wasm)
    }

    /// The compiled code that lies in the cache.
    fn entries(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.cache()).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|ext| ext == "code"))
            .collect()
    }
}

/// A program that cannot compile: who succeeds with it found the code in the cache.
fn nobody() -> Compiler {
    child("/nonexistent/compiler", &[], CompileLimits::default())
}

fn error(result: Result<Code, CodeError>) -> CompileError {
    match result {
        Err(CodeError::Compile(error)) => error,
        other => panic!("not the compiler's error: {other:?}"),
    }
}

fn read(path: PathBuf) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn a_child_compiles_and_the_cache_keeps_it() {
    let bench = Bench::new();
    for wasm in [read(fixture("recorder")), read(fixture_module("recorder"))] {
        let missing = error(bench.compile(nobody(), &wasm));
        assert!(matches!(missing, CompileError::NoCompiler(_)), "{missing}");
        assert!(missing.to_string().contains("/nonexistent/compiler"));
        bench
            .compile(consort(CompileLimits::default()), &wasm)
            .unwrap();
        bench.compile(nobody(), &wasm).unwrap();
    }
    let entries = bench.entries();
    assert_eq!(entries.len(), 2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&bench.cache()), mode(&entries[0])), (0o700, 0o600));
}

#[test]
fn damaged_compiled_code_is_compiled_anew() {
    let wasm = read(fixture("minimal"));
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("truncated", |code| code.truncate(code.len() / 2)),
        ("empty", Vec::clear),
        ("a bit flipped", |code| {
            let middle = code.len() / 2;
            code[middle] ^= 0x10;
        }),
        ("its hash altered", |code| code[0] ^= 1),
    ];
    for (what, damage) in damages {
        let bench = Bench::new();
        bench
            .compile(consort(CompileLimits::default()), &wasm)
            .unwrap();
        let entry = bench.entries().remove(0);
        let mut code = fs::read(&entry).unwrap();
        damage(&mut code);
        fs::write(&entry, code).unwrap();
        let refused = error(bench.compile(nobody(), &wasm));
        assert!(matches!(refused, CompileError::NoCompiler(_)), "{what}");
        bench
            .compile(consort(CompileLimits::default()), &wasm)
            .unwrap();
        bench.compile(nobody(), &wasm).unwrap();
    }
}

#[test]
fn what_the_child_says_of_a_file_arrives() {
    let bench = Bench::new();
    let whole = read(fixture("minimal"));
    let limits = CompileLimits::default();
    let damaged = error(bench.compile(consort(limits), &whole[..whole.len() / 2]));
    assert!(matches!(damaged, CompileError::Damaged(_)), "{damaged}");
    let empty_module = b"\0asm\x01\0\0\0";
    let mismatch = error(bench.compile(consort(limits), empty_module));
    assert!(
        matches!(mismatch, CompileError::ModuleMismatch(_)),
        "{mismatch}"
    );
    // A memory of 64-bit addresses, in a component.
    let module = b"\0asm\x01\0\0\0\x05\x03\x01\x04\x01";
    let mut refused = b"\0asm\x0d\0\x01\0\x01".to_vec();
    refused.push(module.len() as u8);
    refused.extend(module);
    let refused = error(bench.compile(consort(limits), &refused));
    assert!(matches!(refused, CompileError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("memory64"), "{refused}");
    assert!(bench.entries().is_empty());
}

#[test]
fn a_file_that_takes_too_much_memory_costs_only_the_child() {
    let limits = CompileLimits {
        memory_bytes: 256 << 20,
        ..CompileLimits::default()
    };
    let start = Instant::now();
    let bomb = bombs::tangled();
    let refused = error(Bench::new().compile(consort(limits), &bomb));
    println!("{} bytes: {refused} in {:?}", bomb.len(), start.elapsed());
    assert!(
        matches!(refused, CompileError::TooMuchMemory { mib: 256 }),
        "{refused}"
    );
    assert!(refused.to_string().contains("256 MiB"), "{refused}");
}

#[test]
fn a_file_that_takes_too_much_time_costs_only_the_child() {
    let limits = CompileLimits {
        cpu_seconds: 1,
        ..CompileLimits::default()
    };
    let bomb = bombs::long(30);
    let refused = error(Bench::new().compile(consort(limits), &bomb));
    assert!(
        matches!(refused, CompileError::TooMuchCpu { seconds: 1 }),
        "{refused}"
    );
}

#[test]
fn thousands_of_functions_compile_within_the_limits() {
    let crowd = bombs::crowd(20_000);
    let refused = Bench::new()
        .compile(consort(CompileLimits::default()), &crowd)
        .expect_err("it exports nothing");
    assert!(
        matches!(&refused, CodeError::OtherWorld { exports } if exports == "nothing"),
        "{refused}"
    );
}

#[test]
fn a_compiler_that_hangs_is_ended() {
    let limits = CompileLimits {
        wall: Duration::from_millis(300),
        ..CompileLimits::default()
    };
    let start = Instant::now();
    // Large enough to fill the pipe that nobody reads.
    let slow = error(Bench::new().compile(child("/bin/sleep", &["600"], limits), &bombs::long(1)));
    assert!(matches!(slow, CompileError::TooSlow { .. }), "{slow}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_compiler_that_answers_nonsense_or_dies_is_named() {
    let limits = CompileLimits::default();
    let wasm = read(fixture("minimal"));
    let says = |script: &str| {
        let compiler = child("/bin/sh", &["-c", script], limits);
        error(Bench::new().compile(compiler, &wasm)).to_string()
    };
    let killed = says("kill -SEGV $$");
    assert!(killed.contains("SIGSEGV"), "{killed}");
    let told = says("echo out of luck >&2; exit 3");
    assert!(told.contains("out of luck"), "{told}");
    let nonsense = says("cat >/dev/null; echo hello");
    assert!(nonsense.contains("something else"), "{nonsense}");
    let not_code = says("cat >/dev/null; printf '\\000hello'");
    assert!(not_code.contains("refuses"), "{not_code}");
}

/// `env` prints its environment, and nothing says that it had none.
#[test]
fn a_compiler_has_no_environment() {
    let compiler = child("/usr/bin/env", &[], CompileLimits::default());
    let said = error(Bench::new().compile(compiler, &read(fixture("minimal"))));
    assert!(said.to_string().contains("without an answer"), "{said}");
}

#[test]
fn the_hidden_command_is_for_the_host_only() {
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consort"));
        command.stdin(Stdio::null());
        command
    };
    let output = program().arg("compile-plugin").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("for the plugin host"), "{said}");
    let help = program().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(!help.contains("compile-plugin"), "{help}");
}
