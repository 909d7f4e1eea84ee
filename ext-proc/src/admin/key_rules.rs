//! What a new or changed key may be: by the configuration, by its team and user, and by who asks.

use attache_llm::error::ApiError;
use serde_json::{Map, Value};

use super::access::{Actor, forbidden};
use super::body::{Fields, refused};
use super::reply::Failure;
use super::{Admin, when};
use crate::config::alias_pattern;
use crate::entity::{Entity, EntityKind, Settings};
use crate::routing::{Access, Snapshot};

/// Names in `models` that stand for a set of models.
const SPECIAL: [&str; 3] = ["all-team-models", "all-proxy-models", "no-default-models"];
/// `allowed_routes` of a key that somebody without the right to everything makes for another user: whoever sees the
/// plain key could otherwise act as that user.
pub(super) const FOR_OTHERS: [&str; 2] = ["llm_api_routes", "/key/info"];

/// `default_key_generate_params`: for what the request leaves out.
pub(super) fn fill(fields: &mut Fields, defaults: &Map<String, Value>) {
    for (name, value) in defaults {
        fields.default(name, value);
    }
}

/// `upperbound_key_generate_params`. A new key gets the bound where it asks for nothing.
///
/// # Errors
/// 400 naming the field that is beyond its bound.
pub(super) fn bound(fields: &mut Fields, bounds: &Map<String, Value>, new: bool) -> Result<(), ApiError> {
    for (name, most) in bounds.iter().filter(|(_, most)| !most.is_null()) {
        let beyond = match fields.get(name) {
            None if new => {
                fields.default(name, most);
                false
            }
            None => fields.has(name),
            Some(asked) => is_beyond(asked, most),
        };
        if beyond {
            let message = format!("`{name}` may be {most} at most (`upperbound_key_generate_params`).");
            return Err(ApiError::invalid_request(message, None).with_param(name.clone()));
        }
    }
    Ok(())
}

/// Numbers are compared as such, durations by their length. What is neither is read, and refused, later.
fn is_beyond(asked: &Value, most: &Value) -> bool {
    match (asked, most) {
        (Value::Number(asked), Value::Number(most)) => asked.as_f64() > most.as_f64(),
        (Value::String(asked), Value::String(most)) => {
            asked == "-1" || when::expiry(asked, 0) > when::expiry(most, 0)
        }
        _ => false,
    }
}

/// `key_generation_settings`: which roles may make keys, and what a request must name. Admins may always.
///
/// # Errors
/// 403 for the role, 400 for a missing parameter.
pub(super) fn generation(
    settings: &Map<String, Value>,
    fields: &Fields,
    team: bool,
    role: Option<&str>,
) -> Result<(), ApiError> {
    let (section, roles) = match team {
        true => ("team_key_generation", "allowed_team_member_roles"),
        false => ("personal_key_generation", "allowed_user_roles"),
    };
    let Some(Value::Object(rules)) = settings.get(section) else { return Ok(()) };
    if let Some(Value::Array(allowed)) = rules.get(roles)
        && !allowed.iter().any(|allowed| allowed.as_str() == role)
    {
        let role = role.unwrap_or("none");
        return Err(forbidden(&format!("Your role ({role}) may not make this key ({section}.{roles}).")));
    }
    let Some(Value::Array(required)) = rules.get("required_params") else { return Ok(()) };
    match required.iter().filter_map(Value::as_str).find(|name| fields.get(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let message = format!("`{name}` must be given ({section}.required_params).");
            Err(ApiError::invalid_request(message, None).with_param(name.to_owned()))
        }
    }
}

/// Names in a key's `models` that its team does not have.
fn beyond_team<'a>(key: &'a [String], team: &Settings, snapshot: &Snapshot) -> Vec<&'a str> {
    let access = Access::of(&team.models);
    key.iter()
        .map(String::as_str)
        .filter(|name| !SPECIAL.contains(name) && !team.aliases.contains_key(*name))
        .filter(|name| !access.allows(name, snapshot.groups.get(*name).map(|group| &**group)))
        .collect()
}

/// The first limit of `asked` that is above the same limit of `most`.
fn above(asked: &Settings, most: &Settings) -> Option<&'static str> {
    let pairs = [
        ("max_budget", asked.max_budget_nanos, most.max_budget_nanos),
        ("rpm_limit", asked.rpm_limit, most.rpm_limit),
        ("tpm_limit", asked.tpm_limit, most.tpm_limit),
        ("rpd_limit", asked.rpd_limit, most.rpd_limit),
        ("tpd_limit", asked.tpd_limit, most.tpd_limit),
        ("max_parallel_requests", asked.max_parallel_requests, most.max_parallel_requests),
    ];
    pairs
        .into_iter()
        .find(|(_, asked, most)| asked.zip(*most).is_some_and(|(asked, most)| asked > most))
        .map(|(name, ..)| name)
}

/// Limits that LiteLLM's clients write into the metadata, where they hold too.
const IN_METADATA: [&str; 3] = ["model_rpm_limit", "model_tpm_limit", "tag_rpm_limit"];

