//! Files that are hard on a compiler, made on demand: small, valid, and endless work or memory.
//!
//! The first ones are components that hold one core module and export nothing: what is compiled is
//! judged by its exports only afterwards. The others are plugins that no compiler of a language
//! would write.

mod crowds;

pub use self::crowds::{ALL_WERE_CALLED, busy_crowd, with_core_items};

/// A function's code is at most this long, as engines have it.
const FUNCTION_BYTES_MAX: usize = 7_000_000;

/// About `mib` MiB of plain code, in functions of the largest size.
#[must_use]
pub fn long(mib: usize) -> Vec<u8> {
    // local 0 = local 0 * 3 + 1
    const STEP: [u8; 9] = [0x20, 0, 0x41, 3, 0x6c, 0x41, 1, 0x6a, 0x21];
    let mut step = STEP.to_vec();
    step.push(0);
    let body = step.repeat(FUNCTION_BYTES_MAX / 10 / step.len());
    let functions = (mib << 20) / body.len();
    component(&module(functions, 1, &body))
}

/// A function of a few hundred KiB whose variables all depend on all branches.
#[must_use]
pub fn tangled() -> Vec<u8> {
    const LOCALS: u32 = 40_000;
    const BRANCHES: u32 = 8_000;
    let mut body = vec![0x03, 0x40];
    for branch in 0..BRANCHES {
        // if local 0 { local n = n }
        body.extend([0x20, 0, 0x04, 0x40, 0x41]);
        unsigned(&mut body, branch % 64);
        body.push(0x21);
        unsigned(&mut body, branch * 5);
        body.push(0x0b);
    }
    for local in 0..LOCALS {
        // drop local
        body.push(0x20);
        unsigned(&mut body, local);
        body.push(0x1a);
    }
    // Back to the loop's beginning, for ever.
    body.extend([0x0c, 0, 0x0b]);
    component(&module(1, LOCALS, &body))
}

/// So many functions that do nothing.
#[must_use]
pub fn crowd(functions: usize) -> Vec<u8> {
    component(&module(functions, 0, &[]))
}

/// A plugin, as a core module, whose start function never ends.
#[must_use]
pub fn endless_start() -> Vec<u8> {
    // loop { continue }
    plugin(Some(&[0x03, 0x40, 0x0c, 0, 0x0b]), &[0x41, 0])
}

/// A plugin, as a core module, whose `setup` makes its table larger until it gets no more, and
/// succeeds only if it got less than `elements`.
#[must_use]
pub fn table_hog(elements: u32) -> Vec<u8> {
    // loop { if table.grow(null, 1000) != -1 continue }
    let mut setup = vec![0x03, 0x40, 0xd0, 0x70, 0x41, 0xe8, 0x07, 0xfc, 0x0f, 0];
    setup.extend([0x41, 0x7f, 0x47, 0x0d, 0, 0x0b]);
    // if table.size > elements unreachable
    setup.extend([0xfc, 0x10, 0, 0x41]);
    signed(&mut setup, elements);
    setup.extend([0x4b, 0x04, 0x40, 0x00, 0x0b]);
    // The result lies at address 0, which holds zeros: fine.
    setup.extend([0x41, 0]);
    plugin(None, &setup)
}

/// A core module with a memory, a table and the export `lifecycle`, whose `setup` is as given.
fn plugin(start: Option<&[u8]>, setup: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    // () -> (), () -> i32, i32 -> ()
    section(
        &mut bytes,
        1,
        &[3, 0x60, 0, 0, 0x60, 0, 1, 0x7f, 0x60, 1, 0x7f, 0],
    );
    section(&mut bytes, 3, &[3, 0, 1, 2]);
    section(&mut bytes, 4, &[1, 0x70, 0, 1]);
    section(&mut bytes, 5, &[1, 0, 1]);
    let mut exports = vec![3];
    for (name, kind, index) in [
        ("memory", 2, 0),
        ("consort:plugin/lifecycle@0.1.0#setup", 0, 1),
        ("consort:plugin/lifecycle@0.1.0#shutdown", 0, 2),
    ] {
        sized(&mut exports, name.as_bytes());
        exports.extend([kind, index]);
    }
    section(&mut bytes, 7, &exports);
    if start.is_some() {
        section(&mut bytes, 8, &[0]);
    }
    let mut code = vec![3];
    for body in [start.unwrap_or_default(), setup, &[]] {
        sized(&mut code, &[&[0], body, &[0x0b]].concat());
    }
    section(&mut bytes, 10, &code);
    bytes
}

