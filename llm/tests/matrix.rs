//! The matrix: every client dialect × every provider × every case, as snapshots; streams cut at every byte; and the table of what
//! is shown to work (`docs/providers.md`, `attache providers`), made from what the cases show and from nothing else.

#[path = "matrix/answers.rs"]
mod answers;
#[path = "matrix/pairs.rs"]
mod pairs;
#[path = "matrix/requests.rs"]
mod requests;
#[path = "matrix/table.rs"]
mod table;

use std::path::PathBuf;

fn fixture(path: &str) -> Option<Vec<u8>> {
    let base: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "matrix", "fixtures"].iter().collect();
    std::fs::read(base.join(path)).ok()
}
