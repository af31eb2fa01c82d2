//! The host's side of a child that compiles one file.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::child::{COMPILED, DAMAGED, MODULE_MISMATCH, REFUSED};
use super::{CODE_BYTES_MAX, ChildCompiler, CompileLimits, LOOK, MAGIC};
use crate::compile::CompileError;

/// What is kept of a child's last words.
const STDERR_BYTES_MAX: u64 = 4 << 10;

/// What is kept of a text about the file.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What a child left behind.
struct Answer {
    output: Vec<u8>,
    last_words: String,
}

/// Has a child compile a file and waits for it.
pub(super) fn compile(
    compiler: &ChildCompiler,
    bytes: &[u8],
    cancelled: &AtomicBool,
) -> Result<Vec<u8>, CompileError> {
    let limits = compiler.limits;
    let mut child = start(compiler)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(CompileError::NoCompiler("it has no pipes".to_owned()));
    };
    let (tell, answered) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A child that ends early does not read to the end; its status says why.
            let _ = stdin
                .write_all(&header(limits))
                .and_then(|()| stdin.write_all(bytes));
        });
        let last_words = scope.spawn(move || text(stderr));
        scope.spawn(move || {
            let mut output = Vec::new();
            // What was read before an error tells by its length that it is incomplete.
            let _ = stdout
                .take(CODE_BYTES_MAX as u64 + 2)
                .read_to_end(&mut output);
            // Without a listener the host has given up.
            let _ = tell.send(output);
        });
        let waited = wait(&mut child, &answered, limits, cancelled);
        if waited.is_err() {
            // It may have ended by itself just before.
            let _ = child.kill();
        }
        let status = child.wait();
        let last_words = last_words.join().unwrap_or_default();
        let output = waited?;
        let status = status.map_err(|error| CompileError::NoCompiler(error.to_string()))?;
        judge(status, limits, Answer { output, last_words })
    })
}

fn start(compiler: &ChildCompiler) -> Result<Child, CompileError> {
    Command::new(&compiler.program)
        .args(&compiler.arguments)
        .arg0("consort-compiler")
        .env_clear()
        .current_dir("/")
        // Ctrl-C in a terminal is for the host, which then ends the child.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            CompileError::NoCompiler(format!("{}: {error}", compiler.program.display()))
        })
}

fn header(limits: CompileLimits) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(limits.memory_bytes.to_be_bytes());
    header.extend(limits.cpu_seconds.to_be_bytes());
    header
}

fn text(stream: impl Read) -> String {
    let mut bytes = Vec::new();
    let mut stream = stream;
    // Half a text is better than none.
    let _ = (&mut stream).take(STDERR_BYTES_MAX).read_to_end(&mut bytes);
    // A child whose words are not read would wait for a reader.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Waits for the end of the answer and of the child.
fn wait(
    child: &mut Child,
    answered: &Receiver<Vec<u8>>,
    limits: CompileLimits,
    cancelled: &AtomicBool,
) -> Result<Vec<u8>, CompileError> {
    let deadline = Instant::now() + limits.wall;
    let mut output = None;
    loop {
        if cancelled.load(Ordering::Acquire) {
            return Err(CompileError::Cancelled);
        }
        if Instant::now() >= deadline {
            return Err(CompileError::TooSlow { limit: limits.wall });
        }
        match &output {
            None => match answered.recv_timeout(LOOK) {
                Ok(answer) if answer.len() > CODE_BYTES_MAX + 1 => {
                    return Err(CompileError::CodeTooLarge);
                }
                Ok(answer) => output = Some(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => output = Some(Vec::new()),
            },
            // The pipe ends with the process, so this takes a moment at most.
            Some(_) => match child.try_wait() {
                Ok(Some(_)) | Err(_) => return Ok(output.unwrap_or_default()),
                Ok(None) => thread::sleep(std::time::Duration::from_millis(1)),
            },
        }
    }
}

fn judge(
    status: ExitStatus,
    limits: CompileLimits,
    answer: Answer,
) -> Result<Vec<u8>, CompileError> {
    if !status.success() {
        return Err(explain(status, limits, answer.last_words));
    }
    let Some((kind, rest)) = answer.output.split_first() else {
        return Err(CompileError::Crashed(
            "it ended without an answer".to_owned(),
        ));
    };
    if *kind == COMPILED {
        let mut code = answer.output;
        code.remove(0);
        return Ok(code);
    }
    let text = String::from_utf8_lossy(&rest[..rest.len().min(TEXT_BYTES_MAX)]).into_owned();
    Err(match *kind {
        DAMAGED => CompileError::Damaged(text),
        MODULE_MISMATCH => CompileError::ModuleMismatch(text),
        REFUSED => CompileError::Refused(text),
        _ => CompileError::Crashed("it answered something else".to_owned()),
    })
}

/// Why a child ended before it answered.
fn explain(status: ExitStatus, limits: CompileLimits, last_words: String) -> CompileError {
    let signal = status.signal();
    if signal == Some(Signal::SIGXCPU as i32) {
        return CompileError::TooMuchCpu {
            seconds: limits.cpu_seconds,
        };
    }
    // What Rust's allocator says before it aborts.
    if signal == Some(Signal::SIGABRT as i32) && last_words.contains("memory allocation") {
        return CompileError::TooMuchMemory {
            mib: limits.memory_bytes >> 20,
        };
    }
    let end = match signal {
        Some(number) => match Signal::try_from(number) {
            Ok(signal) => format!("it was ended by {signal}"),
            Err(_) => format!("it was ended by signal {number}"),
        },
        None => format!("it ended with {status}"),
    };
    CompileError::Crashed(if last_words.is_empty() {
        end
    } else {
        format!("{end}: {last_words}")
    })
}
