//! What an answer costs.

use std::hint::black_box;

use attache_llm::price::{Item, Place, Price};
use attache_llm::usage::Usage;

use crate::case::{Case, Size};

/// Rates of a large model: input, output, cached, written, and dearer ones for long prompts.
fn price() -> Price {
    let base = |item, rate| (Place::base(item), rate);
    let long = |item, rate| (Place { from: 200_001, ..Place::base(item) }, rate);
    Price::new([
        base(Item::Input, 3_000_000_000),
        base(Item::Output, 15_000_000_000),
        base(Item::Cached, 300_000_000),
        base(Item::Write, 3_750_000_000),
        long(Item::Input, 6_000_000_000),
        long(Item::Output, 22_500_000_000),
    ])
}

fn usage() -> Usage {
    Usage {
        prompt: 1_200,
        completion: 250,
        total: 1_450,
        cached: 300,
        cache_creation: 100,
        ..Usage::default()
    }
}

/// 800 * 3 + 300 * 0.3 + 100 * 3.75 + 250 * 15 micro-dollars.
const NANOS: u64 = 6_615_000;

pub(crate) fn cases() -> Vec<Case> {
    let (reserved, billed) = (price(), price());
    vec![
        // What is reserved: of every deployment that may be asked.
        Case::new(
            "price/cost",
            Size::ONE,
            move || black_box(&reserved).cost(black_box(&usage())),
            |nanos| {
                assert_eq!(*nanos, NANOS);
            },
        ),
        // What is written down.
        Case::new(
            "price/bill",
            Size::ONE,
            move || {
                let bill = black_box(&billed).bill(black_box(&usage()));
                (bill.nanos, bill.encode())
            },
            |(nanos, text)| {
                assert_eq!(*nanos, NANOS);
                assert_eq!(text.split(';').count(), 4, "{text}");
            },
        ),
    ]
}