/// A plugin, as a core module, whose `setup` calls the host's `log.write` with raw numbers: the
/// level, and where the message is and how long. Its functions have names, as `wild_setup`.
#[must_use]
pub fn raw_log(level: u32, at: u32, bytes: u32) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // (i32, i32, i32) -> (), () -> i32, i32 -> ()
    let types = [
        3, 0x60, 3, 0x7f, 0x7f, 0x7f, 0, 0x60, 0, 1, 0x7f, 0x60, 1, 0x7f, 0,
    ];
    section(&mut module, 1, &types);
    let mut imports = vec![1];
    sized(&mut imports, b"consort:plugin/log@0.1.0");
    sized(&mut imports, b"write");
    imports.extend([0, 0]);
    section(&mut module, 2, &imports);
    section(&mut module, 3, &[2, 1, 2]);
    section(&mut module, 5, &[1, 0, 1]);
    let mut exports = vec![3];
    for (name, kind, index) in [
        ("memory", 2, 0),
        ("consort:plugin/lifecycle@0.1.0#setup", 0, 1),
        ("consort:plugin/lifecycle@0.1.0#shutdown", 0, 2),
    ] {
        sized(&mut exports, name.as_bytes());
        exports.extend([kind, index]);
    }
    section(&mut module, 7, &exports);
    let mut setup = Vec::new();
    for number in [level, at, bytes] {
        setup.push(0x41);
        signed_64(&mut setup, i64::from(number.cast_signed()));
    }
    // call the import; the result lies at address 0
    setup.extend([0x10, 0, 0x41, 0]);
    let mut code = vec![2];
    for body in [&setup[..], &[]] {
        sized(&mut code, &[&[0], body, &[0x0b]].concat());
    }
    section(&mut module, 10, &code);
    // The name section's function names.
    let mut names = vec![1, 1];
    sized(&mut names, b"wild_setup");
    let mut custom = Vec::new();
    sized(&mut custom, b"name");
    custom.push(1);
    sized(&mut custom, &names);
    section(&mut module, 0, &custom);
    module
}

/// A signed number, as `i32.const` has it.
fn signed_64(to: &mut Vec<u8>, mut number: i64) {
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        let done = (number == 0 && byte & 0x40 == 0) || (number == -1 && byte & 0x40 != 0);
        to.push(if done { byte } else { byte | 0x80 });
        if done {
            return;
        }
    }
}

fn component(module: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    section(&mut bytes, 1, module);
    bytes
}

/// A core module of equal functions without parameters or results.
fn module(functions: usize, locals: u32, body: &[u8]) -> Vec<u8> {
    let count = u32::try_from(functions).expect("a number of functions");
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    section(&mut bytes, 1, &[1, 0x60, 0, 0]);
    let mut types = Vec::new();
    unsigned(&mut types, count);
    types.resize(types.len() + functions, 0);
    section(&mut bytes, 3, &types);

    let mut function = Vec::new();
    if locals == 0 {
        function.push(0);
    } else {
        function.push(1);
        unsigned(&mut function, locals);
        function.push(0x7f);
    }
    function.extend(body);
    function.push(0x0b);
    let mut code = Vec::new();
    unsigned(&mut code, count);
    for _ in 0..functions {
        sized(&mut code, &function);
    }
    section(&mut bytes, 10, &code);
    bytes
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    sized(bytes, content);
}

fn sized(bytes: &mut Vec<u8>, content: &[u8]) {
    unsigned(
        bytes,
        u32::try_from(content.len()).expect("less than 4 GiB"),
    );
    bytes.extend(content);
}

/// LEB128, as WebAssembly has its numbers.
fn unsigned(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// LEB128 of a constant.
fn signed(bytes: &mut Vec<u8>, number: u32) {
    let mut number = i64::from(number);
    while number >= 0x40 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
