use attache_llm::contract::VERSION;

use super::*;

fn ask(call_id: &str) -> Ask {
    let text = format!(
        r#"{{"contract":{VERSION},"call_id":"{call_id}","key":"k","endpoint":"chat_completions","model":"gpt"}}"#
    );
    Ask { input_tokens: 100, ..serde_json::from_str(&text).unwrap() }
}

/// Requests of one kind, a millisecond apart, from `at` on; how many found a decision.
fn come(stocks: &mut Stocks, count: u64, at: u64) -> usize {
    (0..count).filter(|n| stocks.find(&mut ask("x"), at + n).held.is_some()).count()
}

fn asks(stocks: &mut Stocks) -> Vec<(LeaseAsk, Wanted)> {
    let mut number = 0;
    stocks.asks(|| {
        number += 1;
        format!("call-{number}")
    })
}

fn granted(calls: &[String]) -> Leased {
    let part =
        |call: &String| LeaseUse { reservation: Some(format!("r-{call}")), headers: vec![(1, call.clone())] };
    let shown = ["x-limit", "x-left"].map(|name| (name.to_owned(), "9".to_owned()));
    let note = Note { response_headers: shown.into(), ..Note::default() };
    let go = Go { plan: "P".into(), note, walk: Some(Walk::default()), ..Go::default() };
    Leased::Granted(Box::new(Lease { go, uses: calls.iter().map(part).collect(), for_ms: 100 }))
}

/// Asks for what is wanted, and is granted it.
fn fill(stocks: &mut Stocks, at: u64) -> Vec<usize> {
    let (asks, wanted): (Vec<_>, Vec<_>) = asks(stocks).into_iter().unzip();
    let answers = asks.iter().map(|ask| granted(&ask.calls)).collect();
    stocks.answered(wanted, answers, at, at);
    asks.iter().map(|ask| ask.calls.len()).collect()
}

#[test]
fn who_comes_rarely_asks_for_himself() {
    let mut stocks = Stocks::default();
    for window in 0..50 {
        assert_eq!(come(&mut stocks, u64::from(BUSY) - 1, window * 100), 0);
    }
    assert!(asks(&mut stocks).is_empty() && stocks.is_empty());
}

#[test]
fn a_busy_kind_is_decided_ahead_and_the_question_is_as_long_as_the_longest_of_its_kind() {
    let mut stocks = Stocks::default();
    assert_eq!(come(&mut stocks, 40, 0), 0);
    let asks = asks(&mut stocks);
    // In shares that go different ways.
    let shares: Vec<usize> = asks.iter().map(|(ask, _)| ask.calls.len()).collect();
    assert_eq!(shares, [3; 6], "about half of what comes in a window");
    let text = asks[0].0.ask.get();
    let told: Ask = serde_json::from_str(text).unwrap();
    assert_eq!((told.input_tokens, told.call_id.as_str(), told.key.as_str()), (104, "", "k"));
    let (asks, wanted): (Vec<_>, Vec<_>) = asks.into_iter().unzip();
    stocks.answered(wanted, asks.iter().map(|ask| granted(&ask.calls)).collect(), 40, 42);
    let mut one = ask("mine");
    one.input_tokens = 97;
    let found = stocks.find(&mut one, 43);
    let mut held = found.held.unwrap();
    assert_eq!(held.call_id, "call-1", "in order");
    let note = held.note();
    assert_eq!(note.reservation.as_deref(), Some("r-call-1"));
    assert!(note.response_headers.is_empty() && held.walk().is_some() && held.go().plan == "P");
    assert_eq!(held.shown().iter().collect::<Vec<_>>(), [("x-limit", "9"), ("x-left", "call-1")]);
    assert_eq!((one.call_id.as_str(), one.input_tokens), ("mine", 97), "the question is left as it was");
    one.input_tokens = 105;
    assert!(stocks.find(&mut one, 43).held.is_none(), "longer than what was decided about");
}

#[test]
fn what_differs_in_anything_is_another_kind() {
    let mut stocks = Stocks::default();
    come(&mut stocks, 20, 0);
    fill(&mut stocks, 20);
    let others: [fn(&mut Ask); 9] = [
        |ask| ask.key = "other".into(),
        |ask| ask.model = "other".into(),
        |ask| ask.stream = true,
        |ask| ask.max_tokens = Some(5),
        |ask| ask.n = Some(2),
        |ask| ask.needs = vec!["tools".into()],
        |ask| ask.user = Some("u".into()),
        |ask| ask.wishes.disable_fallbacks = true,
        |ask| ask.endpoint = Endpoint::Embeddings,
    ];
    for change in others {
        let mut other = ask("x");
        change(&mut other);
        assert!(stocks.find(&mut other, 21).held.is_none(), "{other:?}");
    }
    let mut explain = ask("x");
    explain.explain = true;
    assert!(stocks.find(&mut explain, 21).held.is_none());
    assert!(stocks.find(&mut ask("x"), 21).held.is_some());
}

