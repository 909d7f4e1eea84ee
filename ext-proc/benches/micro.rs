//! How long the parts of a request take in the sidecar, with counters in process: the decision, its parts, and what
//! becomes of the usage record. `benches/decide.rs` has the decision by number of deployments.
//!
//! `make bench-micro`, or `cargo bench -p attache --bench micro -- decide`

#[path = "../../llm/benches/cases/case.rs"]
mod case;
mod cases;
#[path = "../../llm/benches/cases/timed.rs"]
mod timed;

use criterion::{Criterion, criterion_group, criterion_main};

fn micro(criterion: &mut Criterion) {
    timed::time(criterion, cases::all());
}

criterion_group!(benches, micro);
criterion_main!(benches);
