use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use attache_llm::contract::{KeyChangesAsk, MASTER_KEY_HASH, VERSION};
use http::{HeaderMap, HeaderValue};

use super::cache::Limits;
use super::{Caller, KeyDirectory, Who, hash, key_of, mask};
use crate::config::{IdentityRule, Secret};
use crate::entity::double::Entities;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::store::{Author, Directory, Write};

mod principals;

const MASTER: &str = "sk-master-0123456789";
const PLAIN: &str = "sk-known-key-000000";

fn quick() -> Limits {
    Limits {
        negative_ttl: Duration::from_millis(40),
        deadline: Duration::from_millis(300),
        grace: Duration::from_millis(40),
        ..Limits::default()
    }
}

fn directory(limits: Limits) -> (Arc<Entities>, Arc<KeyDirectory>) {
    let store = Arc::new(Entities::default());
    let keys = KeyDirectory::with_limits(store.clone(), Some(Secret::new(MASTER)), limits);
    (store, keys)
}

fn key_entity(plain: &str) -> Entity {
    Entity { name: mask(plain), ..Entity::new(EntityKind::Key, hash(plain)) }
}

/// Stores a key; its hash.
fn put(store: &Entities, plain: &str) -> String {
    store.put(key_entity(plain)).id
}

fn key_ref(hash: &str) -> EntityRef {
    EntityRef::new(EntityKind::Key, hash)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

/// A key with everyone that there can be behind it.
fn family(store: &Entities) -> String {
    let some = |text: &str| Some(text.to_owned());
    let mut key =
        Entity { team_id: some("t"), user_id: some("u"), budget_id: some("kb"), ..key_entity(PLAIN) };
    key.settings.tags = vec!["k".to_owned(), "both".to_owned()];
    let mut team =
        Entity { organization_id: some("o"), budget_id: some("tb"), ..Entity::new(EntityKind::Team, "t") };
    team.settings.tags = vec!["both".to_owned(), "t".to_owned()];
    let budget = |id: &str, rpm: u64| {
        let mut budget = Entity::new(EntityKind::Budget, id);
        budget.settings.rpm_limit = Some(rpm);
        store.put(budget);
    };
    budget("kb", 1);
    budget("tb", 2);
    budget("mb", 3);
    budget("ob", 4);
    budget("eb", 5);
    store.put(team);
    store.put(Entity::new(EntityKind::User, "u"));
    store.put(Entity { budget_id: some("mb"), ..Entity::new(EntityKind::Member, member_id("t", "u")) });
    store.put(Entity { budget_id: some("ob"), ..Entity::new(EntityKind::Organization, "o") });
    store.put(Entity { budget_id: some("eb"), ..Entity::new(EntityKind::EndUser, "ann") });
    store.put(Entity::new(EntityKind::Tag, "r"));
    store.put(key).id
}

/// Is the key known to decisions?
async fn known(keys: &KeyDirectory, hash: &str) -> bool {
    keys.principal(hash, &Who::default()).await.unwrap().is_some()
}

/// What a gate that has heard of everything so far asks.
fn gate(keys: &KeyDirectory) -> KeyChangesAsk {
    let first = keys.changes(&KeyChangesAsk { contract: VERSION, epoch: String::new(), generation: 0 });
    KeyChangesAsk { contract: VERSION, epoch: first.epoch, generation: first.generation }
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
    assert_eq!(keys.principal(MASTER_KEY_HASH, &Who::default()).await.unwrap().unwrap().key, None);
}

#[tokio::test]
async fn concurrent_lookups_read_the_database_once() {
    let (store, keys) = directory(Limits::default());
    *store.delay.lock() = Duration::from_millis(30);
    let known = put(&store, PLAIN);
    let lookups = (0..50).map(|_| keys.record(&known));
    for record in futures_util::future::join_all(lookups).await {
        assert_eq!(record.unwrap().unwrap().id, known);
    }
    assert_eq!(store.key_reads.load(SeqCst), 1);
    assert!(keys.principal(&known, &Who::default()).await.unwrap().is_some());
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
    let key = put(&store, PLAIN);
    assert!(known(&keys, &key).await);
    store.away.store(true, SeqCst);
    // Even when nobody can tell what changed meanwhile.
    keys.cache.doubt_all();
    let before = store.key_reads.load(SeqCst);
    for _ in 0..20 {
        assert!(known(&keys, &key).await, "stale is served");
    }
    assert_eq!(store.key_reads.load(SeqCst), before + 1, "a dead database is not asked by every request");
    assert!(keys.record(&hash("sk-new")).await.is_err());
    assert!(keys.principal(&hash("sk-new"), &Who::default()).await.is_err());
    store.away.store(false, SeqCst);
    store.remove(&key_ref(&key));
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(!known(&keys, &key).await, "revoked meanwhile: gone as soon as it can be asked");
}

#[tokio::test]
async fn what_a_key_refers_to_is_needed_and_what_a_request_names_is_not() {
    let (store, keys) = directory(quick());
    let key = store.put(Entity { team_id: Some("t".to_owned()), ..key_entity(PLAIN) }).id;
    let gone = store.put(key_entity("sk-other-key-000000")).id;
    assert!(keys.record(&key).await.unwrap().is_some() && known(&keys, &gone).await);
    store.away.store(true, SeqCst);
    assert!(keys.principal(&key, &Who::default()).await.is_err(), "its team may be blocked");
    let tags = ["x".to_owned()];
    let who = Who { end_user: Some("ann"), tags: &tags, ..Who::default() };
    let principal = keys.principal(&gone, &who).await.unwrap().unwrap();
    assert_eq!(principal.end_user, Some(("ann".to_owned(), None)));
    assert_eq!(principal.tags, [("x".to_owned(), None)]);
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
async fn a_hanging_database_does_not_hold_up_known_keys() {
    let (store, keys) = directory(Limits { patience: Duration::from_millis(30), ..Limits::default() });
    let key = put(&store, PLAIN);
    assert!(known(&keys, &key).await);
    *store.delay.lock() = Duration::from_secs(60);
    keys.cache.doubt_all();
    let begun = Instant::now();
    assert!(known(&keys, &key).await);
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_change_is_seen_at_once_even_by_a_read_in_progress() {
    let (store, keys) = directory(Limits::default());
    let key = put(&store, "sk-revoked-key-0000");
    let ask = gate(&keys);
    *store.delay.lock() = Duration::from_millis(50);
    let reading = tokio::spawn({
        let (keys, key) = (keys.clone(), key.clone());
        async move { known(&keys, &key).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.all.lock().clear();
    keys.changed(&[key_ref(&key)]);
    assert!(!reading.await.unwrap(), "the row read before the change is not handed out");
    assert!(!known(&keys, &key).await, "nor cached");
    assert_eq!(keys.changes(&ask).hashes, [key]);
}

#[tokio::test]
async fn doubt_overtakes_a_read_in_progress_too() {
    let (store, keys) = directory(Limits::default());
    let key = put(&store, "sk-revoked-key-0000");
    *store.delay.lock() = Duration::from_millis(50);
    let reading = tokio::spawn({
        let (keys, key) = (keys.clone(), key.clone());
        async move { known(&keys, &key).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.all.lock().clear();
    keys.cache.doubt_all();
    assert!(!reading.await.unwrap());
}

#[tokio::test]
async fn blocked_expired_and_unknown_keys_are_refused() {
    let (store, keys) = directory(Limits::default());
    let caller = headers(&[("authorization", &format!("Bearer {PLAIN}"))]);
    let refusal = |keys: Arc<KeyDirectory>, caller: HeaderMap| async move {
        let error = keys.authenticate(&caller).await.unwrap_err();
        (error.status, error.kind.into_owned())
    };
    assert_eq!(refusal(keys.clone(), caller.clone()).await, (401, "token_not_found_in_db".to_owned()));
    let mut key = key_entity(PLAIN);
    (key.team_id, key.user_id) = (Some("t".to_owned()), Some("u".to_owned()));
    let set = |entity: &Entity| {
        store.put(entity.clone());
        keys.changed(&[entity.reference()]);
    };
    set(&key);
    assert_eq!(keys.authenticate(&caller).await.unwrap().id(), key.id);
    set(&Entity { blocked: true, ..key.clone() });
    assert_eq!(refusal(keys.clone(), caller.clone()).await, (401, "auth_error".to_owned()));
    set(&Entity { expires_ms: Some(1), ..key.clone() });
    assert_eq!(refusal(keys.clone(), caller.clone()).await, (401, "expired_key".to_owned()));
    set(&Entity { expires_ms: Some(u64::MAX), ..key.clone() });
    assert!(keys.authenticate(&caller).await.is_ok());
    for (kind, id) in [(EntityKind::Team, "t"), (EntityKind::User, "u")] {
        set(&Entity { blocked: true, ..Entity::new(kind, id) });
        assert_eq!(refusal(keys.clone(), caller.clone()).await.0, 401, "blocked {kind}");
        set(&Entity::new(kind, id));
        assert!(keys.authenticate(&caller).await.is_ok());
    }
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_known_keys_cached_and_costs_few_queries() {
    let limits = Limits { max_unknown: 1_000, reads_per_second: 100, burst: 5, ..Limits::default() };
    let (store, keys) = directory(limits);
    let key = put(&store, PLAIN);
    assert!(known(&keys, &key).await);
    let begun = Instant::now();
    let bad: Vec<String> = (0..20_000).map(|index| hash(&format!("sk-bad-{index}"))).collect();
    for some in bad.chunks(4_000) {
        let lookups = some.iter().map(|hash| keys.record(hash));
        for record in futures_util::future::join_all(lookups).await {
            assert_eq!(record.unwrap(), None);
        }
    }
    let allowed = 8 + begun.elapsed().as_millis() as usize / 10;
    assert!(store.key_reads.load(SeqCst) <= allowed, "{} queries, {allowed}", store.key_reads.load(SeqCst));
    let (_, unknown) = keys.cache.sizes();
    assert!(unknown <= 1_000, "{unknown}");
    let reads = store.key_reads.load(SeqCst);
    assert!(known(&keys, &key).await);
    assert_eq!(store.key_reads.load(SeqCst), reads);
    for index in 0..2_000 {
        let name = format!("end-user-{index}");
        let who = Who { end_user: Some(&name), ..Who::default() };
        drop(tokio::time::timeout(Duration::ZERO, keys.principal(&key, &who)).await);
    }
    assert!(known(&keys, &key).await, "and end users");
}

#[tokio::test]
async fn a_new_key_gets_in_during_a_flood() {
    // One by one they would take 100 seconds.
    let deadline = Duration::from_secs(20);
    let (store, keys) = directory(Limits { reads_per_second: 100, burst: 1, deadline, ..Limits::default() });
    let new = put(&store, PLAIN);
    let flood = tokio::spawn({
        let keys = keys.clone();
        async move {
            let bad: Vec<String> = (0..10_000).map(|index| hash(&format!("sk-bad-{index}"))).collect();
            futures_util::future::join_all(bad.iter().map(|hash| keys.record(hash))).await.len()
        }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let begun = Instant::now();
    assert!(known(&keys, &new).await);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    flood.abort();
}

#[tokio::test]
async fn lookups_beyond_the_line_fail_at_once() {
    let (store, keys) = directory(Limits { max_waiting: 10, ..Limits::default() });
    *store.delay.lock() = Duration::from_millis(50);
    let bad: Vec<String> = (0..30).map(|index| hash(&format!("sk-bad-{index}"))).collect();
    let records = futures_util::future::join_all(bad.iter().map(|hash| keys.record(hash))).await;
    assert_eq!(records.iter().filter(|record| record.is_err()).count(), 20);
}

#[tokio::test]
async fn ids_that_nobody_can_have_are_not_asked_for() {
    let (store, keys) = directory(Limits::default());
    for id in ["", "a\0b", &"x".repeat(513)] {
        assert_eq!(keys.holder(&EntityRef::new(EntityKind::EndUser, id)).await.unwrap(), None);
    }
    assert_eq!(store.key_reads.load(SeqCst), 0);
}

#[tokio::test]
async fn a_change_by_another_sidecar_holds_within_a_second() {
    let (store, keys) = directory(Limits::default());
    let key = family(&store);
    let following = tokio::spawn(keys.clone().follow());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ask = gate(&keys);
    let principal = async || keys.principal(&key, &Who::default()).await.unwrap();
    assert!(!principal().await.unwrap().team.unwrap().entity.blocked);
    let until = async |what: &str, done: &dyn Fn(Option<crate::entity::Principal>) -> bool| {
        let begun = Instant::now();
        while !done(principal().await) {
            assert!(begun.elapsed() < Duration::from_millis(600), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut budget = Entity::new(EntityKind::Budget, "kb");
    budget.settings.rpm_limit = Some(77);
    store.put(budget);
    until("budget", &|p| p.unwrap().key.unwrap().setting(|s| s.rpm_limit) == Some(77)).await;
    store.put(Entity { blocked: true, ..Entity::new(EntityKind::Team, "t") });
    until("team", &|p| p.unwrap().team.unwrap().entity.blocked).await;
    assert!(keys.changes(&ask).hashes.is_empty(), "gates know nothing of teams and budgets");
    store.remove(&key_ref(&key));
    until("key", &|p| p.is_none()).await;
    assert_eq!(keys.changes(&ask).hashes, [key], "the gates of this sidecar are told");
    following.abort();
}

/// A key is made here, used at once, and then the feed tells of it: that is nothing new, and no reason to forget it while
/// the database is going away.
#[tokio::test]
async fn a_new_key_outlives_the_database_although_the_feed_names_it() {
    let (store, keys) = directory(Limits::default());
    let mut feed = super::feed::Feed::default();
    feed.take(&keys.cache, &store.changes(0).await.unwrap());
    let old = put(&store, "sk-made-elsewhere-0000");
    feed.take(&keys.cache, &store.changes(0).await.unwrap());
    let key = put(&store, PLAIN);
    keys.changed(&[key_ref(&key)]);
    assert!(known(&keys, &key).await && known(&keys, &old).await);
    store.put(Entity { blocked: true, ..key_entity("sk-made-elsewhere-0000") });
    let ask = gate(&keys);
    feed.take(&keys.cache, &store.changes(1).await.unwrap());
    assert_eq!(keys.changes(&ask).hashes.len(), 2, "the gates of this sidecar may have read it before");
    store.away.store(true, SeqCst);
    assert!(known(&keys, &key).await);
    keys.record(&old).await.expect_err("it changed, nobody here knows how");
}

#[tokio::test]
async fn a_feed_that_lost_something_has_everything_asked_again() {
    let (store, keys) = directory(Limits::default());
    let mut feed = super::feed::Feed::default();
    let changes = |cursor, lost| crate::store::Changes { cursor, lost, changed: Vec::new() };
    let key = put(&store, PLAIN);
    assert!(known(&keys, &key).await);
    feed.take(&keys.cache, &changes(0, false));
    let reads = async || {
        assert!(known(&keys, &key).await);
        store.key_reads.load(SeqCst)
    };
    assert_eq!(reads().await, 2, "what was read before the feed was followed");
    feed.take(&keys.cache, &changes(0, false));
    assert_eq!(reads().await, 2);
    let ask = gate(&keys);
    feed.take(&keys.cache, &changes(7, false));
    assert_eq!(reads().await, 3, "the first change ever has no name");
    assert!(keys.changes(&ask).flush, "the gates ask again as well");
    feed.take(&keys.cache, &changes(9, false));
    assert_eq!(reads().await, 3);
    feed.take(&keys.cache, &changes(12, true));
    assert_eq!(reads().await, 4);
}
