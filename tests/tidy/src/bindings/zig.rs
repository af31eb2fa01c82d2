//! Zig: extern structs that have the canonical ABI's layout, which the compiler proves, and extern functions.

use std::fmt::Write as _;

use wit_parser::{Function, Type, TypeDefKind, Variant};

use super::{Contract, Core, Named, module, pascal, snake};

const HEAD: &str = r#"//! The contract's imports in the canonical ABI of the component model, and the types that cross it.
//! Made from wit/ by `cargo run -p consort-tidy --bin bindings`; changes go there.

/// A text or a list of bytes, as the host writes it.
pub const Bytes = extern struct {
    ptr: [*]const u8,
    len: usize,

    pub fn slice(self: Bytes) []const u8 {
        return if (self.len == 0) "" else self.ptr[0..self.len];
    }
};

pub fn List(comptime T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        pub fn slice(self: @This()) []const T {
            return if (self.len == 0) &.{} else self.ptr[0..self.len];
        }
    };
}

pub fn Pair(comptime First: type, comptime Second: type) type {
    return extern struct { first: First, second: Second };
}

pub fn Option(comptime T: type) type {
    return extern struct { some: bool, value: T };
}

/// What a result without a value carries.
pub const Nothing = extern struct {};

pub fn Result(comptime Ok: type, comptime Err: type) type {
    return extern struct { failed: bool, payload: extern union { ok: Ok, err: Err } };
}
"#;

pub(super) fn text(contract: &Contract) -> String {
    let mut text = HEAD.to_owned();
    let mut proofs = String::new();
    let mut prove = |what: String| writeln!(proofs, "    assert({what});").expect("a string");
    for (name, of, named) in contract.named() {
        let name = pascal(name);
        let definition = match named {
            Named::Record(fields) => {
                let offsets = contract.offsets(fields);
                for (field, offset) in fields.iter().zip(offsets) {
                    prove(format!(
                        "@offsetOf({name}, \"{}\") == {offset}",
                        snake(&field.name)
                    ));
                }
                let fields = fields.iter();
                let fields: Vec<_> = fields
                    .map(|field| {
                        let of = type_text(contract, &field.ty);
                        format!("    {}: {of},\n", identifier(&snake(&field.name)))
                    })
                    .collect();
                format!("extern struct {{\n{}}}", fields.concat())
            }
            Named::Variant(variant) => {
                let offset = contract.payload_offset(variant);
                prove(format!("@offsetOf({name}, \"payload\") == {offset}"));
                of_variant(contract, variant)
            }
            Named::Enum(cases) => of_cases(cases),
        };
        prove(format!("@sizeOf({name}) == {}", contract.size(&of)));
        write!(text, "\npub const {name} = {definition};\n").expect("a string");
    }
    for result in contract.results() {
        let Some(offset) = contract.payload_offset_of(&result) else {
            continue;
        };
        let name = type_text(contract, &result);
        let is_option = name.starts_with("Option");
        let field = if is_option { "value" } else { "payload" };
        prove(format!("@offsetOf({name}, \"{field}\") == {offset}"));
        prove(format!("@sizeOf({name}) == {}", contract.size(&result)));
    }
    text.push_str("\ncomptime {\n    const assert = @import(\"std\").debug.assert;\n");
    text.push_str(&proofs);
    text.push_str("}\n");
    for interface in contract.imports().filter(|of| !of.functions.is_empty()) {
        let name = snake(interface.name.as_deref().expect("a name"));
        write!(text, "\npub const {name} = struct {{\n").expect("a string");
        for function in interface.functions.values() {
            let function = declaration(contract, function);
            let module = module(interface);
            writeln!(text, "    pub extern \"{module}\" fn {function};").expect("a string");
        }
        text.push_str("};\n");
    }
    text
}

/// A type where it stands in another, or is pointed to.
pub(super) fn type_text(contract: &Contract, of: &Type) -> String {
    let inner = |of: &Type| type_text(contract, of);
    let maybe = |of: &Option<Type>| of.as_ref().map_or("Nothing".to_owned(), inner);
    let id = match of {
        Type::Bool => return "bool".to_owned(),
        Type::U8 => return "u8".to_owned(),
        Type::U32 => return "u32".to_owned(),
        Type::U64 => return "u64".to_owned(),
        Type::S64 => return "i64".to_owned(),
        Type::String => return "Bytes".to_owned(),
        Type::Id(id) => *id,
        other => panic!("{other:?} is not in Zig's bindings yet"),
    };
    match &contract.resolve.types[id].kind {
        TypeDefKind::Type(same) => inner(same),
        TypeDefKind::List(Type::U8) => "Bytes".to_owned(),
        TypeDefKind::List(element) => format!("List({})", inner(element)),
        TypeDefKind::Option(some) => format!("Option({})", inner(some)),
        TypeDefKind::Result(result) => {
            format!("Result({}, {})", maybe(&result.ok), maybe(&result.err))
        }
        TypeDefKind::Tuple(tuple) => match &tuple.types[..] {
            [first, second] => format!("Pair({}, {})", inner(first), inner(second)),
            more => panic!("tuples of {} are not in Zig's bindings yet", more.len()),
        },
        other => match contract.as_named(id) {
            Some((name, ..)) => pascal(name),
            None => panic!("a {} is not in Zig's bindings yet", other.as_str()),
        },
    }
}

fn of_variant(contract: &Contract, variant: &Variant) -> String {
    let tag = of_cases(variant.cases.iter().map(|case| &*case.name).collect());
    let carried = variant.cases.iter().filter_map(|case| {
        let of = type_text(contract, case.ty.as_ref()?);
        Some(format!("{}: {of}", identifier(&snake(&case.name))))
    });
    let carried: Vec<_> = carried.collect();
    format!(
        "extern struct {{\n    tag: {tag},\n    payload: extern union {{ {} }},\n}}",
        carried.join(", ")
    )
}

fn of_cases(cases: Vec<&str>) -> String {
    let cases: Vec<_> = cases
        .into_iter()
        .map(|case| identifier(&snake(case)))
        .collect();
    format!("enum(u8) {{ {} }}", cases.join(", "))
}

/// A core function's name, parameters and result.
fn declaration(contract: &Contract, function: &Function) -> String {
    let mut params = Vec::new();
    for param in &function.params {
        for (end, core) in contract.flat(&param.ty) {
            let of = match core {
                Core::Pointer => "[*]const u8",
                Core::Length => "usize",
                Core::Small | Core::Unsigned32 => "u32",
                Core::Unsigned64 => "u64",
                Core::Signed64 => "i64",
            };
            params.push(format!("{}{end}: {of}", snake(&param.name)));
        }
    }
    let result = match &function.result {
        None => "void".to_owned(),
        Some(of) if contract.returns_by_pointer(function) => {
            params.push(format!("result: *{}", type_text(contract, of)));
            "void".to_owned()
        }
        // A truth comes as a number.
        Some(Type::Bool) => "u32".to_owned(),
        Some(of) => type_text(contract, of),
    };
    let name = identifier(&function.name);
    format!("{name}({}) {result}", params.join(", "))
}

/// A name that Zig takes as one.
fn identifier(name: &str) -> String {
    if name.contains('-') || ["error", "struct", "union", "enum", "fn", "test"].contains(&name) {
        format!("@\"{name}\"")
    } else {
        name.to_owned()
    }
}
