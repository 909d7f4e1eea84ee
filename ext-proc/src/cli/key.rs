use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::gateway::{Gateway, refused_with};
use super::limit_flags::{LimitFlags, require_change};
use super::{shown, team};

/// `attache key`.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key. It is printed once and never again.
    Create(Box<Create>),
    /// List keys.
    List(List),
    /// Show one key.
    Info(One),
    /// Change what a key may do.
    Update(Box<Update>),
    /// Refuse a key until it is unblocked.
    Block(One),
    /// Let a blocked key in again.
    Unblock(One),
    /// Delete keys for good.
    Delete(Delete),
    /// Give a key another secret.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    gateway: Gateway,
    /// A name for people, unique.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Team, by id or alias.
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Owner, by user id.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Organisation, by id.
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// How long it is good: `30d`, `12h`, `1mo`; without it, for ever.
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// Routes it may call, comma separated; without it all that are no management.
    #[arg(long, value_delimiter = ',', value_name = "ROUTES")]
    allowed_routes: Option<Vec<String>>,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    gateway: Gateway,
    /// Of this team, by id or alias.
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Whose alias has this in it.
    #[arg(long, value_name = "TEXT")]
    alias: Option<String>,
    #[arg(long, default_value_t = 1, value_name = "N")]
    page: u32,
    /// Keys per page, up to 100.
    #[arg(long, default_value_t = 50, value_name = "N")]
    size: u32,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The key, its hash or its alias.
    key: String,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The key, its hash or its alias.
    key: String,
    #[command(flatten)]
    gateway: Gateway,
    /// Another alias.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Another team, by id or alias.
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Good for this long from now; `-1`: for ever.
    #[arg(long, allow_hyphen_values = true, value_name = "DURATION")]
    duration: Option<String>,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Keys, hashes or aliases.
    #[arg(required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The key, its hash or its alias.
    key: String,
    /// How long the old key stays good beside the new one: `24h`.
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = Gateway::block_on(async {
            match self {
                Self::Create(create) => create.run().await,
                Self::List(list) => list.run().await,
                Self::Info(one) => one.info().await,
                Self::Update(update) => update.run().await,
                Self::Block(one) => one.set_blocked(true).await,
                Self::Unblock(one) => one.set_blocked(false).await,
                Self::Delete(delete) => delete.run().await,
                Self::Rotate(rotate) => rotate.run().await,
            }
        })?;
        println!("{text}");
        Ok(())
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<String> {
        let mut body = Map::new();
        self.limits.put(&mut body);
        let given = [
            ("key_alias", self.alias.clone()),
            ("user_id", self.user.clone()),
            ("organization_id", self.organization.clone()),
            ("duration", self.duration.clone()),
        ];
        body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        if let Some(team) = &self.team {
            body.insert("team_id".to_owned(), team::resolve(&self.gateway, team).await?.into());
        }
        if let Some(routes) = &self.allowed_routes {
            body.insert("allowed_routes".to_owned(), routes.clone().into());
        }
        let made = self.gateway.post("/key/generate", &Value::Object(body)).await?;
        warn(&made);
        if self.gateway.json {
            return pretty(&made);
        }
        Ok(format!("{}\n\nKeep the key: it is not shown again.", described(&made, true)))
    }
}

impl List {
    async fn run(self) -> anyhow::Result<String> {
        let (page, size) = (self.page.to_string(), self.size.to_string());
        let mut query =
            vec![("return_full_object", "true"), ("page", page.as_str()), ("size", size.as_str())];
        let team = match &self.team {
            Some(team) => Some(team::resolve(&self.gateway, team).await?),
            None => None,
        };
        if let Some(alias) = &self.alias {
            query.extend([("key_alias", alias.as_str()), ("substring_matching", "true")]);
        }
        let filters = [("team_id", &team), ("user_id", &self.user)];
        query.extend(filters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
        let answer = self.gateway.get("/key/list", &query).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let keys = answer["keys"].as_array().context("the gateway's list is none")?;
        let rows: Vec<Vec<String>> = keys
            .iter()
            .map(|key| {
                let cell = |name: &str| shown::text(key, name);
                let limits =
                    [cell("rpm_limit"), cell("tpm_limit")].map(|n| if n.is_empty() { "-".into() } else { n });
                let [rpm, tpm] = limits;
                let id: String = cell("token").chars().take(12).collect();
                let names = (cell("key_name"), cell("key_alias"), cell("team_id"), cell("user_id"));
                vec![
                    names.0,
                    names.1,
                    id,
                    names.2,
                    names.3,
                    shown::money(key),
                    rpm,
                    tpm,
                    cell("expires"),
                    state(key),
                ]
            })
            .collect();
        let head = ["KEY", "ALIAS", "HASH", "TEAM", "USER", "SPEND", "RPM", "TPM", "EXPIRES", "STATE"];
        let total = answer["total_count"].as_u64().unwrap_or(keys.len() as u64);
        let pages = answer["total_pages"].as_u64().unwrap_or(1);
        Ok(format!("{}\n{total} keys, page {} of {}", shown::table(&head, &rows), self.page, pages.max(1)))
    }
}

impl One {
    async fn info(self) -> anyhow::Result<String> {
        let key = resolve(&self.gateway, &self.key).await?;
        let answer = self.gateway.get("/key/info", &[("key", &key)]).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let mut info = answer["info"].clone();
        if let (Some(info), Some(token)) = (info.as_object_mut(), answer.get("key")) {
            info.entry("token").or_insert_with(|| token.clone());
        }
        Ok(described(&info, false))
    }