/// The first limit in the metadata, or beside it, that is not as it was.
fn unfixed(old: &Settings, new: &Settings) -> Option<&'static str> {
    let differs = |name: &&str| {
        let changed = |old: &Map<String, Value>, new: &Map<String, Value>| {
            old.get(*name).is_some_and(|limit| !limit.is_null()) && old.get(*name) != new.get(*name)
        };
        changed(&old.metadata, &new.metadata) || changed(&old.rest, &new.rest)
    };
    IN_METADATA.into_iter().find(differs)
}

/// The first field by which `after` may do more than `before`.
pub(super) fn loosened(before: &Entity, after: &Entity) -> Option<&'static str> {
    let (old, new) = (&before.settings, &after.settings);
    // No limit is above every limit.
    let raised = |old: Option<u64>, new: Option<u64>| old.is_some_and(|old| new.is_none_or(|new| new > old));
    let widened = |old: &[String], new: &[String]| {
        !old.is_empty() && (new.is_empty() || new.iter().any(|name| !old.contains(name)))
    };
    let cases = [
        ("max_budget", raised(old.max_budget_nanos, new.max_budget_nanos)),
        ("temp_budget_increase", new.temp_budget_increase_nanos > old.temp_budget_increase_nanos),
        ("temp_budget_expiry", new.temp_budget_expiry_ms != old.temp_budget_expiry_ms),
        ("rpm_limit", raised(old.rpm_limit, new.rpm_limit)),
        ("tpm_limit", raised(old.tpm_limit, new.tpm_limit)),
        ("input_tpm_limit", raised(old.input_tpm_limit, new.input_tpm_limit)),
        ("output_tpm_limit", raised(old.output_tpm_limit, new.output_tpm_limit)),
        ("rpd_limit", raised(old.rpd_limit, new.rpd_limit)),
        ("tpd_limit", raised(old.tpd_limit, new.tpd_limit)),
        ("max_parallel_requests", raised(old.max_parallel_requests, new.max_parallel_requests)),
        ("duration", raised(before.expires_ms, after.expires_ms)),
        ("models", widened(&old.models, &new.models)),
        ("allowed_routes", widened(&old.allowed_routes, &new.allowed_routes)),
        ("aliases", !old.models.is_empty() && old.aliases != new.aliases),
        ("budget_duration", old.max_budget_nanos.is_some() && old.budget_duration != new.budget_duration),
        ("budget_mode", new.budget_audit && !old.budget_audit),
        (
            "model_max_budget",
            !old.model_max_budget.is_empty() && old.model_max_budget != new.model_max_budget,
        ),
        ("model_rpm_limit", !old.model_rpm_limit.is_empty() && old.model_rpm_limit != new.model_rpm_limit),
        ("model_tpm_limit", !old.model_tpm_limit.is_empty() && old.model_tpm_limit != new.model_tpm_limit),
        ("budget_id", before.budget_id.is_some() && before.budget_id != after.budget_id),
        ("blocked", before.blocked && !after.blocked),
        ("team_id", before.team_id.is_some() && before.team_id != after.team_id),
        ("user_id", before.user_id != after.user_id),
        ("organization_id", before.organization_id != after.organization_id),
    ];
    cases.into_iter().find(|(_, is)| *is).map(|(name, _)| name).or_else(|| unfixed(old, new))
}

/// May somebody who is no admin of everything hold the plain key? Only if it acts for nobody, for the caller, or cannot
/// act as its user at all.
pub(super) fn safe_to_hold(actor: &Actor, key: &Entity) -> bool {
    let routes = &key.settings.allowed_routes;
    actor.is_admin()
        || key.user_id.is_none()
        || key.user_id.as_deref() == actor.user_id()
        || (!routes.is_empty() && routes.iter().all(|route| FOR_OTHERS.contains(&route.as_str())))
}

impl Admin {
    /// Checks a key that is about to be stored, against what it belongs to and who asks.
    ///
    /// # Errors
    /// 400 naming the field, 403 when the caller may not ask for that.
    pub(super) async fn check_key(
        &self,
        actor: &Actor,
        before: Option<&Entity>,
        after: &Entity,
    ) -> Result<(), Failure> {
        if let Some(alias) = &after.alias
            && before.is_none_or(|before| before.alias != after.alias)
            && alias_pattern(&self.state.config.litellm_settings)
                .is_some_and(|pattern| !pattern.is_match(alias))
        {
            return Err(refused("key_alias", "does not look as `key_alias_pattern` wants it").into());
        }
        let team = self.owners(before, after).await?;
        let changed = before.is_none_or(|before| {
            before.team_id != after.team_id || before.settings.models != after.settings.models
        });
        if let Some(team) = team.as_ref().filter(|_| changed) {
            let snapshot = self.state.snapshot.load_full();
            if let Some(name) = beyond_team(&after.settings.models, &team.settings, &snapshot).first() {
                let why = format!("may not hold {name:?}: the team {} does not have it", team.id);
                return Err(refused("models", &why).into());
            }
        }
        if actor.is_admin() {
            return Ok(());
        }
        let as_team_admin = match &after.team_id {
            Some(team) => self.is_team_admin(actor, team).await?,
            None => false,
        };
        self.check_rights(actor, before, after, as_team_admin)?;
        self.check_amounts(actor, after, team).await
    }

