//! `/key/*`.

use attache_llm::contract::MASTER_KEY_HASH;
use attache_llm::error::ApiError;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::body::{Fields, refused};
use super::money::Dollars;
use super::new_key::{Draft, draft};
use super::reply::{Failure, not_found, private_json};
use super::spend::Query;
use super::{Admin, when};
use crate::keys::{self, Caller};
use crate::store::{KeyRow, StoreError};

type Body = Result<Bytes, BytesRejection>;

/// Keys or aliases of one `/key/delete`.
const MOST_DELETED: usize = 1_000;

/// A key as LiteLLM describes one. The plain key is in none of it.
#[derive(Serialize)]
struct Described<'a> {
    key_name: &'a str,
    key_alias: Option<&'a str>,
    spend: Dollars,
    spend_nanos: i64,
    max_budget: Option<Dollars>,
    expires: Option<String>,
    models: &'a [String],
    aliases: Empty,
    config: Empty,
    permissions: Empty,
    model_max_budget: Empty,
    user_id: Option<&'a str>,
    team_id: Option<&'a str>,
    organization_id: Option<&'a str>,
    max_parallel_requests: Option<i64>,
    budget_duration: Option<&'a str>,
    budget_id: Option<&'a str>,
    tpm_limit: Option<i64>,
    rpm_limit: Option<i64>,
    blocked: bool,
    metadata: &'a Value,
    created_at: String,
    created_by: Option<&'a str>,
    updated_at: String,
}

/// `{}`.
#[derive(Serialize)]
struct Empty {}

impl<'a> Described<'a> {
    fn new(row: &'a KeyRow) -> Self {
        let key = &row.key;
        Self {
            key_name: &key.name,
            key_alias: key.alias.as_deref(),
            spend: Dollars(row.spend_nanos),
            spend_nanos: row.spend_nanos,
            max_budget: key.max_budget_nanos.map(Dollars),
            expires: key.expires_ms.map(when::rfc3339_ms),
            models: &key.models,
            aliases: Empty {},
            config: Empty {},
            permissions: Empty {},
            model_max_budget: Empty {},
            user_id: key.user_id.as_deref(),
            team_id: key.team_id.as_deref(),
            organization_id: None,
            max_parallel_requests: None,
            budget_duration: None,
            budget_id: None,
            tpm_limit: key.tpm_limit,
            rpm_limit: key.rpm_limit,
            blocked: row.blocked,
            metadata: &key.metadata,
            created_at: when::rfc3339_ms(row.created_ms),
            created_by: key.created_by.as_deref(),
            updated_at: when::rfc3339_ms(row.updated_ms),
        }
    }
}

/// Answer of `/key/generate`, `/key/block` and `/key/unblock`: LiteLLM's is flat.
fn flat(row: &KeyRow, plain: Option<&str>, idle: &[String]) -> Result<Response, Failure> {
    let mut text =
        serde_json::to_string(&Described::new(row)).map_err(|e| ApiError::internal(e.to_string()))?;
    let mut first = serde_json::Map::new();
    if let Some(plain) = plain {
        first.insert("key".to_owned(), plain.into());
    }
    first.insert("token".to_owned(), row.key.hash.as_str().into());
    first.insert("token_id".to_owned(), row.key.hash.as_str().into());
    if !idle.is_empty() {
        let warning = format!("kept, but without effect yet: {}", idle.join(", "));
        first.insert("warnings".to_owned(), Value::Array(vec![warning.into()]));
    }
    // Joined as text: money in `Described` is exact, which a `Value` in between would lose.
    let mut joined = Value::Object(first).to_string();
    joined.pop();
    joined.push(',');
    joined.push_str(&text.split_off(1));
    let raw =
        serde_json::value::RawValue::from_string(joined).map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(private_json(&raw))
}

pub(super) async fn generate(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    admin.master(&headers, "/key/generate").await?;
    let Draft { plain, key, blocked, idle } =
        draft(Fields::parse(body)?, MASTER_KEY_HASH, crate::routing::now_ms())?;
    if admin.state.keys.is_master(&key.hash) {
        return Err(refused("key", "is taken").into());
    }
    let hash = key.hash.clone();
    let inserted = admin.state.database.insert_key(key).await;
    // Sidecar and gates may remember the key as unknown; also when it is unsure whether the insert happened.
    admin.state.keys.changed(std::slice::from_ref(&hash));
    let mut row = inserted.map_err(conflict)?;
    if blocked {
        let set = admin.state.database.set_blocked(&hash, true).await;
        admin.state.keys.changed(std::slice::from_ref(&hash));
        row = set?.unwrap_or(row);
    }
    tracing::info!(key = row.key.name, alias = row.key.alias, "key generated");
    flat(&row, Some(plain.expose()), &idle)
}