    async fn set_blocked(self, blocked: bool) -> anyhow::Result<String> {
        let key = resolve(&self.gateway, &self.key).await?;
        let route = if blocked { "/key/block" } else { "/key/unblock" };
        let row = self.gateway.post(route, &json!({"key": key})).await?;
        if self.gateway.json {
            return pretty(&row);
        }
        Ok(format!(
            "{} is {}",
            shown_name(&self.key),
            if blocked { "blocked" } else { "not blocked any more" }
        ))
    }
}

impl Update {
    async fn run(self) -> anyhow::Result<String> {
        let key = resolve(&self.gateway, &self.key).await?;
        let mut body: Map<String, Value> = [("key".to_owned(), key.into())].into_iter().collect();
        self.limits.put(&mut body);
        if let Some(alias) = &self.alias {
            body.insert("key_alias".to_owned(), alias.clone().into());
        }
        if let Some(team) = &self.team {
            body.insert("team_id".to_owned(), team::resolve(&self.gateway, team).await?.into());
        }
        if let Some(duration) = &self.duration {
            body.insert("duration".to_owned(), duration.clone().into());
        }
        require_change(&body, "key")?;
        let row = self.gateway.post("/key/update", &Value::Object(body)).await?;
        warn(&row);
        if self.gateway.json {
            return pretty(&row);
        }
        Ok(described(&row, false))
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<String> {
        let mut keys = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            keys.push(resolve(&self.gateway, key).await?);
        }
        let answer = self.gateway.post("/key/delete", &json!({"keys": keys})).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let count = answer["deleted_keys"].as_array().map_or(0, Vec::len);
        Ok(format!("{count} deleted"))
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<String> {
        let mut body = json!({"key": resolve(&self.gateway, &self.key).await?});
        if let Some(grace) = &self.grace {
            body["grace_period"] = grace.clone().into();
        }
        let made = self.gateway.post("/key/regenerate", &body).await?;
        if self.gateway.json {
            return pretty(&made);
        }
        let old = match &self.grace {
            Some(grace) => format!("The old key is good for another {grace}."),
            None => "The old key is refused from now on.".to_owned(),
        };
        Ok(format!("{}\n\nKeep the key: it is not shown again. {old}", described(&made, true)))
    }
}

/// What the gateway takes for a key: itself or its hash. An alias is looked up.
async fn resolve(gateway: &Gateway, given: &str) -> anyhow::Result<String> {
    let hash = given.len() == 64 && given.bytes().all(|byte| byte.is_ascii_hexdigit());
    if given.starts_with("sk-") || hash {
        return Ok(given.to_owned());
    }
    let query = [("return_full_object", "true"), ("key_alias", given), ("page", "1"), ("size", "100")];
    let answer = gateway.get("/key/list", &query).await;
    let answer = match answer {
        Err(error) if refused_with(&error, 404) => json!({}),
        answer => answer?,
    };
    let keys = answer["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let named = keys.iter().find(|key| key["key_alias"] == given);
    match named.and_then(|key| key["token"].as_str()) {
        Some(token) => Ok(token.to_owned()),
        None => bail!("there is no key with the alias {given:?}"),
    }
}

/// A plain key is not repeated on the screen.
fn shown_name(given: &str) -> String {
    if given.starts_with("sk-") { crate::config::Secret::new(given).masked() } else { given.to_owned() }
}

fn state(key: &Value) -> String {
    let expired = key["expires"].as_str().is_some_and(|at| {
        use time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(at, &Rfc3339).is_ok_and(|at| at <= time::OffsetDateTime::now_utc())
    });
    match (key["blocked"].as_bool().unwrap_or(false), expired) {
        (true, _) => "blocked".to_owned(),
        (_, true) => "expired".to_owned(),
        _ => "active".to_owned(),
    }
}

/// One key, field by field; the plain key only where it was just made.
fn described(key: &Value, plain: bool) -> String {
    let text = |name: &str| shown::text(key, name);
    let token = if text("token").is_empty() { text("token_id") } else { text("token") };
    shown::fields(&[
        ("key", if plain { text("key") } else { text("key_name") }),
        ("alias", text("key_alias")),
        ("hash", token),
        ("team", text("team_id")),
        ("user", text("user_id")),
        ("organization", text("organization_id")),
        ("models", if text("models").is_empty() { "all".to_owned() } else { text("models") }),
        ("spend", shown::money(key)),
        ("budget id", text("budget_id")),
        ("rpm", text("rpm_limit")),
        ("tpm", text("tpm_limit")),
        ("rpd", text("rpd_limit")),
        ("tpd", text("tpd_limit")),
        ("parallel", text("max_parallel_requests")),
        ("rpm of models", text("model_rpm_limit")),
        ("tpm of models", text("model_tpm_limit")),
        ("tags", text("tags")),
        ("expires", text("expires")),
        ("state", state(key)),
    ])
}

/// What the gateway took without acting on it.
pub(super) fn warn(answer: &Value) {
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("warning: {warning}");
    }
}

pub(super) fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
