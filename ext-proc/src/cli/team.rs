use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::gateway::{Gateway, refused_with};
use super::key::{pretty, warn};
use super::limit_flags::{LimitFlags, require_change};
use super::shown;

/// `attache team`.
#[derive(Debug, Subcommand)]
pub(super) enum Team {
    /// Make a team.
    Create(Box<Create>),
    /// List teams.
    List(List),
    /// Show one team.
    Info(One),
    /// Change what a team may do.
    Update(Box<Update>),
    /// Refuse every key of a team until it is unblocked.
    Block(One),
    /// Let the keys of a blocked team in again.
    Unblock(One),
    /// Add a user to a team.
    AddMember(Member),
    /// Take a user out of a team.
    RemoveMember(Member),
    /// Delete teams and their keys for good.
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// A name for people.
    alias: String,
    #[command(flatten)]
    gateway: Gateway,
    /// An id of your own.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Organisation, by id.
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Id or alias.
    team: String,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// Id or alias.
    team: String,
    #[command(flatten)]
    gateway: Gateway,
    /// Another alias.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct Member {
    /// Id or alias of the team.
    team: String,
    /// User id.
    user: String,
    #[command(flatten)]
    gateway: Gateway,
    /// `admin` or `user`.
    #[arg(long, default_value = "user", value_name = "ROLE")]
    role: String,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Ids or aliases.
    #[arg(required = true)]
    teams: Vec<String>,
    #[command(flatten)]
    gateway: Gateway,
}

impl Team {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = Gateway::block_on(async {
            match self {
                Self::Create(create) => create.run().await,
                Self::List(list) => list.run().await,
                Self::Info(one) => one.info().await,
                Self::Update(update) => update.run().await,
                Self::Block(one) => one.set_blocked(true).await,
                Self::Unblock(one) => one.set_blocked(false).await,
                Self::AddMember(member) => member.add().await,
                Self::RemoveMember(member) => member.remove().await,
                Self::Delete(delete) => delete.run().await,
            }
        })?;
        println!("{text}");
        Ok(())
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<String> {
        let mut body: Map<String, Value> =
            [("team_alias".to_owned(), self.alias.clone().into())].into_iter().collect();
        self.limits.put(&mut body);
        let given = [("team_id", &self.id), ("organization_id", &self.organization)];
        body.extend(
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))),
        );
        let made = self.gateway.post("/team/new", &Value::Object(body)).await?;
        warn(&made);
        if self.gateway.json { pretty(&made) } else { Ok(described(&made)) }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<String> {
        let answer = self.gateway.get("/team/list", &[]).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let rows: Vec<Vec<String>> = teams(&answer)
            .iter()
            .map(|team| {
                let cell = |name: &str| shown::text(team, name);
                let members = team["members_with_roles"].as_array().map_or(0, Vec::len).to_string();
                let blocked = team["blocked"].as_bool().unwrap_or(false);
                let state = if blocked { "blocked" } else { "active" }.to_owned();
                let limits =
                    [cell("rpm_limit"), cell("tpm_limit")].map(|n| if n.is_empty() { "-".into() } else { n });
                let [rpm, tpm] = limits;
                vec![cell("team_id"), cell("team_alias"), members, shown::money(team), rpm, tpm, state]
            })
            .collect();
        Ok(shown::table(&["ID", "ALIAS", "MEMBERS", "SPEND", "RPM", "TPM", "STATE"], &rows))
    }
}

impl One {
    async fn info(self) -> anyhow::Result<String> {
        let id = resolve(&self.gateway, &self.team).await?;
        let answer = self.gateway.get("/team/info", &[("team_id", &id)]).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        let team = answer.get("team_info").unwrap_or(&answer);
        let keys = answer["keys_total"].as_u64();
        let keys = keys.unwrap_or_else(|| answer["keys"].as_array().map_or(0, |keys| keys.len() as u64));
        Ok(format!("{}\n{keys} keys", described(team)))
    }

