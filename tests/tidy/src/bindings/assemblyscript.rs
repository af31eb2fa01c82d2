//! AssemblyScript: external functions, the order of cases as enums, and where things lie as constants, since
//! the language has no structures in the canonical ABI's layout.

use std::fmt::Write as _;

use wit_parser::{Function, Type};

use super::{Contract, Core, Named, camel, module, pascal, zig};

const HEAD: &str = "\
// The contract's imports in the canonical ABI of the component model, and where its types lie in memory.
// Made from wit/ by `cargo run -p consort-tidy --bin bindings`; changes go there.
";

pub(super) fn text(contract: &Contract) -> String {
    let mut text = HEAD.to_owned();
    for (name, of, named) in contract.named() {
        let upper = upper(name);
        let mut places = vec![(format!("{upper}_SIZE"), contract.size(&of))];
        match named {
            Named::Record(fields) => {
                let offsets = contract.offsets(fields);
                for (field, offset) in fields.iter().zip(offsets) {
                    places.push((format!("{upper}_{}", self::upper(&field.name)), offset));
                }
            }
            Named::Variant(variant) => {
                places.push((format!("{upper}_PAYLOAD"), contract.payload_offset(variant)));
                let cases = variant.cases.iter().map(|case| &*case.name);
                cases_of(&mut text, name, cases);
            }
            Named::Enum(cases) => {
                cases_of(&mut text, name, cases.into_iter());
                continue;
            }
        }
        text.push('\n');
        constants(&mut text, &places);
    }
    let results = contract.results().into_iter().filter_map(|result| {
        let name = mangled(&zig::type_text(contract, &result));
        Some((
            format!("{name}_PAYLOAD"),
            contract.payload_offset_of(&result)?,
        ))
    });
    text.push('\n');
    constants(&mut text, &results.collect::<Vec<_>>());
    for interface in contract.imports() {
        let own = interface.name.as_deref().expect("a name");
        for function in interface.functions.values() {
            let name = camel(own) + &pascal(&function.name);
            write!(
                text,
                "\n// @ts-ignore: decorator\n@external(\"{}\", \"{}\")\nexport declare function {name}({};\n",
                module(interface),
                function.name,
                signature(contract, function)
            )
            .expect("a string");
        }
    }
    text
}

fn cases_of<'a>(text: &mut String, name: &str, cases: impl Iterator<Item = &'a str>) {
    let cases: Vec<_> = cases.map(|case| format!("  {},\n", pascal(case))).collect();
    let name = pascal(name);
    write!(text, "\nexport enum {name} {{\n{}}}\n", cases.concat()).expect("a string");
}

fn constants(text: &mut String, constants: &[(String, usize)]) {
    for (name, value) in constants {
        writeln!(text, "export const {name}: usize = {value};").expect("a string");
    }
}

/// A core function's parameters and result.
fn signature(contract: &Contract, function: &Function) -> String {
    let mut params = Vec::new();
    for param in &function.params {
        for (end, core) in contract.flat(&param.ty) {
            let of = match core {
                Core::Pointer => "usize",
                Core::Length | Core::Small => "i32",
                Core::Unsigned32 => "u32",
                Core::Unsigned64 => "u64",
                Core::Signed64 => "i64",
            };
            let end = match end {
                "_len" => "Length",
                "_some" => "Some",
                other => other,
            };
            params.push(format!("{}{end}: {of}", camel(&param.name)));
        }
    }
    let result = match &function.result {
        None => "void",
        Some(_) if contract.returns_by_pointer(function) => {
            params.push("result: usize".to_owned());
            "void"
        }
        Some(of) => match contract.flat(of)[..] {
            [(_, Core::Small)] => "i32",
            [(_, Core::Unsigned32)] => "u32",
            [(_, Core::Unsigned64)] => "u64",
            [(_, Core::Signed64)] => "i64",
            _ => panic!(
                "a result of several numbers goes by pointer: {:?}",
                of as &Type
            ),
        },
    };
    format!("{}): {result}", params.join(", "))
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// `Result(Nothing, SendError)` as a constant's name.
fn mangled(of: &str) -> String {
    let mut name = String::new();
    for letter in of.chars() {
        let begins = !letter.is_ascii_alphanumeric() || letter.is_ascii_uppercase();
        if begins && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_uppercase());
        }
    }
    name.trim_end_matches('_').to_owned()
}
