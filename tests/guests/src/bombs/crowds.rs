//! Plugins of very many parts, each of which does what it should.

use super::{section, signed_64, sized, unsigned};

/// What the plugin of [`busy_crowd`] logs when all its functions were called.
pub const ALL_WERE_CALLED: &str = "all were called";

/// Where that text lies; the results of `setup` are at address 0, which holds zeros.
const TEXT_AT: i64 = 1024;

/// A plugin, as a core module, of so many functions, all of which it calls in `on-timer`, once: each
/// adds one, and the callback traps unless the sum is right.
#[must_use]
pub fn busy_crowd(functions: u32) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &types());
    section(&mut module, 2, &imports());
    // setup, shutdown, on-timer, and the crowd.
    let mut of_types = Vec::new();
    unsigned(&mut of_types, 3 + functions);
    of_types.extend([2, 3, 1]);
    of_types.resize(of_types.len() + functions as usize, 4);
    section(&mut module, 3, &of_types);
    let mut table = vec![1, 0x70, 0];
    unsigned(&mut table, functions);
    section(&mut module, 4, &table);
    section(&mut module, 5, &[1, 0, 1]);
    section(&mut module, 7, &exports());
    // The table's elements, from 0 on.
    let mut elements = vec![1, 0, 0x41, 0, 0x0b];
    unsigned(&mut elements, functions);
    (0..functions).for_each(|number| unsigned(&mut elements, 5 + number));
    section(&mut module, 9, &elements);
    let mut code = Vec::new();
    unsigned(&mut code, 3 + functions);
    // wake_at(0, 1); 0
    sized(&mut code, &[0, 0x42, 0, 0x42, 1, 0x10, 1, 0x41, 0, 0x0b]);
    sized(&mut code, &[0, 0x0b]);
    sized(&mut code, &on_timer(functions));
    // local 0 + 1
    (0..functions).for_each(|_| sized(&mut code, &[0, 0x20, 0, 0x41, 1, 0x6a, 0x0b]));
    section(&mut module, 10, &code);
    let mut data = vec![1, 0, 0x41];
    signed_64(&mut data, TEXT_AT);
    data.push(0x0b);
    sized(&mut data, ALL_WERE_CALLED.as_bytes());
    section(&mut module, 11, &data);
    module
}

/// (i32, i32, i32) -> (), (i64, i64) -> (), () -> i32, i32 -> (), i32 -> i32
fn types() -> Vec<u8> {
    let [i32, i64] = [0x7f, 0x7e];
    [
        &[5, 0x60, 3, i32, i32, i32, 0, 0x60, 2, i64, i64, 0][..],
        &[0x60, 0, 1, i32, 0x60, 1, i32, 0, 0x60, 1, i32, 1, i32],
    ]
    .concat()
}

fn imports() -> Vec<u8> {
    let mut imports = vec![2];
    for (module, name, of_type) in [("log", "write", 0), ("clock", "wake-at", 1)] {
        sized(
            &mut imports,
            format!("consort:plugin/{module}@0.1.0").as_bytes(),
        );
        sized(&mut imports, name.as_bytes());
        imports.extend([0, of_type]);
    }
    imports
}

fn exports() -> Vec<u8> {
    let mut exports = vec![4];
    for (name, kind, index) in [
        ("memory", 2, 0),
        ("consort:plugin/lifecycle@0.1.0#setup", 0, 2),
        ("consort:plugin/lifecycle@0.1.0#shutdown", 0, 3),
        ("consort:plugin/timers@0.1.0#on-timer", 0, 4),
    ] {
        sized(&mut exports, name.as_bytes());
        exports.extend([kind, index]);
    }
    exports
}

/// Calls all of the table.
fn on_timer(functions: u32) -> Vec<u8> {
    // Beside the parameters: local 2 counts, local 3 is the sum.
    let mut body = vec![1, 2, 0x7f];
    // loop { sum = table[count](sum); count += 1; if count < functions continue }
    body.extend([0x03, 0x40, 0x20, 3, 0x20, 2, 0x11, 4, 0, 0x21, 3]);
    body.extend([0x20, 2, 0x41, 1, 0x6a, 0x22, 2, 0x41]);
    signed_64(&mut body, i64::from(functions));
    body.extend([0x49, 0x0d, 0, 0x0b]);
    // if sum != functions unreachable
    body.extend([0x20, 3, 0x41]);
    signed_64(&mut body, i64::from(functions));
    body.extend([0x47, 0x04, 0x40, 0x00, 0x0b]);
    // write(info, text)
    body.extend([0x41, 2, 0x41]);
    signed_64(&mut body, TEXT_AT);
    body.push(0x41);
    signed_64(&mut body, ALL_WERE_CALLED.len() as i64);
    body.extend([0x10, 0, 0x0b]);
    body
}

/// A component with one more core module, which has so many memories and tables, all empty, and is
/// instantiated so many times.
///
/// # Panics
/// The component is none.
#[must_use]
pub fn with_core_items(component: &[u8], instances: u32, memories: u32, tables: u32) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let mut of_tables = Vec::new();
    unsigned(&mut of_tables, tables);
    (0..tables).for_each(|_| of_tables.extend([0x70, 0, 0]));
    section(&mut module, 4, &of_tables);
    let mut of_memories = Vec::new();
    unsigned(&mut of_memories, memories);
    (0..memories).for_each(|_| of_memories.extend([0, 0]));
    section(&mut module, 5, &of_memories);

    let mut bytes = component.to_vec();
    let number = core_modules(component);
    section(&mut bytes, 1, &module);
    let mut made = Vec::new();
    unsigned(&mut made, instances);
    for _ in 0..instances {
        made.push(0);
        unsigned(&mut made, number);
        made.push(0);
    }
    section(&mut bytes, 2, &made);
    bytes
}

/// How many core modules a component has, each of which is a section of its own.
fn core_modules(component: &[u8]) -> u32 {
    let mut rest = &component[8..];
    let mut modules = 0;
    while let [id, after @ ..] = rest {
        modules += u32::from(*id == 1);
        let digits = after.iter().position(|byte| byte & 0x80 == 0);
        let digits = digits.expect("a section has a length") + 1;
        let length = after[..digits].iter().rev();
        let length = length.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        rest = &after[digits + length..];
    }
    modules
}
