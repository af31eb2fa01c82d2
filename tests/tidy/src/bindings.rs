//! Makes the bindings of the languages that wit-bindgen does not know: Zig and AssemblyScript.
//!
//! Both speak the canonical ABI of the component model themselves, so what they need of the contract is
//! little: the imports as core functions, the records as they lie in memory, the order of cases. All of it
//! follows from `wit/`, by wit-parser's layouts. `cargo run -p consort-tidy --bin bindings` writes the files;
//! `tests/generated.rs` fails while one is not what it would write. The layers above them are by hand.

mod assemblyscript;
mod zig;

use std::collections::BTreeSet;

use wit_parser::abi::AbiVariant;
use wit_parser::{
    Function, Interface, Resolve, SizeAlign, SourceMap, Type, TypeDef, TypeDefKind, TypeId,
    Variant, WorldItem,
};

use crate::root;

/// A generated file: where it lies below the workspace's folder, and what is in it.
#[derive(Debug)]
pub struct Generated {
    /// From the workspace's folder.
    pub path: &'static str,
    /// The whole file.
    pub text: String,
}

/// All generated files, from the contract in `wit/` with one text in the place of another.
///
/// # Panics
/// The contract is not there, is wrong, or has a form that the generators do not know.
#[must_use]
pub fn generate(from: &str, to: &str) -> [Generated; 2] {
    let contract = Contract::read(from, to);
    [
        Generated {
            path: "guest-sdk/zig/src/host.zig",
            text: zig::text(&contract),
        },
        Generated {
            path: "guest-sdk/assemblyscript/consort/contract.ts",
            text: assemblyscript::text(&contract),
        },
    ]
}

/// The contract, with the layouts of its types for 32-bit memories.
struct Contract {
    resolve: Resolve,
    layouts: SizeAlign,
}

/// How a value goes into a core function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    /// Where a text, bytes, or the elements of a list begin.
    Pointer,
    /// How many there are.
    Length,
    /// A truth, or the number of a case.
    Small,
    Unsigned32,
    Unsigned64,
    Signed64,
}