#[test]
fn more_is_asked_for_when_half_is_used_and_only_the_first_wakes() {
    let mut stocks = Stocks::default();
    let woken: Vec<bool> = (0..20).map(|n| stocks.find(&mut ask("x"), n).wake).collect();
    assert_eq!(woken.iter().filter(|woken| **woken).count(), 1);
    assert!(woken[15], "the sixteenth");
    let there: usize = fill(&mut stocks, 20).iter().sum();
    assert_eq!(there, 10, "half of twenty");
    let mut used = 0;
    while !stocks.find(&mut ask("x"), 21).wake {
        used += 1;
    }
    assert!((3..=5).contains(&used), "{used}");
}

#[test]
fn old_decisions_are_not_used_and_given_back() {
    let mut stocks = Stocks::default();
    come(&mut stocks, 20, 0);
    let (asks, wanted): (Vec<_>, Vec<_>) = asks(&mut stocks).into_iter().unzip();
    // They count from when they were asked for, however long the answer took.
    stocks.answered(wanted, asks.iter().map(|ask| granted(&ask.calls)).collect(), 20, 90);
    assert!(!stocks.is_empty());
    assert!(stocks.find(&mut ask("x"), 119).held.is_some());
    assert!(stocks.find(&mut ask("x"), 120).held.is_none());
    let back = stocks.expire(120);
    let count = asks.iter().map(|ask| ask.calls.len()).sum::<usize>();
    assert_eq!(back.len(), count - 1, "one was used: {back:?}");
    assert!(back.iter().all(|id| id.starts_with("r-call-")) && !back.contains(&"r-call-1".to_owned()));
    assert!(stocks.expire(121).is_empty() && stocks.is_empty(), "once");
}

#[test]
fn who_is_refused_is_quiet_for_a_second() {
    let mut stocks = Stocks::default();
    come(&mut stocks, 20, 0);
    let wanted: Vec<_> = asks(&mut stocks).into_iter().map(|(_, wanted)| wanted).collect();
    let answers = vec![Leased::Refused; wanted.len()];
    stocks.answered(wanted, answers, 20, 20);
    for at in (100..1_000).step_by(100) {
        come(&mut stocks, 20, at);
    }
    assert!(asks(&mut stocks).is_empty());
    come(&mut stocks, 20, 1_020);
    let wanted: Vec<_> = asks(&mut stocks).into_iter().map(|(_, wanted)| wanted).collect();
    assert!(!wanted.is_empty());
    // One that knows no leases, or answers nothing, has granted none.
    stocks.answered(wanted, Vec::new(), 1_020, 1_020);
    come(&mut stocks, 20, 1_900);
    assert!(asks(&mut stocks).is_empty());
}

#[test]
fn answers_that_fit_no_question_are_given_back() {
    let mut stocks = Stocks::default();
    come(&mut stocks, 20, 0);
    let wanted: Vec<_> = asks(&mut stocks).into_iter().map(|(_, wanted)| wanted).collect();
    let calls = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    let mut answers: Vec<_> = wanted.iter().map(|_| granted(&calls(1))).collect();
    stocks.answered(wanted.clone(), answers.clone(), 20, 20);
    assert_eq!(stocks.expire(20).len(), answers.len(), "another number of uses");
    answers.push(granted(&calls(3)));
    stocks.answered(wanted, answers, 20, 20);
    assert!(stocks.find(&mut ask("x"), 21).held.is_none());
    let total = stocks.expire(21).len();
    assert!(total >= 4, "another number of answers: {total}");
    stocks.give_back(vec![granted(&calls(2)), Leased::Refused]);
    assert_eq!(stocks.expire(22), ["r-0", "r-1"], "nobody waits for that call any more");
}

#[test]
fn kinds_are_bounded_and_forgotten() {
    let mut stocks = Stocks::default();
    for kind in 0..MAX_KINDS + 50 {
        for n in 0..20 {
            let mut ask = ask("x");
            ask.model = format!("m{kind}");
            stocks.find(&mut ask, n);
        }
        assert!(stocks.kinds.len() <= MAX_KINDS);
        fill(&mut stocks, 20);
        stocks.expire(200);
    }
    assert!(!stocks.kinds.is_empty());
    stocks.expire(IDLE_MS + 201);
    assert!(stocks.kinds.is_empty());
}

#[test]
fn steps_are_an_eighth_apart_at_most() {
    for tokens in (0..3_000).chain([100_000, u64::MAX / 2]) {
        let top = step(tokens);
        assert!(top >= tokens && top - tokens <= tokens / 8, "{tokens} {top}");
        assert_eq!(step(top), top);
    }
    assert_eq!(step(15), 15);
    assert!(step(u64::MAX) >= u64::MAX - 1_000 || step(u64::MAX) == u64::MAX);
}

#[test]
fn shares_are_what_is_missing() {
    for missing in 0..=64 {
        let shares: Vec<usize> = shares(missing).collect();
        assert!(shares.iter().all(|uses| (2..=MAX_LEASE_CALLS).contains(uses)) && shares.len() <= MAX_ASKS);
        let sum: usize = shares.iter().sum();
        assert!(sum <= missing && missing - sum < 16, "{missing} {shares:?}");
    }
}
