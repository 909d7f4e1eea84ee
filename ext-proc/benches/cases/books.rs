//! After the request: a batch of usage records read, priced as rows, settled.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use attache::ledger::row;
use attache::routing::Settled;
use attache::store::SpendRow;
use attache_llm::contract::{UsageBatch, UsageRecord, VERSION};

use super::world::{Planned, World, record};
use crate::case::{Case, Size};

/// Records of a batch.
const BATCH: usize = 20;
/// 132 * 2.5 + 128 * 1.25 + 100 * 10 micro-dollars.
const NANOS: i64 = 1_490_000;

/// Records of requests that have just been decided.
fn records(world: &World) -> Vec<UsageRecord> {
    let one = |_| {
        let ask = world.ask();
        let planned = Planned::of(world.decide(&ask));
        record(&ask, planned)
    };
    (0..BATCH).map(one).collect()
}

fn reading(world: &World) -> Case {
    let batch =
        UsageBatch { contract: VERSION, records: records(world), attempts: Vec::new(), returned: Vec::new() };
    let text = serde_json::to_vec(&batch).expect("a batch");
    let step = move || serde_json::from_slice::<UsageBatch>(black_box(&text)).expect("a batch");
    Case::new("usage/read", Size { each: BATCH, ..Size::ONE }, step, |read| assert_eq!(read, &batch))
}

fn pricing(world: &Rc<World>) -> Case {
    let (records, world) = (records(world), Rc::clone(world));
    let step = move || -> Vec<SpendRow> {
        black_box(&records).iter().map(|record| row(record, &world.snapshot)).collect()
    };
    Case::new("usage/row", Size { each: BATCH, ..Size::ONE }, step, |rows| {
        assert!(rows.iter().all(|row| row.cost_nanos == Some(NANOS)), "{rows:?}");
    })
}

fn settling(world: &Rc<World>) -> Case {
    type Batch = (Vec<UsageRecord>, Vec<SpendRow>);
    let next: Rc<RefCell<Batch>> = Rc::default();
    let (w, batches) = (Rc::clone(world), Rc::clone(&next));
    let between = move || {
        let records = records(&w);
        let rows = records.iter().map(|record| row(record, &w.snapshot)).collect();
        batches.replace((records, rows));
    };
    let w = Rc::clone(world);
    let step = move || {
        let batch = next.borrow();
        w.settle(black_box(&batch.0), black_box(&batch.1))
    };
    Case::made("usage/settle", Size { each: BATCH, ..Size::ONE }, Some(Box::new(between)), step, |settled| {
        assert_eq!(settled, &[Settled::Done; BATCH]);
    })
}

pub(crate) fn cases(world: &Rc<World>) -> Vec<Case> {
    vec![reading(world), pricing(world), settling(world)]
}
