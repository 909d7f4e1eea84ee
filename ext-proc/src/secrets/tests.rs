use serde_json::{Map, Value, json};

use super::*;
use crate::entity::double::Entities;
use crate::entity::{Entity, EntityKind, EntityRef};
use crate::store::{Author, Directory, StoreError, Write};

const SALT: &str = "sk-salt-of-the-golden-tests-1";

/// Made by PyNaCl and Python's `cryptography` in the way LiteLLM calls them: plain text, v2, v3, old, oldest (standard
/// base64).
const GOLDEN: [[&str; 5]; 4] = [
    [
        "sk-provider-key-0123456789",
        "v2:gcm:oLmpalHcbhRN0iWjal8WyFKHrtj4C7v4frzbs5p0EYCTLSCbWLWsfKlT98k4OQsIOWUx25YZ",
        "v3:gcm:DMUTgsPs04G4gbYJGEOx65LVkIRWUPMIUp3fr6nfZsLYFspv7Oh5d_RJHTAV7TF-lXswHm-V",
        "CxQi6eF7VJw75V3obtp8fTEoUxte-8Ur1cq3YbpumdwBs5tTHYO43ewAVTnbdIF-J4gPHU-a6cO-_2qZSus2gIPK",
        "048QDsy+dC2+hrJe8mYNbKqltzv+X2rT9Pd8/P8RDk0LiMVxsGorZwQpehaiBqrO6qrImQ4YpklUz6AvmYf9zS5C",
    ],
    [
        "openai/gpt-4o",
        "v2:gcm:7YGPF_OiJgAInDHtnUX06edjYdqPTW56shWZket1TiYaTmiiiWIMDaI=",
        "v3:gcm:YIoJAEs132I9J99BSd0HW66nXnF8ljATrAJK73FXt78jCVPl7_YyRR8=",
        "iL2Ry8tBbtf5p3zpf5-0MFoYEIAxdN8VSsDyAl_KivYxC_ng3EwH-6RmrcRX0a1Zw124tok=",
        "b1uzY7jXsAEi5MxtCXMdbmohOccnaZII19u27Y5Aszfbjni/+vjYplmsvqtHU66gzyx6WSQ=",
    ],
    [
        "",
        "v2:gcm:LK03jO4PvW4N-kzaxPYg5U9LXfCevKkWEEYGbA==",
        "v3:gcm:fU5HD4jDpOW7-EgJUVu_wPnFq6kqC6rbZd9N7g==",
        "6alaggDPunn8ASO66kWXdxQcI0kt_C9Df4DhzOCbDvYqOw5RrM_cdw==",
        "nHCU1pSGzFBCtwhDQi+EdZGZXiYhuhgcedk/QCvsHnLhuE3NmyElIA==",
    ],
    [
        "schlüssel – ключ",
        "v2:gcm:ZNva4oAn_OFsBAG2ocqf9lOS7JMMj5yLyCOeIThB4NRbISsdmfKh03eHeVsCzpUIjyTE",
        "v3:gcm:sFiUq9SCnbQkNKBxG2idWsxFnZaQjxQJ4OZ8K75SnM1XiNxGysualVylr1MY4IPPW2V0",
        "_QK0PT5bKCYsRv0wg-ZHtDaG06GenmJ3XLQrbPAhDnA-MDl1YW6jQEPkw1AjpEaVON_E0b4kFxSuan6NZkTP",
        "f5PqoHrs9/IXYSZDzFBtHHkJFvqrJuPvPVCeeB1vcI/scFdj3VlEp4a3DUNAOG+iCgCqBpvdhauvSJXfL5Zx",
    ],
];

fn salt_key(text: &str) -> SaltKey {
    SaltKey::new(&Secret::new(text))
}

