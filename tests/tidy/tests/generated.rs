//! The bindings that this workspace makes itself, for Zig and AssemblyScript, are those that it makes of
//! the contract as it is; and whatever the contract has in memory, its order included, is in them.

#![allow(clippy::unwrap_used, reason = "tests")]

use consort_tidy::bindings::generate;
use consort_tidy::root;

#[test]
fn what_is_kept_is_what_is_made() {
    for made in generate("", "") {
        let kept = std::fs::read_to_string(root().join(made.path)).unwrap();
        assert!(
            kept == made.text,
            "{} is not what `cargo run -p consort-tidy --bin bindings` makes of wit/",
            made.path
        );
    }
}

#[test]
fn another_layout_and_another_order_of_cases_make_other_bindings() {
    let changes = [
        // A record's fields, of which only the order is another.
        (
            "is-self: bool,\n        /// Its wall clock minus this device's, in microseconds.\n        clock-delta: s64,",
            "clock-delta: s64,\n        is-self: bool,",
        ),
        (
            "leader: peer,\n        term: u64",
            "term: u64,\n        leader: peer",
        ),
        ("error-bound: u64", "error-bound: u32"),
        // The cases of variants and enums.
        (
            "variant origin { leader, device(device-id), shared, counter }",
            "variant origin { leader, device(device-id), counter, shared }",
        ),
        ("deleted,\n        expired,", "expired,\n        deleted,"),
        (
            "enum reason { stop, reload, remove }",
            "enum reason { stop, remove, reload }",
        ),
        ("too-large(u32)", "too-large(u64)"),
        ("enum level { trace, debug,", "enum level { debug, trace,"),
        // A function's result, and the order of its parameters.
        ("-> result<s64, write-error>", "-> result<u64, write-error>"),
        ("name: string, delta: s64", "delta: s64, name: string"),
    ];
    for (from, to) in changes {
        let languages = generate("", "").into_iter().zip(generate(from, to));
        for (kept, made) in languages {
            assert_ne!(kept.text, made.text, "{}: {from} -> {to}", made.path);
        }
    }
}