/// A type with a name of its own.
enum Named<'a> {
    Record(&'a [wit_parser::Field]),
    Variant(&'a Variant),
    Enum(Vec<&'a str>),
}

impl Contract {
    fn read(from: &str, to: &str) -> Self {
        let resolve = resolved(from, to);
        let mut layouts = SizeAlign::default();
        layouts.fill(&resolve);
        Self { resolve, layouts }
    }

    /// The interfaces that plugins import, as the world `plugin` has them. Those with nothing but types
    /// are among them.
    fn imports(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces(true)
    }

    fn interfaces(&self, imported: bool) -> impl Iterator<Item = &Interface> {
        let mut worlds = self.resolve.worlds.iter();
        let (_, world) = worlds
            .find(|(_, world)| world.name == "plugin")
            .expect("the world that the SDKs are for");
        let items = if imported {
            &world.imports
        } else {
            &world.exports
        };
        items.values().filter_map(|item| match item {
            WorldItem::Interface { id, .. } => Some(&self.resolve.interfaces[*id]),
            _ => None,
        })
    }

    /// Every type with a name of its own, those that others consist of first.
    fn named(&self) -> Vec<(&str, Type, Named<'_>)> {
        let interfaces = self.interfaces(true).chain(self.interfaces(false));
        let types = interfaces.flat_map(|interface| interface.types.values());
        types.filter_map(|id| self.as_named(*id)).collect()
    }

    fn as_named(&self, id: TypeId) -> Option<(&str, Type, Named<'_>)> {
        let TypeDef { name, kind, .. } = &self.resolve.types[id];
        let named = match kind {
            TypeDefKind::Record(record) => Named::Record(&record.fields),
            TypeDefKind::Variant(variant) => Named::Variant(variant),
            TypeDefKind::Enum(cases) => {
                Named::Enum(cases.cases.iter().map(|case| &*case.name).collect())
            }
            _ => return None,
        };
        Some((name.as_deref()?, Type::Id(id), named))
    }

    /// Bytes in memory.
    fn size(&self, of: &Type) -> usize {
        self.layouts.size(of).size_wasm32()
    }

    /// Where the fields of a record begin.
    fn offsets(&self, fields: &[wit_parser::Field]) -> Vec<usize> {
        let types = fields.iter().map(|field| &field.ty);
        let offsets = self.layouts.field_offsets(types).into_iter();
        offsets.map(|(offset, _)| offset.size_wasm32()).collect()
    }

    /// Where what a case carries begins.
    fn payload_offset(&self, variant: &Variant) -> usize {
        let cases = variant.cases.iter().map(|case| case.ty.as_ref());
        self.layouts
            .payload_offset(variant.tag(), cases)
            .size_wasm32()
    }

    /// The same for a result or an option; none for another type.
    fn payload_offset_of(&self, of: &Type) -> Option<usize> {
        let Type::Id(id) = of else { return None };
        let cases = match &self.resolve.types[*id].kind {
            TypeDefKind::Option(some) => [None, Some(some)],
            TypeDefKind::Result(result) => [result.ok.as_ref(), result.err.as_ref()],
            _ => return None,
        };
        let offset = self.layouts.payload_offset(wit_parser::Int::U8, cases);
        Some(offset.size_wasm32())
    }

    /// How a parameter is passed: names' ends and forms.
    fn flat(&self, of: &Type) -> Vec<(&'static str, Core)> {
        match of {
            Type::Bool => vec![("", Core::Small)],
            Type::U8 | Type::U16 | Type::U32 => vec![("", Core::Unsigned32)],
            Type::U64 => vec![("", Core::Unsigned64)],
            Type::S64 => vec![("", Core::Signed64)],
            Type::String => vec![("", Core::Pointer), ("_len", Core::Length)],
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Type(same) => self.flat(same),
                TypeDefKind::Enum(_) => vec![("", Core::Small)],
                TypeDefKind::List(_) => vec![("", Core::Pointer), ("_len", Core::Length)],
                TypeDefKind::Option(some) => {
                    let mut flat = vec![("_some", Core::Small)];
                    flat.extend(self.flat(some));
                    flat
                }
                other => panic!("no generator passes a {} yet", other.as_str()),
            },
            other => panic!("no generator passes a {other:?} yet"),
        }
    }

    /// Whether the caller says where the result goes, as it is more than one number.
    fn returns_by_pointer(&self, function: &Function) -> bool {
        self.resolve
            .wasm_signature(AbiVariant::GuestImport, function)
            .retptr
    }

    /// The results that functions write to where the caller says, each once.
    fn results(&self) -> Vec<Type> {
        let mut seen = BTreeSet::new();
        let functions = self.imports().flat_map(|of| of.functions.values());
        let results = functions.filter(|function| self.returns_by_pointer(function));
        results
            .filter_map(|function| function.result)
            .filter(|result| seen.insert(zig::type_text(self, result)))
            .collect()
    }
}

/// The name of the core module that an interface is imported from.
fn module(interface: &Interface) -> String {
    let name = interface.name.as_deref().expect("a name");
    format!("consort:plugin/{name}@0.1.0")
}

/// The contract in `wit/`, with one text in the place of another where it first stands in a file; nothing is
/// replaced if the first is empty.
///
/// # Panics
/// The contract is not there, is wrong, or does not have the text.
#[must_use]
pub fn resolved(from: &str, to: &str) -> Resolve {
    let mut sources = SourceMap::new();
    let mut found = from.is_empty();
    for file in std::fs::read_dir(root().join("wit")).expect("wit/ is there") {
        let path = file.expect("an entry").path();
        let mut text = std::fs::read_to_string(&path).expect("a file of text");
        if !from.is_empty() {
            found |= text.contains(from);
            text = text.replacen(from, to, 1);
        }
        sources.push_str(&path.to_string_lossy(), text);
    }
    assert!(found, "{from:?} is in the contract");
    let group = sources.parse().map_err(|(_, error)| error);
    let mut resolve = Resolve::default();
    resolve
        .push_group(group.expect("wit/ is correct"))
        .expect("wit/ is whole");
    resolve
}

/// A name as Zig, C and Python write that of a function.
#[must_use]
pub fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// A name as most languages write that of a type.
///
/// # Panics
/// There is an empty word in it, which WIT does not allow.
#[must_use]
pub fn pascal(name: &str) -> String {
    let words = name.split('-');
    let words = words.map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

/// A name as JavaScript writes that of a function.
///
/// # Panics
/// There is an empty word in it, which WIT does not allow.
#[must_use]
pub fn camel(name: &str) -> String {
    let pascal = pascal(name);
    pascal[..1].to_lowercase() + &pascal[1..]
}
