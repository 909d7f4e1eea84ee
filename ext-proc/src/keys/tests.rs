use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use attache_llm::contract::{KeyChangesAsk, MASTER_KEY_HASH, VERSION};
use http::{HeaderMap, HeaderValue};

use super::cache::Limits;
use super::double::Double;
use super::{Caller, KeyDirectory, hash, key_of, mask};
use crate::config::Secret;
use crate::store::{KeyRow, NewKey};

const MASTER: &str = "sk-master-0123456789";

fn quick() -> Limits {
    Limits {
        positive_ttl: Duration::from_millis(40),
        negative_ttl: Duration::from_millis(40),
        deadline: Duration::from_millis(300),
        grace: Duration::from_millis(40),
        ..Limits::default()
    }
}

fn directory(limits: Limits) -> (Arc<Double>, Arc<KeyDirectory>) {
    let store = Arc::new(Double::default());
    let keys = KeyDirectory::with_limits(store.clone(), Some(Secret::new(MASTER)), limits);
    (store, keys)
}

fn put(store: &Double, plain: &str) -> KeyRow {
    store.put_key(NewKey { hash: hash(plain), name: mask(plain), ..NewKey::default() })
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn hash_and_mask_are_litellms() {
    // echo -n sk-1234 | sha256sum
    assert_eq!(hash("sk-1234"), "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b");
    assert_eq!(mask("sk-abcdefghijkl"), "sk-...ijkl");
    assert_eq!(mask("sk-1234"), "sk-...", "nothing of a short key is shown");
    assert_eq!(mask("sk-é-ü-ö-ä-ß-x"), "sk-...-ß-x");
}

#[test]
fn the_key_is_read_from_every_place() {
    for name in ["x-litellm-api-key", "x-api-key", "api-key", "x-goog-api-key"] {
        assert_eq!(key_of(&headers(&[(name, "sk-abc")]), None).unwrap(), "sk-abc", "{name}");
    }
    assert_eq!(key_of(&headers(&[("authorization", "bearer  sk-abc ")]), None).unwrap(), "sk-abc");
    let both = headers(&[("authorization", "Bearer sk-a"), ("x-mine", "sk-b")]);
    assert_eq!(key_of(&both, Some("x-mine")).unwrap(), "sk-b");
    assert_eq!(key_of(&both, Some("x-other")).unwrap(), "sk-a");
    let refusal = |pairs: &[(&'static str, &str)]| key_of(&headers(pairs), None).unwrap_err().message;
    assert!(refusal(&[]).contains("No api key"));
    assert!(refusal(&[("authorization", "sk-abc")]).contains("Malformed"));
    assert!(
        refusal(&[("authorization", "Bearer ")]).contains("Malformed") || refusal(&[]).contains("No api key")
    );
    let leaked = hash("sk-abc");
    assert!(refusal(&[("x-api-key", &leaked)]).contains("Malformed"), "a hash is not a key");
}

#[tokio::test]
async fn the_master_key_is_known_by_its_hash_and_needs_no_database() {
    let (store, keys) = directory(quick());
    store.away.store(true, SeqCst);
    let record = keys.record(&hash(MASTER)).await.unwrap().unwrap();
    assert_eq!((record.id.as_str(), record.name.as_str()), (MASTER_KEY_HASH, "sk-...6789"));
    assert_eq!(keys.authenticate(&headers(&[("x-api-key", MASTER)])).await.unwrap(), Caller::Master);
    // The name under which the master key is recorded is no way in.
    assert_eq!(keys.record(MASTER_KEY_HASH).await.unwrap(), None);
}

#[tokio::test]
async fn concurrent_lookups_read_the_database_once() {
    let (store, keys) = directory(Limits::default());
    *store.delay.lock() = Duration::from_millis(30);
    let known = put(&store, "sk-known-key-000000").key.hash;
    let lookups = (0..50).map(|_| keys.record(&known));
    for record in futures_util::future::join_all(lookups).await {
        assert_eq!(record.unwrap().unwrap().id, known);
    }
    assert_eq!(store.key_reads.load(SeqCst), 1);
    assert!(keys.row(&known).await.unwrap().is_some());
    assert_eq!(store.key_reads.load(SeqCst), 1, "cached");
}

#[tokio::test]
async fn unknown_keys_are_remembered_and_nonsense_never_asked() {
    let (store, keys) = directory(quick());
    let unknown = hash("sk-nobody");
    assert_eq!(keys.record(&unknown).await.unwrap(), None);
    assert_eq!(keys.record(&unknown).await.unwrap(), None);
    assert_eq!(store.key_reads.load(SeqCst), 1);
    for nonsense in ["", "x", &"g".repeat(64), &"A".repeat(64), "' or 1=1 --"] {
        assert_eq!(keys.record(nonsense).await.unwrap(), None);
    }
    assert_eq!(store.key_reads.load(SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(60)).await;
    put(&store, "sk-nobody");
    assert!(keys.record(&unknown).await.unwrap().is_some(), "asked again after the negative time");
}

#[tokio::test]
async fn known_keys_survive_the_database_and_unknown_ones_do_not_get_in() {
    let (store, keys) = directory(quick());
    let known = put(&store, "sk-known-key-000000").key.hash;
    assert!(keys.record(&known).await.unwrap().is_some());
    store.away.store(true, SeqCst);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let before = store.key_reads.load(SeqCst);
    for _ in 0..20 {
        assert!(keys.record(&known).await.unwrap().is_some(), "stale is served");
    }
    assert_eq!(store.key_reads.load(SeqCst), before + 1, "a dead database is not asked by every request");
    assert!(keys.record(&hash("sk-new")).await.is_err());
    store.away.store(false, SeqCst);
    store.keys.lock().clear();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(keys.record(&known).await.unwrap().is_none(), "revoked elsewhere: gone after its time");
}

#[tokio::test]
async fn a_slow_database_counts_as_away() {
    let (store, keys) = directory(quick());
    put(&store, "sk-slow-key-0000000");
    *store.delay.lock() = Duration::from_secs(60);
    let error = keys.record(&hash("sk-slow-key-0000000")).await.unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn a_change_is_seen_at_once_even_by_a_read_in_progress() {
    let (store, keys) = directory(Limits::default());
    let key = put(&store, "sk-revoked-key-0000").key.hash;
    *store.delay.lock() = Duration::from_millis(50);
    let reading = tokio::spawn({
        let (keys, key) = (keys.clone(), key.clone());
        async move { keys.row(&key).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.keys.lock().clear();
    keys.changed(std::slice::from_ref(&key));
    assert!(reading.await.unwrap().is_none(), "the row read before the change is not handed out");
    assert!(keys.row(&key).await.unwrap().is_none(), "nor cached");
    let changes = keys.changes(&KeyChangesAsk { contract: VERSION, epoch: String::new(), generation: 0 });
    assert!(changes.flush);
    let ask = KeyChangesAsk { contract: VERSION, epoch: changes.epoch, generation: 0 };
    assert_eq!(keys.changes(&ask).hashes, [key]);
}

#[tokio::test]
async fn blocked_expired_and_unknown_keys_are_refused() {
    let (store, keys) = directory(Limits::default());
    let plain = "sk-some-key-0000000";
    let caller = headers(&[("authorization", &format!("Bearer {plain}"))]);
    let refusal = |keys: Arc<KeyDirectory>, caller: HeaderMap| async move {
        let error = keys.authenticate(&caller).await.unwrap_err();
        (error.status, error.kind.into_owned())
    };
    assert_eq!(refusal(keys.clone(), caller.clone()).await, (401, "token_not_found_in_db".to_owned()));
    let row = put(&store, plain);
    keys.changed(std::slice::from_ref(&row.key.hash));
    assert_eq!(keys.authenticate(&caller).await.unwrap().id(), row.key.hash);
    let change = |edit: fn(&mut KeyRow)| {
        let mut row = row.clone();
        edit(&mut row);
        store.keys.lock().insert(row.key.hash.clone(), row.clone());
        keys.changed(&[row.key.hash]);
    };
    change(|row| row.blocked = true);
    assert_eq!(refusal(keys.clone(), caller.clone()).await, (401, "auth_error".to_owned()));
    change(|row| row.key.expires_ms = Some(1));
    assert_eq!(refusal(keys.clone(), caller.clone()).await, (401, "expired_key".to_owned()));
    change(|row| row.key.expires_ms = Some(u64::MAX));
    assert!(keys.authenticate(&caller).await.is_ok());
}

#[tokio::test]
async fn a_flood_of_bad_keys_leaves_known_ones_cached() {
    let (store, keys) = directory(Limits { max_known: 100, max_unknown: 100, ..Limits::default() });
    let known = put(&store, "sk-known-key-000000").key.hash;
    assert!(keys.row(&known).await.unwrap().is_some());
    for index in 0..2_000 {
        assert!(keys.row(&hash(&format!("sk-bad-{index}"))).await.unwrap().is_none());
    }
    let reads = store.key_reads.load(SeqCst);
    assert!(keys.row(&known).await.unwrap().is_some());
    assert_eq!(store.key_reads.load(SeqCst), reads);
}

#[tokio::test]
async fn a_key_revoked_by_another_sidecar_stops_within_a_second() {
    let store = Arc::new(Double::default());
    let other = KeyDirectory::new(store.clone(), None);
    let keys = KeyDirectory::new(store.clone(), None);
    let key = put(&store, "sk-shared-key-00000").key.hash;
    assert!(keys.row(&key).await.unwrap().is_some());
    let first = keys.changes(&KeyChangesAsk { contract: VERSION, epoch: String::new(), generation: 0 });
    let ask = KeyChangesAsk { contract: VERSION, epoch: first.epoch, generation: first.generation };
    store.keys.lock().clear();
    other.changed(std::slice::from_ref(&key));
    let begun = std::time::Instant::now();
    while keys.row(&key).await.unwrap().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(1), "still let in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(keys.changes(&ask).hashes, [key], "the gates of this sidecar are told");
}

#[tokio::test]
async fn spend_alone_is_no_change_and_refreshes_are_bounded() {
    let (store, keys) = directory(Limits {
        refresh_after: Duration::from_millis(5),
        refreshes_per_second: 3,
        ..Limits::default()
    });
    let key = put(&store, "sk-known-key-000000").key.hash;
    let first = keys.changes(&KeyChangesAsk { contract: VERSION, epoch: String::new(), generation: 0 });
    for _ in 0..20 {
        store.keys.lock().get_mut(&key).unwrap().spend_nanos += 1;
        assert!(keys.row(&key).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.key_reads.load(SeqCst), 4, "one read, three refreshes");
    let ask = KeyChangesAsk { contract: VERSION, epoch: first.epoch, generation: first.generation };
    assert!(keys.changes(&ask).hashes.is_empty());
}

#[tokio::test]
async fn a_hanging_database_does_not_hold_up_known_keys() {
    let (store, keys) = directory(Limits {
        positive_ttl: Duration::from_millis(20),
        patience: Duration::from_millis(30),
        ..Limits::default()
    });
    let key = put(&store, "sk-known-key-000000").key.hash;
    assert!(keys.row(&key).await.unwrap().is_some());
    *store.delay.lock() = Duration::from_secs(60);
    tokio::time::sleep(Duration::from_millis(40)).await;
    let begun = std::time::Instant::now();
    assert!(keys.row(&key).await.unwrap().is_some());
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
}
