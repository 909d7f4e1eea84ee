//! Who asks, whether they may at all, and what their settings make of the question.

use std::borrow::Cow;

use attache_llm::contract::Ask;
use attache_llm::error::ApiError;
use attache_llm::path::Endpoint;

use super::{Context, Snapshot, refusal};
use crate::entity::Principal;
use crate::keys::{RouteGroup, Who, route_allowed};
use crate::limits;

/// Everyone in whose name the request is made; refuses those who are blocked or expired. The master key's principal has
/// no key.
pub(super) async fn caller(context: &Context<'_>, ask: &Ask, now_ms: u64) -> Result<Principal, ApiError> {
    let end_user_budget = context.snapshot.limits.end_user_budget_id.as_deref();
    let who = Who { end_user: ask.user.as_deref(), end_user_budget, tags: &ask.wishes.tags };
    let found = context.keys.principal(&ask.key, &who).await.map_err(|error| refusal::keys_away(&error))?;
    let principal = found.ok_or_else(ApiError::unknown_key)?;
    limits::check(&principal, now_ms)?;
    limits::require_user(&context.snapshot.limits, &principal)?;
    if let Some(key) = &principal.key {
        let path = ask.endpoint.path();
        if !route_allowed(&key.entity.settings.allowed_routes, path, RouteGroup::Llm) {
            return Err(ApiError::route_not_allowed(path));
        }
    }
    Ok(principal)
}

/// The question with a model: that of the configuration where the request names none and its endpoint allows that.
pub(super) fn named<'a>(snapshot: &Snapshot, ask: &'a Ask) -> Result<Cow<'a, Ask>, ApiError> {
    if !ask.model.is_empty() {
        return Ok(Cow::Borrowed(ask));
    }
    let (model, setting, how) = match ask.endpoint {
        Endpoint::Moderations => (&snapshot.moderation_model, "moderation_model", "in the body"),
        _ => (&snapshot.files_model, "files_model", "as query parameter `model` or header `x-litellm-model`"),
    };
    let Some(model) = model else {
        let message = format!(
            "Missing required parameter: 'model'. Name a model {how}; the gateway has no default \
             (`general_settings.{setting}`)."
        );
        return Err(ApiError::invalid_request(message, Some("model")));
    };
    Ok(Cow::Owned(Ask { model: model.clone(), ..ask.clone() }))
}

/// The question as the caller's settings want it: the model by its real name, the tags of the key and its team, the end
/// user's region and model.
pub(super) fn adapted<'a>(ask: &'a Ask, principal: &Principal) -> Cow<'a, Ask> {
    let mut asked = Cow::Borrowed(ask);
    let end_user = principal.end_user.as_ref().and_then(|(_, holder)| holder.as_ref());
    let settings = end_user.map(|holder| &holder.entity.settings);
    let wanted = settings.and_then(|settings| settings.default_model.as_deref());
    if let Some(model) = wanted.filter(|model| *model != ask.model) {
        asked.to_mut().model = model.to_owned();
    }
    if let Some(model) = limits::rename(principal, &asked.model).map(str::to_owned) {
        asked.to_mut().model = model;
    }
    if principal.tags.len() > ask.wishes.tags.len() {
        asked.to_mut().wishes.tags = principal.tags.iter().map(|(tag, _)| tag.clone()).collect();
    }
    let region = settings.and_then(|settings| settings.allowed_model_region.as_ref());
    if let Some(region) = region.filter(|_| ask.wishes.region.is_none()) {
        asked.to_mut().wishes.region = Some(region.clone());
    }
    asked
}
