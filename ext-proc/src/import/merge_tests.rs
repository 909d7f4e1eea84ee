use super::*;
use crate::entity::double::Entities;

const HASH: &str = "aa00000000000000000000000000000000000000000000000000000000000000";

fn key(alias: &str, rpm: u64, spend: i64) -> Wanted {
    let mut entity = Entity::new(EntityKind::Key, HASH);
    entity.alias = Some(alias.to_owned());
    entity.settings.rpm_limit = Some(rpm);
    Wanted::new(entity, spend)
}

async fn merged(entities: &Entities, wanted: Wanted, overwrite: bool) -> TableReport {
    let author = Author { user: "importer".to_owned(), ..Author::default() };
    let merge = Merge { directory: Some(entities), author: &author, dry_run: false, overwrite, now_ms: 77 };
    let mut report = TableReport::default();
    merge.page(vec![wanted], &mut report).await.unwrap();
    report
}

fn here(entities: &Entities) -> Entity {
    entities.all.lock()[&EntityRef::new(EntityKind::Key, HASH)].clone()
}

async fn change(entities: &Entities, edit: impl Fn(&mut Entity)) {
    let before = here(entities);
    let mut after = before.clone();
    edit(&mut after);
    let write = Write::Replace { before: Box::new(before), after: Box::new(after) };
    entities.apply(&[write], &Author::default()).await.unwrap();
}

fn counts(report: &TableReport) -> [u64; 5] {
    [report.created, report.updated, report.unchanged, report.skipped, report.failed]
}

#[tokio::test]
async fn created_then_unchanged_then_updated() {
    let entities = Entities::default();
    assert_eq!(counts(&merged(&entities, key("ci", 5, 700), false).await), [1, 0, 0, 0, 0]);
    assert_eq!((here(&entities).spend_nanos, here(&entities).spend_reset_ms), (700, 77));
    let feed = entities.feed.lock().len();
    assert_eq!(counts(&merged(&entities, key("ci", 5, 700), false).await), [0, 0, 1, 0, 0]);
    assert_eq!(entities.feed.lock().len(), feed, "nothing was written");
    assert_eq!(counts(&merged(&entities, key("ci", 6, 700), false).await), [0, 1, 0, 0, 0]);
    assert_eq!(here(&entities).settings.rpm_limit, Some(6));
    assert_eq!(counts(&merged(&entities, key("ci", 6, 700), false).await), [0, 0, 1, 0, 0]);
}

#[tokio::test]
async fn what_was_changed_here_stays_unless_told_otherwise() {
    let entities = Entities::default();
    merged(&entities, key("ci", 5, 0), false).await;
    change(&entities, |entity| entity.settings.rpm_limit = Some(50)).await;
    assert_eq!(counts(&merged(&entities, key("ci", 5, 0), false).await), [0, 0, 1, 0, 0]);
    let kept = merged(&entities, key("ci", 9, 0), false).await;
    assert_eq!(counts(&kept), [0, 0, 0, 1, 0]);
    assert!(kept.reasons[0].why.contains("changed here"), "{kept:?}");
    assert_eq!(here(&entities).settings.rpm_limit, Some(50));
    assert_eq!(counts(&merged(&entities, key("ci", 9, 0), true).await), [0, 1, 0, 0, 0]);
    assert_eq!(here(&entities).settings.rpm_limit, Some(9));
    assert_eq!(counts(&merged(&entities, key("ci", 9, 0), true).await), [0, 0, 1, 0, 0]);
}

#[tokio::test]
async fn what_was_made_here_stays() {
    let entities = Entities::default();
    entities.put(key("own", 1, 0).entity);
    let kept = merged(&entities, key("ci", 5, 0), false).await;
    assert!(counts(&kept) == [0, 0, 0, 1, 0] && kept.reasons[0].why.contains("not imported"), "{kept:?}");
    assert_eq!(counts(&merged(&entities, key("ci", 5, 0), true).await), [0, 1, 0, 0, 0]);
    assert_eq!(here(&entities).alias.as_deref(), Some("ci"));
}

#[tokio::test]
async fn spend_follows_litellm_until_the_key_is_used_here() {
    let entities = Entities::default();
    merged(&entities, key("ci", 5, 100), false).await;
    assert_eq!(counts(&merged(&entities, key("ci", 5, 250), false).await), [0, 1, 0, 0, 0]);
    assert_eq!(here(&entities).spend_nanos, 250);
    entities.all.lock().get_mut(&EntityRef::new(EntityKind::Key, HASH)).unwrap().spend_nanos = 260;
    assert_eq!(counts(&merged(&entities, key("ci", 5, 900), false).await), [0, 0, 1, 0, 0]);
    assert_eq!(counts(&merged(&entities, key("ci", 6, 900), false).await), [0, 1, 0, 0, 0]);
    assert_eq!(here(&entities).spend_nanos, 260, "what was spent here counts");
    merged(&entities, key("ci", 6, 900), true).await;
    assert_eq!(here(&entities).spend_nanos, 900);
}

#[tokio::test]
async fn an_alias_that_is_taken_gets_a_part_of_the_hash() {
    let entities = Entities::default();
    let mut other = Entity::new(EntityKind::Key, "bb");
    other.alias = Some("ci".to_owned());
    entities.put(other);
    let report = merged(&entities, key("ci", 5, 70), false).await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 0]);
    assert_eq!(report.reasons[0].why, "its alias is taken; it is now ci-aa000000");
    assert_eq!((here(&entities).alias.as_deref(), here(&entities).spend_nanos), (Some("ci-aa000000"), 70));
    assert_eq!(counts(&merged(&entities, key("ci", 5, 70), false).await), [0, 0, 1, 0, 0]);
    assert_eq!(counts(&merged(&entities, key("ci", 8, 70), false).await), [0, 1, 0, 0, 0]);
    assert_eq!(here(&entities).alias.as_deref(), Some("ci-aa000000"));
    assert_eq!(counts(&merged(&entities, key("ci", 8, 70), false).await), [0, 0, 1, 0, 0]);
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let entities = Entities::default();
    let author = Author::default();
    let mut report = TableReport::default();
    let merge =
        Merge { directory: Some(&entities), author: &author, dry_run: true, overwrite: false, now_ms: 77 };
    merge.page(vec![key("ci", 5, 1)], &mut report).await.unwrap();
    assert_eq!(counts(&report), [1, 0, 0, 0, 0]);
    assert!(entities.all.lock().is_empty());
}
