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
    assert_eq!(keys.join(&Caller::key(A), 10, 0), Joined::First);
    assert_eq!(keys.join(&Caller::key(A), 11, 1), Joined::Shared);
    assert_eq!(keys.next_lookup(), Some(Caller::key(A)));
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
    keys.join(&Caller::key(A), 10, 2_000);
    assert_eq!(keys.next_lookup(), Some(Caller::key(A)));
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
    keys.forget(&[Caller::key(A)]);
    keys.forget(&[Caller::key(B)]);
    assert!(matches!(keys.find(&A, 1), Known::Ask));
    assert!(matches!(keys.find(&B, 1), Known::Ask), "a key just made must not stay refused");
}

#[test]
fn an_answer_overtaken_by_a_change_serves_its_waiters_and_is_asked_for_again() {
    let mut keys = table();
    keys.join(&Caller::key(A), 10, 0);
    keys.join(&Caller::key(B), 11, 0);
    assert_eq!((keys.next_lookup(), keys.next_lookup()), (Some(Caller::key(A)), Some(Caller::key(B))));
    keys.forget(&[Caller::key(A)]);
    keys.forget(&[Caller::key(B)]);
    assert_eq!(keys.answered(&A, Some(record("a")), 1), vec![10]);
    assert_eq!(keys.answered(&B, None, 1), vec![11]);
    assert!(matches!(keys.find(&A, 2), Known::Ask), "revoked after the answer was written");
    assert!(matches!(keys.find(&B, 2), Known::Ask), "made after the answer was written");
    keys.join(&Caller::key(A), 12, 2);
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
    keys.join(&Caller::key(A), 10, 0);
    keys.join(&Caller::key(A), 11, 0);
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
        assert_eq!(keys.join(&Caller::key(hash(n)), 1, 0), Joined::First);
    }
    assert_eq!(keys.join(&Caller::key(hash(MAX_QUEUED)), 1, 0), Joined::Full);
    let sent = std::iter::from_fn(|| keys.next_lookup()).count();
    assert_eq!(sent, MAX_STRANGERS);
    keys.answered(&hash(0), None, 1);
    assert_eq!(keys.next_lookup(), Some(Caller::key(hash(MAX_STRANGERS))), "a freed slot is used");
}

#[test]
fn a_lost_lookup_does_not_hang_its_waiters_or_its_slot() {
    let mut keys = table();
    keys.join(&Caller::key(A), 10, 0);
    keys.next_lookup();
    keys.join(&Caller::key(B), 11, 0);
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

fn hash(n: usize) -> Hash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&n.to_le_bytes());
    hash[31] = 1;
    hash
}

#[test]
fn a_known_key_does_not_wait_behind_a_flood_of_strangers() {
    let mut keys = table();
    keys.answered(&A, Some(record("a")), 0);
    for n in 0..MAX_QUEUED {
        assert_eq!(keys.join(&Caller::key(hash(n)), 1, 900), Joined::First);
    }
    while keys.next_lookup().is_some() {}
    // Past its time, every slot that strangers may have is taken, and the queue fills up again.
    for n in 0..MAX_STRANGERS {
        assert_eq!(keys.join(&Caller::key(hash(MAX_QUEUED + n)), 1, 900), Joined::First);
    }
    assert_eq!(keys.join(&Caller::key(B), 1, 1_000), Joined::Full);
    assert!(matches!(keys.find(&A, 1_000), Known::Ask));
    assert_eq!(keys.join(&Caller::key(A), 10, 1_000), Joined::First);
    assert_eq!(keys.next_lookup(), Some(Caller::key(A)), "there is room and a slot for it");
    assert_eq!(keys.next_lookup(), None);
    assert_eq!(keys.answered(&A, Some(record("a")), 1_001), vec![10]);
    assert_eq!(keys.in_flight, MAX_STRANGERS);
}

#[test]
fn a_flood_of_bad_keys_leaves_the_known_ones_alone() {
    let mut keys = table();
    keys.answered(&A, Some(record("a")), 0);
    for n in 0..10_000 {
        keys.answered(&hash(n), None, 0);
    }
    assert_eq!((keys.unknown.len(), keys.known.len()), (2, 1));
    assert!(is_record(&keys.find(&A, 1), "a"));
}

#[test]
fn identities_and_keys_have_one_wire_form_each() {
    let identity = Caller::identity("spiffe:spiffe://a/b");
    assert_eq!(identity.wire(), "spiffe:spiffe://a/b");
    assert_eq!(Caller::of_wire("spiffe:spiffe://a/b"), Some(identity.clone()));
    assert_eq!(Caller::of_wire(&"01".repeat(32)), Some(Caller::key(A)));
    assert_eq!(Caller::key(A).wire(), "01".repeat(32));
    for text in ["", "01", "spiffe:x", "jwt:", "litellm_proxy_master_key"] {
        assert_eq!(Caller::of_wire(text), None, "{text}");
    }
    let mut keys = table();
    keys.join(&identity, 10, 0);
    assert_eq!(keys.next_lookup(), Some(identity.clone()), "the lookup has its text");
    keys.answered(&identity.hash, Some(record("i")), 0);
    assert!(is_record(&keys.find(&identity.hash, 1), "i"));
}

#[test]
fn slots_of_lost_lookups_are_freed_once() {
    let mut keys = table();
    for n in 0..MAX_STRANGERS {
        keys.join(&Caller::key(hash(n)), 1, 0);
    }
    while keys.next_lookup().is_some() {}
    assert_eq!(keys.overdue(10, 100).len(), MAX_STRANGERS);
    // Its answer comes all the same.
    keys.answered(&hash(0), None, 101);
    assert_eq!((keys.in_flight, keys.strangers_in_flight), (0, 0));
}

#[test]
fn an_identity_is_forgotten_with_the_key_that_it_stands_for() {
    let mut keys = KeyTable::new(&GateConfig::default());
    let ask = |keys: &mut KeyTable, caller: &Caller, answer: Option<&str>| {
        keys.join(caller, 1, 0);
        assert_eq!(keys.next_lookup().as_ref(), Some(caller));
        keys.answered(&caller.hash, answer.map(record), 0);
    };
    let [mine, other, nobody] =
        ["spiffe:spiffe://a/b", "spiffe:spiffe://a/c", "jwt:sub=x"].map(Caller::identity);
    ask(&mut keys, &mine, Some(&hex::encode(A)));
    ask(&mut keys, &other, Some(&hex::encode(B)));
    ask(&mut keys, &nobody, None);
    ask(&mut keys, &Caller::key(hash(7)), None);
    keys.forget(&[]);
    assert!(matches!(keys.find(&nobody.hash, 1), Known::Nobody));
    keys.forget(&[Caller::key(A)]);
    assert!(matches!(keys.find(&mine.hash, 1), Known::Ask), "its key changed");
    assert!(is_record(&keys.find(&other.hash, 1), &hex::encode(B)), "another key's");
    assert!(matches!(keys.find(&nobody.hash, 1), Known::Ask), "the key may be the one that it waits for");
    assert!(matches!(keys.find(&hash(7), 1), Known::Nobody), "a key is nobody's but its own");
    // An answer that was under way is from before the change.
    keys.join(&mine, 1, 2);
    keys.next_lookup();
    keys.forget(&[Caller::key(A)]);
    keys.answered(&mine.hash, Some(record(&hex::encode(A))), 3);
    assert!(matches!(keys.find(&mine.hash, 4), Known::Ask));
}