    /// Whatever the key names must exist. Returns its team.
    async fn owners(&self, before: Option<&Entity>, after: &Entity) -> Result<Option<Entity>, Failure> {
        let named = [
            (EntityKind::Budget, "budget_id", &after.budget_id, before.map(|key| &key.budget_id)),
            (
                EntityKind::Organization,
                "organization_id",
                &after.organization_id,
                before.map(|key| &key.organization_id),
            ),
        ];
        for (kind, field, id, known) in named {
            if let Some(id) = id.as_ref().filter(|_| known != Some(id))
                && self.find(kind, id).await?.is_none()
            {
                return Err(refused(field, &format!("names {id:?}, which does not exist")).into());
            }
        }
        let Some(id) = &after.team_id else { return Ok(None) };
        let team = self.find(EntityKind::Team, id).await?;
        let is_new = before.is_none_or(|before| before.team_id != after.team_id);
        match (team, is_new) {
            (None, true) => Err(refused("team_id", &format!("names {id:?}, which does not exist")).into()),
            (team, _) => Ok(team),
        }
    }

    /// What only admins (of the team) may change.
    fn check_rights(
        &self,
        actor: &Actor,
        before: Option<&Entity>,
        after: &Entity,
        as_team_admin: bool,
    ) -> Result<(), Failure> {
        if !safe_to_hold(actor, after)
            && before.is_none_or(|before| {
                before.user_id != after.user_id
                    || before.settings.allowed_routes != after.settings.allowed_routes
            })
        {
            let why =
                "a key of another user may only be allowed llm_api_routes and /key/info (`allowed_routes`)";
            return Err(actor.refusal(why));
        }
        let Some(before) = before else { return Ok(()) };
        // Joining a team is as good as making a key there.
        if before.team_id != after.team_id && after.team_id.is_some() && !as_team_admin {
            return Err(actor.refusal("only an admin of the team may move a key into it"));
        }
        let organization_changed = before.organization_id != after.organization_id;
        let mine = before.created_by.is_some() && before.created_by.as_deref() == actor.user_id();
        // Who gets to this route may unblock the key.
        let unblocks = |field: &&str| *field == "blocked" && actor.route() == "/key/unblock";
        let loosened = loosened(before, after).filter(|field| !unblocks(field));
        let why = match loosened {
            _ if organization_changed => "organization_id",
            Some(field @ ("temp_budget_increase" | "temp_budget_expiry" | "blocked" | "user_id"))
                if !as_team_admin =>
            {
                field
            }
            Some(field) if !mine && !as_team_admin => field,
            _ => return Ok(()),
        };
        Err(actor.refusal(&format!("only an admin may change `{why}` like that")))
    }

    /// Limits and models of a key made by somebody else than an admin stay within those of its team, or of its user.
    async fn check_amounts(
        &self,
        actor: &Actor,
        after: &Entity,
        team: Option<Entity>,
    ) -> Result<(), Failure> {
        let (whose, holder) = match team {
            Some(team) => ("the team's", Some(team)),
            None => ("yours", actor.user.as_deref().cloned()),
        };
        let Some(holder) = holder else { return Ok(()) };
        let holder = self.effective(holder).await?;
        let asked = self.effective(after.clone()).await?;
        if let Some(field) = above(&asked, &holder) {
            return Err(refused(field, &format!("may not be more than {whose}")).into());
        }
        let snapshot = self.state.snapshot.load_full();
        match beyond_team(&after.settings.models, &holder, &snapshot).first() {
            None => Ok(()),
            Some(name) => Err(refused("models", &format!("may not hold {name:?}: it is not {whose}")).into()),
        }
    }

    /// Settings of an entity together with those of its shared budget.
    async fn effective(&self, entity: Entity) -> Result<Settings, Failure> {
        let mut own = entity.settings;
        let Some(id) = entity.budget_id else { return Ok(own) };
        if let Some(budget) = self.find(EntityKind::Budget, &id).await? {
            let budget = budget.settings;
            own.max_budget_nanos = own.max_budget_nanos.or(budget.max_budget_nanos);
            own.rpm_limit = own.rpm_limit.or(budget.rpm_limit);
            own.tpm_limit = own.tpm_limit.or(budget.tpm_limit);
            own.rpd_limit = own.rpd_limit.or(budget.rpd_limit);
            own.tpd_limit = own.tpd_limit.or(budget.tpd_limit);
            own.max_parallel_requests = own.max_parallel_requests.or(budget.max_parallel_requests);
        }
        Ok(own)
    }
}

#[cfg(test)]
#[path = "key_rules_tests.rs"]
mod tests;
