use serde_json::Value;

use super::*;
use crate::requests::tests::request;

fn waiter(number: u32) -> Waiter {
    Waiter { context: number, call_id: format!("call-{number}") }
}

fn ask(text: &str) -> Box<RawValue> {
    RawValue::from_string(format!("\"{text}\"")).unwrap()
}

fn push(questions: &mut Questions, number: u32) -> Pushed {
    questions.push(waiter(number), ask(&number.to_string()))
}

fn asked(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["contract"], VERSION);
    body["asks"].as_array().unwrap().iter().map(|ask| ask.as_str().unwrap().to_owned()).collect()
}

fn answered(questions: &mut Questions, flight: u64) -> Vec<Waiter> {
    questions.answered(flight).map(|flight| flight.waiters).unwrap_or_default()
}

fn leave(questions: &mut Questions, number: u32) -> Option<Request> {
    let request = Request { call_id: waiter(number).call_id, ..request() };
    questions.leave(request, &Ending { status: 7, ..Ending::default() })
}

#[test]
fn one_call_takes_all_that_wait_and_only_the_first_wakes() {
    let mut questions = Questions::default();
    assert_eq!(push(&mut questions, 1), Pushed::First);
    assert_eq!(push(&mut questions, 2), Pushed::More);
    let (first, body) = questions.next_call(Vec::new(), 0).unwrap();
    assert_eq!(asked(&body), ["1", "2"]);
    assert!(questions.next_call(Vec::new(), 0).is_none());
    // The next one does not wait for the first to be answered.
    assert_eq!(push(&mut questions, 3), Pushed::First);
    let (second, body) = questions.next_call(Vec::new(), 0).unwrap();
    assert_eq!(asked(&body), ["3"]);
    assert_eq!(answered(&mut questions, second), [waiter(3)]);
    assert_eq!(answered(&mut questions, first), [waiter(1), waiter(2)]);
    assert_eq!(answered(&mut questions, first), [], "once only");
}

#[test]
fn calls_are_bounded_by_number_and_by_bytes() {
    let mut questions = Questions::default();
    for number in 0..300 {
        push(&mut questions, number);
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| questions.next_call(Vec::new(), 0))
        .map(|(_, body)| asked(&body).len())
        .collect();
    assert_eq!(sizes, [256, 44]);
    for number in 0..3 {
        questions.push(waiter(number), ask(&"x".repeat(700_000)));
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| questions.next_call(Vec::new(), 0))
        .map(|(_, body)| asked(&body).len())
        .collect();
    assert_eq!(sizes, [1, 1, 1]);
}

#[test]
fn what_waits_is_bounded_and_answers_make_room() {
    let mut questions = Questions::default();
    for number in 0..10_000 {
        assert_ne!(push(&mut questions, number), Pushed::Full);
        if number % 7 == 0 {
            questions.next_call(Vec::new(), 0);
        }
    }
    assert_eq!(push(&mut questions, 10_000), Pushed::Full);
    assert_eq!(answered(&mut questions, 1).len(), 1);
    assert_ne!(push(&mut questions, 10_000), Pushed::Full);
}

#[test]
fn who_leaves_before_the_question_is_sent_was_never_there() {
    let mut questions = Questions::default();
    push(&mut questions, 1);
    push(&mut questions, 2);
    assert!(leave(&mut questions, 1).is_some());
    let (flight, body) = questions.next_call(Vec::new(), 0).unwrap();
    assert_eq!(asked(&body), ["2"]);
    assert_eq!(answered(&mut questions, flight), [waiter(2)]);
    assert!(questions.take_left("call-1").is_none());
}

#[test]
fn who_leaves_after_it_is_kept_for_the_answer() {
    let mut questions = Questions::default();
    push(&mut questions, 1);
    let (flight, _) = questions.next_call(Vec::new(), 0).unwrap();
    assert!(leave(&mut questions, 1).is_none());
    assert_eq!(answered(&mut questions, flight), [waiter(1)]);
    let (request, ending) = *questions.take_left("call-1").unwrap();
    assert_eq!((request.call_id.as_str(), ending.status), ("call-1", 7));
    assert!(questions.take_left("call-1").is_none(), "once only");
}

#[test]
fn a_call_that_never_ends_is_given_up_and_its_late_answer_is_nobodys() {
    let mut questions = Questions::default();
    push(&mut questions, 1);
    let (old, _) = questions.next_call(Vec::new(), 1_000).unwrap();
    push(&mut questions, 2);
    let (new, _) = questions.next_call(Vec::new(), 2_000).unwrap();
    assert_eq!(questions.overdue(1_500, 2_500), []);
    let given_up = questions.overdue(1_500, 2_501);
    assert_eq!(given_up, [Flight { waiters: vec![waiter(1)], wanted: Vec::new(), sent_ms: 1_000 }]);
    assert_eq!(answered(&mut questions, old), []);
    assert_eq!(answered(&mut questions, new), [waiter(2)]);
}
