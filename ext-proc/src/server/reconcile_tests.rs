use super::*;

use crate::entity::{EntityKind, EntityRef};
use crate::limits::Since;

fn standing(value: u64, held: u64) -> Option<Standing> {
    Some(Standing { value, held: Some(held) })
}

fn verdict(counter: [Option<Standing>; 2], ledger: [u64; 2]) -> (u64, u64, bool) {
    let Verdict { low, high, quiet } = Found { counter, ledger: ledger.map(Some) }.verdict();
    (low, high, quiet)
}

fn tally() -> Tally {
    let counter = Counter::new("team:a:budget", 0);
    Tally { counter, of: EntityRef::new(EntityKind::Team, "a"), since: Since::Reset(0) }
}

#[test]
fn equal_and_quiet_is_out_of_doubt() {
    assert_eq!(verdict([standing(50, 0), standing(70, 20)], [50, 50]), (0, 0, true));
    assert_eq!(verdict([None, None], [50, 50]), (0, 0, true), "it will begin with what the ledger says");
    assert_eq!(
        verdict([None, standing(43, 0)], [50, 50]),
        (0, 0, false),
        "it began before the ledger had the last row"
    );
    let unknown = Found { counter: [standing(5, 0); 2], ledger: [None, None] };
    assert!(unknown.verdict().quiet);
}

#[test]
fn traffic_makes_no_difference() {
    // 30 were settled and written in between, 10 more settled only, 5 more written only.
    for ledger in [[50, 80], [50, 85], [45, 80]] {
        assert_eq!(verdict([standing(50, 0), standing(100, 10)], ledger), (0, 0, false));
    }
}

#[test]
fn a_counter_that_misses_something_is_too_low() {
    assert_eq!(verdict([standing(50, 0), standing(50, 0)], [57, 57]), (7, 0, false));
    assert_eq!(verdict([standing(50, 0), standing(52, 0)], [57, 59]), (5, 0, false));
    // Reserved for requests in flight is not spent.
    assert_eq!(verdict([standing(60, 10), standing(60, 10)], [57, 57]), (7, 0, false));
    // Nobody can say what is reserved: only what is certain.
    let unknown = Some(Standing { value: 55, held: None });
    assert_eq!(verdict([unknown, unknown], [57, 57]), (2, 0, false));
    assert_eq!(verdict([unknown, unknown], [50, 50]), (0, 0, false));
}

#[test]
fn a_counter_that_is_too_high_is_lowered_when_it_is_so_twice() {
    let doubts = Doubts::default();
    doubts.add([tally()]);
    let high = Found { counter: [standing(60, 0), standing(60, 0)], ledger: [Some(50), Some(50)] };
    let suspect = || doubts.next().remove(0);
    assert_eq!(doubts.compared(&suspect(), &high, 1), None);
    let less = Found { ledger: [Some(50), Some(53)], ..high };
    let down = |by| Some(Correction { counter: tally().counter, by });
    assert_eq!(doubts.compared(&suspect(), &less, 2), down(-7));
    let right = Found { counter: [standing(53, 0), standing(53, 0)], ledger: [Some(53), Some(53)] };
    assert_eq!(doubts.compared(&suspect(), &right, 3), None);
    assert_eq!(doubts.len(), 0);
}

#[test]
fn a_counter_that_is_too_low_is_raised_at_once() {
    let doubts = Doubts::default();
    doubts.add([tally(), tally()]);
    assert_eq!(doubts.len(), 1);
    let low = Found { counter: [standing(50, 0), standing(50, 0)], ledger: [Some(57), Some(57)] };
    let raised = doubts.compared(&doubts.next()[0], &low, 1);
    assert_eq!(raised, Some(Correction { counter: tally().counter, by: 7 }));
    assert_eq!(doubts.len(), 1, "it is in doubt until it is seen to be right");
}

#[test]
fn those_that_waited_longest_are_next_and_no_more_are_kept_than_fit() {
    let doubts = Doubts::default();
    let many = |count: usize| {
        (0..count).map(|n| Tally { counter: Counter::new(format!("team:{n}:budget"), 0), ..tally() })
    };
    doubts.add(many(AT_ONCE * 2));
    let moving = Found { counter: [standing(1, 0), standing(2, 0)], ledger: [Some(1), Some(2)] };
    let mut seen = std::collections::HashSet::new();
    for round in 1..=2 {
        for suspect in doubts.next() {
            assert!(seen.insert(suspect.tally.counter.clone()));
            assert_eq!(doubts.compared(&suspect, &moving, round), None);
        }
    }
    assert_eq!(seen.len(), AT_ONCE * 2);
    doubts.add(many(MOST + 5));
    assert_eq!(doubts.len(), MOST as u64);
}
