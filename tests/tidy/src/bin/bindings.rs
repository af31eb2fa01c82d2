//! Writes the bindings that this workspace's own generators make of the contract.

use consort_tidy::{bindings, root};

fn main() -> std::io::Result<()> {
    for file in bindings::generate("", "") {
        std::fs::write(root().join(file.path), file.text)?;
        println!("{}", file.path);
    }
    Ok(())
}
