//! What the documents promise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use consort_tidy::links::file_links;
use consort_tidy::{assert_none, root, source};

#[test]
fn links_lead_to_files() {
    let root = root();
    let mut documents = Vec::new();
    source::collect(&root, "md", &mut documents);
    assert!(!documents.is_empty());
    let mut breaches = Vec::new();
    for document in documents {
        let folder = document.parent().map(PathBuf::from).unwrap_or_default();
        let text = fs::read_to_string(&document).expect("documents are readable UTF-8");
        for link in file_links(&text)
            .into_iter()
            .filter(|link| !folder.join(link).exists())
        {
            breaches.push(format!("{} links to {link}", document.display()));
        }
    }
    assert_none(&breaches, "links to files lead somewhere");
}

#[test]
fn the_automatic_check_is_the_one_that_people_run() {
    let path = root().join(".ci/run");
    let script = fs::read_to_string(&path).expect("there is .ci/run");
    assert!(
        script.lines().any(|line| line.contains("cargo xtask test")),
        "{script}"
    );
    let mode = fs::metadata(&path).expect("just read").permissions().mode();
    assert_eq!(mode & 0o111, 0o111, ".ci/run is executable");
}

#[test]
fn every_plugin_and_every_sdk_has_a_readme() {
    let root = root();
    let mut folders = Vec::new();
    for parent in ["guest-sdk", "plugins"] {
        let children = fs::read_dir(root.join(parent)).expect("there is such a folder");
        folders.extend(
            children
                .map(|entry| entry.expect("readable").path())
                .filter(|path| path.is_dir()),
        );
    }
    assert!(folders.len() > 4, "{folders:?}");
    let bare = folders
        .iter()
        .filter(|folder| !folder.join("README.md").is_file());
    let breaches: Vec<_> = bare.map(|folder| folder.display().to_string()).collect();
    assert_none(&breaches, "a README.md is missing in");
}