fn salt(text: &str) -> Salt {
    Salt { key: salt_key(text), is_master_key: false }
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn author() -> Author {
    Author::default()
}

#[test]
fn every_form_of_litellm_is_read() {
    let (right, wrong) = (salt_key(SALT), salt_key("sk-another"));
    for [plain, sealed @ ..] in GOLDEN {
        for sealed in sealed {
            assert_eq!(right.decrypt(sealed).unwrap().expose(), plain, "{sealed}");
            assert_eq!(wrong.decrypt(sealed), Err(DecryptError::WrongKey), "{sealed}");
            assert!(looks_encrypted(sealed), "{sealed}");
        }
    }
}

#[test]
fn what_is_written_is_v2_and_never_the_same_twice() {
    let key = salt_key(SALT);
    let (one, two) = (key.encrypt("sk-plain"), key.encrypt("sk-plain"));
    assert_ne!(one, two);
    for sealed in [one, two] {
        assert!(sealed.starts_with("v2:gcm:") && !sealed.contains("plain"), "{sealed}");
        assert_eq!(key.decrypt(&sealed).unwrap().expose(), "sk-plain");
    }
}

#[test]
fn damage_is_noticed_and_nothing_panics() {
    let key = salt_key(SALT);
    let sealed = GOLDEN[0][1];
    for at in 7..sealed.len() {
        let mut damaged = sealed.to_owned();
        let other = if &sealed[at..=at] == "A" { "B" } else { "A" };
        damaged.replace_range(at..=at, other);
        assert!(key.decrypt(&damaged).is_err(), "{damaged}");
        assert!(key.decrypt(&sealed[..at]).is_err());
    }
    for odd in ["", "*", "v2:gcm:", "v3:gcm:!", "v2:gcm:AAAA", "openai/gpt-4o", "sk-short", "ü"] {
        assert!(key.decrypt(odd).is_err(), "{odd}");
    }
    assert!(!looks_encrypted("openai/gpt-4o"));
    assert!(!looks_encrypted("https://example.openai.azure.com/"));
}

#[test]
fn secrets_do_not_show() {
    let found = Salt::find(&Env::from([(SALT_KEY, "sk-very-secret-salt")]), None).unwrap();
    assert!(!format!("{found:?}").contains("secret"));
}

#[test]
fn the_salt_key_wins_over_the_master_key() {
    let master = Secret::new("sk-master");
    let env = Env::from([(SALT_KEY, SALT)]);
    let own = Salt::find(&env, Some(&master)).unwrap();
    assert!(own.key.decrypt(GOLDEN[0][1]).is_ok() && own.warning().is_none());
    let fallback = Salt::find(&Env::default(), Some(&Secret::new(SALT))).unwrap();
    assert!(fallback.key.decrypt(GOLDEN[0][1]).is_ok() && fallback.warning().is_some());
    assert!(Salt::find(&Env::from([(SALT_KEY, "")]), None).is_none());
}

#[test]
fn maps_keep_what_is_no_text_and_what_is_plain() {
    let key = salt_key(SALT);
    let plain = map(json!({"api_key": "k", "rpm": 5, "on": true, "deep": {"list": ["a", null]}}));
    let sealed = seal(&plain, &key);
    assert_eq!(sealed["rpm"], 5);
    assert!(sealed["deep"]["list"][0].as_str().unwrap().starts_with("v2:gcm:"));
    assert_eq!(open(&sealed, &key).unwrap(), plain);

    let long = "sk-proj-0123456789012345678901234567890123456789012345678901";
    assert_eq!(long.len() % 4, 0, "it looks like the old form");
    let mixed = map(json!({"model": GOLDEN[1][3], "api_key": long, "api_base": "https://example.com"}));
    let opened = open(&mixed, &key).unwrap();
    assert_eq!((&opened["model"], &opened["api_key"]), (&json!("openai/gpt-4o"), &json!(long)));
}

#[test]
fn a_map_of_another_key_is_an_error() {
    let key = salt_key("sk-another");
    for form in &GOLDEN[0][1..] {
        let sealed = map(json!({"api_key": form, "rpm": 1}));
        let error = open(&sealed, &key).unwrap_err();
        assert_eq!((error.name.as_str(), error.why), ("api_key", DecryptError::WrongKey));
    }
}

async fn store(entities: &Entities, kind: EntityKind, id: &str, part: &str, key: &SaltKey) {
    let mut entity = Entity::new(kind, id);
    let values = seal(&map(json!({"api_key": format!("plain-{id}")})), key);
    entity.settings.rest.insert(part.to_owned(), Value::Object(values));
    entities.apply(&[Write::Insert(entity)], &author()).await.unwrap();
}

#[tokio::test]
async fn a_changed_or_missing_salt_key_is_refused_once_there_are_secrets() {
    let entities = Entities::default();
    let (one, two) = (salt("sk-one"), salt("sk-two"));
    assert!(matches!(prepare(&entities, None, &author()).await, Err(CheckError::Needed)));
    check(&entities, None).await.unwrap();

    prepare(&entities, Some(&one), &author()).await.unwrap();
    check(&entities, Some(&two)).await.expect("nothing is encrypted yet");
    prepare(&entities, Some(&two), &author()).await.expect("nothing is encrypted yet");
    prepare(&entities, Some(&one), &author()).await.unwrap();

    store(&entities, EntityKind::Credential, "c", "credential_values", &one.key).await;
    check(&entities, Some(&one)).await.unwrap();
    let changed = check(&entities, Some(&two)).await.unwrap_err();
    assert!(matches!(changed, CheckError::Changed), "{changed}");
    assert!(matches!(prepare(&entities, Some(&two), &author()).await, Err(CheckError::Changed)));
    assert!(matches!(check(&entities, None).await, Err(CheckError::Missing)));
    prepare(&entities, Some(&one), &author()).await.unwrap();
}

#[tokio::test]
async fn secrets_without_a_canary_are_looked_at() {
    let entities = Entities::default();
    store(&entities, EntityKind::Model, "m", "litellm_params", &salt_key("sk-one")).await;
    assert!(matches!(check(&entities, None).await, Err(CheckError::Missing)));
    assert!(matches!(check(&entities, Some(&salt("sk-two"))).await, Err(CheckError::Changed)));
    prepare(&entities, Some(&salt("sk-one")), &author()).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_away_is_no_consent() {
    let entities = Entities::default();
    entities.away.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = check(&entities, Some(&salt("sk-one"))).await.unwrap_err();
    assert!(matches!(error, CheckError::Store(StoreError::Unavailable { .. })), "{error}");
}

#[tokio::test]
async fn rotation_rewrites_everything_and_can_be_repeated() {
    let entities = Entities::default();
    let (old, new) = (salt("sk-old"), salt("sk-new"));
    prepare(&entities, Some(&old), &author()).await.unwrap();
    for index in 0..3 {
        store(&entities, EntityKind::Credential, &format!("c{index}"), "credential_values", &old.key).await;
        store(&entities, EntityKind::Model, &format!("m{index}"), "litellm_params", &old.key).await;
    }
    store(&entities, EntityKind::Model, "interrupted", "litellm_params", &new.key).await;

    let rotated = rotate(&entities, &old.key, &new.key, &author()).await.unwrap();
    assert_eq!(rotated, Rotated { changed: 6, already: 1 });
    check(&entities, Some(&new)).await.unwrap();
    assert!(matches!(check(&entities, Some(&old)).await, Err(CheckError::Changed)));
    let of = EntityRef::new(EntityKind::Model, "m2");
    let model = entities.entities(&[of]).await.unwrap().pop().unwrap();
    let opened = open(model.settings.rest["litellm_params"].as_object().unwrap(), &new.key).unwrap();
    assert_eq!(opened["api_key"], "plain-m2");

    let again = rotate(&entities, &old.key, &new.key, &author()).await.unwrap();
    assert_eq!(again, Rotated { changed: 0, already: 7 });
}

#[tokio::test]
async fn rotation_names_what_neither_key_reads() {
    let entities = Entities::default();
    store(&entities, EntityKind::Credential, "lost", "credential_values", &salt_key("sk-third")).await;
    assert_eq!(unreadable(&entities, &salt_key("sk-third")).await.unwrap(), [""; 0]);
    assert_eq!(unreadable(&entities, &salt_key("sk-old")).await.unwrap(), ["credential lost"]);
    let error = rotate(&entities, &salt_key("sk-old"), &salt_key("sk-new"), &author()).await.unwrap_err();
    assert!(error.to_string().starts_with("credential lost: api_key: "), "{error}");
}