fn conflict(error: StoreError) -> Failure {
    let StoreError::Conflict(field) = error else { return error.into() };
    if field.contains("alias") {
        return refused("key_alias", "exists already: aliases are unique across all keys").into();
    }
    refused("key", "exists already").into()
}

/// The hash of a key given as itself or as its hash.
fn hash_of(key: &str) -> String {
    if key.starts_with("sk-") { keys::hash(key) } else { key.to_ascii_lowercase() }
}

pub(super) async fn info(
    State(admin): State<Admin>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let caller = admin.caller(&headers).await?;
    let mut query = Query::parse(query.as_deref());
    let asked = query.take("key");
    let hash = match (&caller, asked) {
        (Caller::Master, None) => return Ok(private_json(&master_info())),
        (Caller::Master, Some(key)) => hash_of(&key),
        (Caller::Key(row), None) => row.key.hash.clone(),
        (Caller::Key(row), Some(key)) if hash_of(&key) == row.key.hash => row.key.hash.clone(),
        (Caller::Key(_), Some(_)) => return Err(ApiError::admin_only("/key/info for other keys").into()),
    };
    if hash == MASTER_KEY_HASH || admin.state.keys.is_master(&hash) {
        return Ok(private_json(&master_info()));
    }
    // Straight from the database: spend is current to the last ledger write.
    admin.flush_soon().await;
    let row = admin.state.database.key(&hash).await?.ok_or_else(unknown_key)?;
    Ok(private_json(&Info { key: &row.key.hash, info: Described::new(&row) }))
}

#[derive(Serialize)]
struct Info<'a> {
    key: &'a str,
    info: Described<'a>,
}

fn master_info() -> Value {
    serde_json::json!({"key": MASTER_KEY_HASH, "info": {"key_name": "sk-...", "key_alias": null, "models": [],
        "user_id": "default_user_id", "user_role": "proxy_admin", "blocked": false, "expires": null}})
}

fn unknown_key() -> Failure {
    not_found("Key not found in the database.".to_owned(), "key")
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    admin.master(&headers, "/key/delete").await?;
    let mut fields = Fields::parse(body)?;
    let sent = fields.texts("keys", MOST_DELETED)?.unwrap_or_default();
    let aliases = fields.texts("key_aliases", MOST_DELETED)?.unwrap_or_default();
    if sent.is_empty() && aliases.is_empty() {
        return Err(refused("keys", "or `key_aliases` must name what to delete").into());
    }
    // (as sent, hash)
    let mut targets: Vec<(String, String)> =
        sent.into_iter().map(|key| (key.clone(), hash_of(&key))).collect();
    if targets.iter().any(|(_, hash)| hash == MASTER_KEY_HASH || admin.state.keys.is_master(hash)) {
        return Err(refused("keys", "may not name the master key").into());
    }
    if !aliases.is_empty() {
        targets.extend(admin.state.database.hashes_of_aliases(&aliases).await?);
    }
    let mut hashes: Vec<String> = targets.iter().map(|(_, hash)| hash.clone()).collect();
    hashes.sort();
    hashes.dedup();
    let gone =
        if hashes.is_empty() { Ok(Vec::new()) } else { admin.state.database.delete_keys(&hashes).await };
    admin.state.keys.changed(&hashes);
    let gone = gone?;
    if gone.is_empty() {
        return Err(not_found("None of these keys is in the database.".to_owned(), "keys"));
    }
    let deleted: Vec<&str> =
        targets.iter().filter(|(_, hash)| gone.contains(hash)).map(|(sent, _)| sent.as_str()).collect();
    tracing::info!(keys = gone.len(), "keys deleted");
    Ok(private_json(&serde_json::json!({"deleted_keys": deleted})))
}

pub(super) async fn block(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    set_blocked(&admin, &headers, body, true).await
}

pub(super) async fn unblock(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    set_blocked(&admin, &headers, body, false).await
}

async fn set_blocked(
    admin: &Admin,
    headers: &HeaderMap,
    body: Body,
    blocked: bool,
) -> Result<Response, Failure> {
    admin.master(headers, if blocked { "/key/block" } else { "/key/unblock" }).await?;
    let key = Fields::parse(body)?.text("key", 512)?.ok_or_else(|| refused("key", "must name the key"))?;
    let hash = hash_of(&key);
    let row = admin.state.database.set_blocked(&hash, blocked).await;
    admin.state.keys.changed(std::slice::from_ref(&hash));
    let row = row?.ok_or_else(unknown_key)?;
    tracing::info!(key = row.key.name, blocked, "key changed");
    flat(&row, None, &[])
}
