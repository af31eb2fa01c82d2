//! The tour in every language, simulated: two runs of one seed give the same bytes. The one in Rust is
//! always there; the others are those whose `<language>.wasm` lies in the folder that `CONSORT_TOURS`
//! names, which `cargo xtask test --guests` builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tours() -> Vec<PathBuf> {
    let mut tours = vec![consort_test_guests::fixture("tour")];
    let Some(folder) = std::env::var_os("CONSORT_TOURS") else {
        return tours;
    };
    let files = std::fs::read_dir(folder).expect("the variable names a folder");
    let paths = files.map(|entry| entry.expect("an entry").path());
    tours.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "wasm")));
    tours.sort();
    tours
}

fn simulate(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_consort"))
        .arg("sim")
        .arg(file)
        .args([
            "--nodes", "3", "--seed", "7", "--for", "20s", "--loss", "5%",
        ])
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("the program runs")
}

#[test]
fn every_language_gives_one_text_for_one_seed() {
    for file in tours() {
        println!("{}", file.display());
        let (first, second) = (simulate(&file), simulate(&file));
        let out = String::from_utf8_lossy(&first.stdout);
        let errors = String::from_utf8_lossy(&first.stderr);
        assert!(first.status.success(), "{}: {errors}", file.display());
        assert!(
            out.contains("plugin            runs on 3 devices"),
            "{}: {out}",
            file.display()
        );
        assert_eq!(out, String::from_utf8_lossy(&second.stdout));
    }
}
