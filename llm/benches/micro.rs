//! How long the parts of a request take that run inside Envoy: the scan of its body, its translation, each event of its
//! answer, its price. Compiled for this machine; in Envoy the same code runs as WebAssembly.
//!
//! `make bench-micro`, or `cargo bench -p attache-llm --bench micro -- scan`

#[path = "cases/case.rs"]
mod case;
mod cases;
#[path = "cases/timed.rs"]
mod timed;

use criterion::{Criterion, criterion_group, criterion_main};

fn micro(criterion: &mut Criterion) {
    timed::time(criterion, cases::all());
}

criterion_group!(benches, micro);
criterion_main!(benches);
