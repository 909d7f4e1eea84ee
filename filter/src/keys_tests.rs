use super::*;

const A: Hash = [1; 32];
const B: Hash = [2; 32];

fn table() -> KeyTable {
    KeyTable::new(&GateConfig {
        key_ttl_ms: 1_000,
        negative_ttl_ms: 100,
        max_keys: 2,
        max_negative: 2,
        ..GateConfig::default()
    })
}

fn record(id: &str) -> KeyRecord {
    KeyRecord { id: id.into(), name: "sk-...abcd".into(), expires_ms: None, blocked: false }
}

fn is_record(known: &Known, id: &str) -> bool {
    matches!(known, Known::Record(record) if record.id == id)
}

#[test]
fn concurrent_misses_share_one_lookup() {
    let mut keys = table();
    assert!(matches!(keys.find(&A, 0), Known::Ask));
    assert_eq!(keys.join(A, 10, 0), Joined::First);
    assert_eq!(keys.join(A, 11, 1), Joined::Shared);
    assert_eq!(keys.next_lookup(), Some(A));
    assert_eq!(keys.next_lookup(), None);
    assert_eq!(keys.answered(&A, Some(record("a")), 2), vec![10, 11]);
    assert!(is_record(&keys.find(&A, 3), "a"));
}

#[test]
fn a_known_key_is_asked_for_again_after_its_time() {
    let mut keys = table();
    keys.answered(&A, Some(record("a")), 0);
    assert!(is_record(&keys.find(&A, 999), "a"));
    assert!(matches!(keys.find(&A, 1_000), Known::Ask));
}

#[test]
fn an_unknown_key_is_refused_without_asking_for_a_while() {
    let mut keys = table();
    keys.answered(&A, None, 0);
    assert!(matches!(keys.find(&A, 99), Known::Nobody));
    assert!(matches!(keys.find(&A, 100), Known::Ask));
}

#[test]
fn while_the_sidecar_is_away_known_keys_go_on_and_unknown_ones_are_asked_for() {
    let mut keys = table();
    keys.answered(&A, Some(record("a")), 0);
    keys.join(A, 10, 2_000);
    assert_eq!(keys.next_lookup(), Some(A));
    assert_eq!(keys.failed(&A, 2_000), vec![10]);
    assert!(is_record(&keys.find(&A, 2_001), "a"), "past its time, but nobody can be asked");
    assert!(matches!(keys.find(&B, 2_001), Known::Ask));
    assert!(matches!(keys.find(&A, 3_000), Known::Ask), "after a second the sidecar is tried again");
}

#[test]
fn a_changed_key_is_forgotten_at_once() {
    let mut keys = table();
    keys.answered(&A, Some(record("a")), 0);
    keys.answered(&B, None, 0);
    keys.forget(&A);
    keys.forget(&B);
    assert!(matches!(keys.find(&A, 1), Known::Ask));
    assert!(matches!(keys.find(&B, 1), Known::Ask), "a key just made must not stay refused");
}

#[test]
fn an_answer_overtaken_by_a_change_serves_its_waiters_and_is_asked_for_again() {
    let mut keys = table();
    keys.join(A, 10, 0);
    keys.join(B, 11, 0);
    assert_eq!((keys.next_lookup(), keys.next_lookup()), (Some(A), Some(B)));
    keys.forget(&A);
    keys.forget(&B);
    assert_eq!(keys.answered(&A, Some(record("a")), 1), vec![10]);
    assert_eq!(keys.answered(&B, None, 1), vec![11]);
    assert!(matches!(keys.find(&A, 2), Known::Ask), "revoked after the answer was written");
    assert!(matches!(keys.find(&B, 2), Known::Ask), "made after the answer was written");
    keys.join(A, 12, 2);
    keys.next_lookup();
    keys.answered(&A, Some(record("a")), 3);
    assert!(is_record(&keys.find(&A, 4), "a"));
}

#[test]
fn doubt_asks_again_but_does_not_refuse_when_nobody_answers() {
    let mut keys = table();
    keys.answered(&A, Some(record("a")), 0);
    keys.doubt_all();
    assert!(matches!(keys.find(&A, 1), Known::Ask));
    keys.failed(&A, 1);
    assert!(is_record(&keys.find(&A, 2), "a"));
}

#[test]
fn a_request_that_left_is_not_woken() {
    let mut keys = table();
    keys.join(A, 10, 0);
    keys.join(A, 11, 0);
    keys.leave(&A, 10);
    keys.next_lookup();
    assert_eq!(keys.answered(&A, None, 1), vec![11]);
}

#[test]
fn lookups_are_bounded_in_flight_and_in_the_queue() {
    let mut keys = table();
    let hash = |n: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        hash
    };
    for n in 0..MAX_QUEUED {
        assert_eq!(keys.join(hash(n), 1, 0), Joined::First);
    }
    assert_eq!(keys.join(hash(MAX_QUEUED), 1, 0), Joined::Full);
    let sent = std::iter::from_fn(|| keys.next_lookup()).count();
    assert_eq!(sent, MAX_LOOKUPS);
    keys.answered(&hash(0), None, 1);
    assert_eq!(keys.next_lookup(), Some(hash(MAX_LOOKUPS)), "a freed slot is used");
}

#[test]
fn a_lost_lookup_does_not_hang_its_waiters_or_its_slot() {
    let mut keys = table();
    keys.join(A, 10, 0);
    keys.next_lookup();
    keys.join(B, 11, 0);
    assert_eq!(keys.overdue(1_500, 1_500), Vec::<u32>::new());
    let mut late = keys.overdue(1_500, 1_501);
    late.sort_unstable();
    assert_eq!(late, vec![10, 11]);
    assert_eq!(keys.in_flight, 0);
    assert_eq!(keys.next_lookup(), None);
}

#[test]
fn the_tables_are_bounded() {
    let mut keys = table();
    for n in 0..5 {
        keys.answered(&[n; 32], Some(record("k")), 0);
    }
    assert_eq!(keys.known.len(), 2);
}
