use serde_json::json;

use super::*;
use crate::config::Secret;
use crate::entity::double::Entities;
use crate::store::{Author, Write};

const SALT: &str = "sk-salt-of-this-test";

fn salt(text: &str) -> Salt {
    Salt { key: SaltKey::new(&Secret::new(text)), is_master_key: false }
}

fn sealed(kind: EntityKind, id: &str, part: &str, plain: Value) -> Entity {
    let mut entity = Entity::new(kind, id);
    let values = secrets::seal(plain.as_object().unwrap(), &salt(SALT).key);
    entity.settings.rest.insert(part.to_owned(), Value::Object(values));
    if kind == EntityKind::Model {
        entity.alias = Some(format!("group-of-{id}"));
    }
    entity
}

fn model(id: &str, params: Value) -> Entity {
    sealed(EntityKind::Model, id, LITELLM_PARAMS, params)
}

async fn write(entities: &Entities, these: Vec<Entity>) {
    let writes: Vec<Write> = these.into_iter().map(Write::Insert).collect();
    entities.apply(&writes, &Author::default()).await.unwrap();
}

async fn filled() -> Entities {
    let entities = Entities::default();
    let named =
        json!({"model": "openai/gpt-4o", "litellm_credential_name": "ours", "rpm": 5, "timeout": null});
    let own = json!({"model": "openai/gpt-4o", "litellm_credential_name": "ours", "api_key": "sk-own"});
    let lost = json!({"model": "openai/gpt-4o", "litellm_credential_name": "gone"});
    let mut blocked = model("m4", json!({"model": "openai/gpt-4o"}));
    blocked.blocked = true;
    blocked
        .settings
        .rest
        .insert("model_info".to_owned(), json!({"db_model": true, "id": "m4", "mode": null}));
    write(&entities, vec![model("m1", named), model("m2", own), model("m3", lost), blocked]).await;
    let values = json!({"api_key": "sk-named", "api_base": "http://there/v1"});
    write(&entities, vec![sealed(EntityKind::Credential, "ours", CREDENTIAL_VALUES, values)]).await;
    entities
}

#[tokio::test]
async fn models_become_entries_with_their_credentials() {
    let entities = filled().await;
    let stored = read(&entities, Some(&salt(SALT))).await.unwrap();
    let entries: BTreeMap<&str, &Value> = stored.models.iter().map(|m| (m.id.as_str(), &m.entry)).collect();
    assert_eq!(entries.keys().copied().collect::<Vec<_>>(), ["m1", "m2", "m4"], "m3's credential is gone");
    assert_eq!(
        *entries["m1"],
        json!({
            "model_name": "group-of-m1", "blocked": false, "model_info": {"id": "m1"},
            "litellm_params":
                {"model": "openai/gpt-4o", "rpm": 5, "api_key": "sk-named", "api_base": "http://there/v1"},
        })
    );
    assert_eq!(entries["m2"]["litellm_params"]["api_key"], "sk-own", "the model's own parameters win");
    assert_eq!(
        (&entries["m4"]["blocked"], &entries["m4"]["model_info"]),
        (&json!(true), &json!({"id": "m4"}))
    );
    assert!(!format!("{stored:?}").contains("sk-"), "no secret is shown");
}

#[tokio::test]
async fn another_salt_key_is_refused() {
    let entities = filled().await;
    for wrong in [None, Some(salt("sk-another"))] {
        let error = read(&entities, wrong.as_ref()).await.unwrap_err();
        assert!(error.to_string().contains("LITELLM_SALT_KEY"), "{error}");
        assert!(!is_away(&error));
    }
    assert!(read(&Entities::default(), None).await.unwrap().models.is_empty(), "nothing needs no key");
}

#[tokio::test]
async fn only_changes_of_models_are_news() {
    let entities = Entities::default();
    let every = Duration::from_millis(10);
    let waited = async |follow: &mut Follow| timeout(20 * every, follow.changed(&entities)).await.is_ok();

    let mut never_read = Follow { cursor: None, every };
    assert!(waited(&mut never_read).await, "read as soon as the database answers");
    assert!(!waited(&mut never_read).await);

    write(&entities, vec![Entity::new(EntityKind::Team, "t")]).await;
    let mut follow = Follow { cursor: Some(entities.changes(0).await.unwrap().cursor), every };
    write(&entities, vec![Entity::new(EntityKind::Team, "t2")]).await;
    assert!(!waited(&mut follow).await, "a team is none of our business");
    write(&entities, vec![model("m", json!({"model": "openai/x"}))]).await;
    assert!(waited(&mut follow).await);
    assert!(!waited(&mut follow).await, "once");
}

#[test]
fn only_a_start_goes_on_without_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let text = "model_list: []\ngeneral_settings: {store_model_in_db: true, database_url: postgres://u:p@127.0.0.1:1/x}\n";
    std::fs::write(&file, text).unwrap();
    let env = Env::from([("LITELLM_MASTER_KEY", "sk-5f3a9c07d1e84b62")]);
    let config = crate::config::load(&file, &env).unwrap().config;
    let started = stored_models(&config, folder.path(), &env, true).unwrap();
    assert_eq!((started.models.len(), started.cursor), (0, None), "read as soon as it answers");
    let error = stored_models(&config, folder.path(), &env, false).unwrap_err();
    assert!(is_away(&error), "{error:#}");
}