    async fn set_blocked(self, blocked: bool) -> anyhow::Result<String> {
        let id = resolve(&self.gateway, &self.team).await?;
        let route = if blocked { "/team/block" } else { "/team/unblock" };
        let row = self.gateway.post(route, &json!({"team_id": id})).await?;
        if self.gateway.json {
            return pretty(&row);
        }
        Ok(format!("{} is {}", self.team, if blocked { "blocked" } else { "not blocked any more" }))
    }
}

impl Update {
    async fn run(self) -> anyhow::Result<String> {
        let id = resolve(&self.gateway, &self.team).await?;
        let mut body: Map<String, Value> = [("team_id".to_owned(), id.into())].into_iter().collect();
        self.limits.put(&mut body);
        if let Some(alias) = &self.alias {
            body.insert("team_alias".to_owned(), alias.clone().into());
        }
        require_change(&body, "team_id")?;
        let answer = self.gateway.post("/team/update", &Value::Object(body)).await?;
        warn(&answer);
        if self.gateway.json {
            return pretty(&answer);
        }
        Ok(described(answer.get("data").unwrap_or(&answer)))
    }
}

impl Member {
    async fn add(self) -> anyhow::Result<String> {
        let id = resolve(&self.gateway, &self.team).await?;
        let member = json!({"user_id": self.user, "role": self.role});
        let answer = self.gateway.post("/team/member_add", &json!({"team_id": id, "member": member})).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        Ok(format!("{} is in {} as {}", self.user, self.team, self.role))
    }

    async fn remove(self) -> anyhow::Result<String> {
        let id = resolve(&self.gateway, &self.team).await?;
        let body = json!({"team_id": id, "user_id": self.user});
        let answer = self.gateway.post("/team/member_delete", &body).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        Ok(format!("{} is not in {} any more", self.user, self.team))
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<String> {
        let mut ids = Vec::with_capacity(self.teams.len());
        for team in &self.teams {
            ids.push(resolve(&self.gateway, team).await?);
        }
        let answer = self.gateway.post("/team/delete", &json!({"team_ids": ids})).await?;
        if self.gateway.json {
            return pretty(&answer);
        }
        Ok(format!("{} deleted", ids.len()))
    }
}

/// A team's id, from an id or an alias.
pub(super) async fn resolve(gateway: &Gateway, given: &str) -> anyhow::Result<String> {
    match gateway.get("/team/info", &[("team_id", given)]).await {
        Ok(_) => return Ok(given.to_owned()),
        Err(error) if refused_with(&error, 404) => {}
        Err(error) => return Err(error),
    }
    let answer = gateway.get("/team/list", &[("team_alias", given)]).await?;
    let named: Vec<&str> = teams(&answer)
        .iter()
        .filter(|team| team["team_alias"] == given)
        .filter_map(|team| team["team_id"].as_str())
        .collect();
    match named.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => bail!("there is no team with the id or the alias {given:?}"),
        several => {
            bail!("{} teams have the alias {given:?}; give an id: {}", several.len(), several.join(", "))
        }
    }
}

fn teams(answer: &Value) -> &[Value] {
    let list = answer.as_array().or_else(|| answer["teams"].as_array());
    list.map_or(&[], Vec::as_slice)
}

fn described(team: &Value) -> String {
    let text = |name: &str| shown::text(team, name);
    let members = team["members_with_roles"].as_array().into_iter().flatten();
    let members: Vec<String> = members
        .filter_map(|member| {
            let user = member["user_id"].as_str()?;
            Some(if member["role"] == "admin" { format!("{user} (admin)") } else { user.to_owned() })
        })
        .collect();
    shown::fields(&[
        ("team", text("team_alias")),
        ("id", text("team_id")),
        ("organization", text("organization_id")),
        ("models", if text("models").is_empty() { "all".to_owned() } else { text("models") }),
        ("spend", shown::money(team)),
        ("rpm", text("rpm_limit")),
        ("tpm", text("tpm_limit")),
        ("rpd", text("rpd_limit")),
        ("tpd", text("tpd_limit")),
        ("parallel", text("max_parallel_requests")),
        ("members", members.join(", ")),
        ("state", if team["blocked"].as_bool().unwrap_or(false) { "blocked" } else { "active" }.to_owned()),
    ])
}
