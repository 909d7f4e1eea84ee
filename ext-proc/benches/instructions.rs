//! Every case of `micro`, a fixed number of times, for valgrind to count instructions: `make instructions` runs this and
//! compares the counts with `bench/instructions.json`. Alone it only checks that the cases work.
//!
//! Two functions are valgrind's marks: it counts while `count_this_step` runs, and writes down what it has counted, and
//! begins again, when `count_is_whole` returns. A line is printed for each count: steps, bytes that one goes through, name.

#[path = "../../llm/benches/cases/case.rs"]
mod case;
mod cases;
#[path = "../../llm/benches/cases/mod.rs"]
mod llm_cases;

use std::hint::black_box;

use serde_json::{Value, json};

use case::{Case, Size};

/// Before those that count: tables grow, caches fill.
const WARM_UP: usize = 5;
/// A few, since decisions draw lots.
const COUNTED: usize = 20;

#[inline(never)]
fn count_this_step(step: &mut dyn FnMut()) {
    step();
    // Else the call would be a jump, and valgrind would not see this function return.
    black_box(());
}

#[inline(never)]
fn count_is_whole() {
    black_box(());
}

/// What everything is compared with: serde_json reads 20 KB of small objects. None of our code takes part, but the compiler
/// and the allocator do, which then change both sides of a ratio.
fn reference() -> Case {
    let element = |number: usize| {
        json!({"id": "chatcmpl-Bx0123456789abcdefghijklmnopq", "object": "chat.completion.chunk", "created": number,
            "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": {"content": "word \"quoted\"\n"},
            "logprobs": null, "finish_reason": null}]})
    };
    let text = Value::Array((0..100).map(element).collect()).to_string();
    let size = Size { bytes: text.len(), ..Size::ONE };
    let step = move || serde_json::from_slice::<Value>(black_box(text.as_bytes())).expect("JSON");
    Case::new("reference/serde_json, 20 KB", size, step, |value| {
        assert_eq!(value, &json!((0..100).map(element).collect::<Vec<_>>()))
    })
}

fn main() {
    // The reference first: nothing of ours has used the allocator by then.
    for cases in [|| vec![reference()], llm_cases::all, cases::all] {
        for Case { name, size, mut step, mut between } in cases() {
            for round in 0..WARM_UP + COUNTED {
                if let Some(between) = &mut between {
                    between();
                }
                if round < WARM_UP { step() } else { count_this_step(&mut *step) }
            }
            println!("{}\t{}\t{name}", COUNTED * size.each, size.bytes);
            count_is_whole();
        }
    }
}
