use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::gateway::Gateway;
use super::key::{pretty, warn};
use super::limit_flags::{LimitFlags, require_change};
use super::shown;

/// `attache user`.
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Make a user.
    Create(Box<Create>),
    /// List users.
    List(List),
    /// Show one user.
    Info(One),
    /// Change what a user may do.
    Update(Box<Update>),
    /// Delete users and their keys for good.
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// User id.
    user: String,
    #[command(flatten)]
    gateway: Gateway,
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// `proxy_admin`, `proxy_admin_viewer`, `internal_user` or `internal_user_viewer`.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Make a key for the user too, and print it once.
    #[arg(long)]
    with_key: bool,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[arg(long, default_value_t = 1, value_name = "N")]
    page: u32,
    /// Users per page, up to 100.
    #[arg(long, default_value_t = 50, value_name = "N")]
    size: u32,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// User id.
    user: String,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// User id.
    user: String,
    #[command(flatten)]
    gateway: Gateway,
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Another name for people.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Another role.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// User ids.
    #[arg(required = true)]
    users: Vec<String>,
    #[command(flatten)]
    gateway: Gateway,
}

impl User {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = Gateway::block_on(async {
            match self {
                Self::Create(create) => create.run().await,
                Self::List(list) => list.run().await,
                Self::Info(one) => one.run().await,
                Self::Update(update) => update.run().await,
                Self::Delete(delete) => delete.run().await,
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
        body.insert("user_id".to_owned(), self.user.into());
        body.insert("auto_create_key".to_owned(), self.with_key.into());
        let given = [("user_email", self.email), ("user_alias", self.alias), ("user_role", self.role)];
        body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        let made = self.gateway.post("/user/new", &Value::Object(body)).await?;
        warn(&made);
        if self.gateway.json {
            return pretty(&made);
        }
        let key = shown::text(&made, "key");
        match key.is_empty() {
            true => Ok(described(&made)),
            false => Ok(format!("{}\nkey  {key}\n\nKeep the key: it is not shown again.", described(&made))),
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<String> {
        let (page, size) = (self.page.to_string(), self.size.to_string());
        let answer = self.gateway.get("/user/list", &[("page", &page), ("page_size", &size)]).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let users = answer["users"].as_array().map_or(&[][..], Vec::as_slice);
        let rows: Vec<Vec<String>> = users
            .iter()
            .map(|user| {
                let cell = |name: &str| shown::text(user, name);
                vec![
                    cell("user_id"),
                    cell("user_alias"),
                    cell("user_email"),
                    cell("user_role"),
                    shown::money(user),
                ]
            })
            .collect();
        let total = answer["total"].as_u64().unwrap_or(users.len() as u64);
        let table = shown::table(&["ID", "ALIAS", "EMAIL", "ROLE", "SPEND"], &rows);
        Ok(format!("{table}\n{total} users, page {}", self.page))
    }
}

impl One {
    async fn run(self) -> anyhow::Result<String> {
        let answer = self.gateway.get("/user/info", &[("user_id", &self.user)]).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let keys = answer["keys"].as_array().map_or(0, Vec::len);
        Ok(format!("{}\n{keys} keys", described(answer.get("user_info").unwrap_or(&answer))))
    }
}

impl Update {
    async fn run(self) -> anyhow::Result<String> {
        let mut body: Map<String, Value> = [("user_id".to_owned(), self.user.into())].into_iter().collect();
        self.limits.put(&mut body);
        let given = [("user_email", self.email), ("user_alias", self.alias), ("user_role", self.role)];
        body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        require_change(&body, "user_id")?;
        let answer = self.gateway.post("/user/update", &Value::Object(body)).await?;
        warn(&answer);
        if self.gateway.json {
            return pretty(&answer);
        }
        Ok(described(answer.get("data").unwrap_or(&answer)))
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<String> {
        let answer = self.gateway.post("/user/delete", &json!({"user_ids": self.users})).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        Ok(format!("{} deleted", self.users.len()))
    }
}

fn described(user: &Value) -> String {
    let text = |name: &str| shown::text(user, name);
    shown::fields(&[
        ("user", text("user_id")),
        ("alias", text("user_alias")),
        ("email", text("user_email")),
        ("role", text("user_role")),
        ("teams", text("teams")),
        ("models", if text("models").is_empty() { "all".to_owned() } else { text("models") }),
        ("spend", shown::money(user)),
        ("rpm", text("rpm_limit")),
        ("tpm", text("tpm_limit")),
    ])
}
