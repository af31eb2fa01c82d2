//! What source files look like.

use consort_tidy::functions::functions;
use consort_tidy::source::{self, Source};
use consort_tidy::{assert_none, root};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.production().lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path.display()))
    };
    let breaches: Vec<_> = source::all(&root()).iter().filter_map(long).collect();
    assert_none(&breaches, "a file has at most 600 lines besides its tests");
}

#[test]
fn functions_are_short() {
    let mut breaches = Vec::new();
    let mut seen = 0;
    for source in source::all(&root())
        .iter()
        .filter(|source| !source.is_test())
    {
        let code = source.production();
        for function in functions(&code) {
            seen += 1;
            if function.length > FUNCTION_LINES_MAX {
                let (path, name) = (source.path.display(), function.name);
                breaches.push(format!("{path}: {name} has {} lines", function.length));
            }
        }
    }
    assert!(
        seen > 100,
        "only {seen} functions were found: the reader is broken"
    );
    assert_none(&breaches, "a function has at most 70 lines");
}

#[test]
fn nothing_is_left_open() {
    let mut breaches = Vec::new();
    for source in source::all(&root()) {
        let path = source.path.display();
        for unwanted in ["todo!", "unimplemented!", "#[ignore"] {
            if source.code.contains(unwanted) {
                breaches.push(format!("{path}: {unwanted}"));
            }
        }
        // In two parts, as this file is read too.
        if source.text.contains(concat!("FIX", "ME")) {
            breaches.push(format!("{path}: a note that something is to be mended"));
        }
    }
    assert_none(&breaches, "no stubs, no ignored tests, no notes of debts");
}
