use std::mem::size_of;

use serde_json::Value;

use crate::entity::Entity;

/// Of an allocation, and of an entry of the cache beside its value, bytes.
const OVERHEAD: usize = 24;
const ENTRY: usize = 160;

/// Memory that an entity takes in the cache, bytes; an estimate.
pub(super) fn weight(entity: &Entity) -> u32 {
    let settings = &entity.settings;
    let text = |text: &String| size_of::<String>() + OVERHEAD + text.len();
    let list = |list: &[String]| list.iter().map(text).sum::<usize>();
    let option = |option: &Option<String>| option.as_ref().map_or(0, |text| OVERHEAD + text.len());
    let options = [
        &entity.alias,
        &entity.team_id,
        &entity.user_id,
        &entity.organization_id,
        &entity.budget_id,
        &entity.created_by,
        &entity.updated_by,
        &settings.role,
        &settings.email,
        &settings.account,
        &settings.budget_duration,
    ];
    let numbers = settings.model_rpm_limit.keys().chain(settings.model_tpm_limit.keys());
    let budgets =
        settings.model_max_budget.iter().map(|(name, budget)| text(name) + 40 + option(&budget.duration));
    let bytes = size_of::<Entity>()
        + ENTRY
        + entity.id.len()
        + entity.name.len()
        + options.into_iter().map(option).sum::<usize>()
        + list(&settings.models)
        + list(&settings.allowed_routes)
        + list(&settings.tags)
        + settings.aliases.iter().map(|(from, to)| text(from) + text(to)).sum::<usize>()
        + settings.budget_fallbacks.iter().map(|(from, to)| text(from) + list(to)).sum::<usize>()
        + numbers.map(|name| text(name) + 16).sum::<usize>()
        + budgets.sum::<usize>()
        + settings
            .metadata
            .iter()
            .chain(&settings.rest)
            .map(|(name, value)| text(name) + json(value))
            .sum::<usize>();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn json(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len() + OVERHEAD,
        Value::Array(list) => list.iter().map(json).sum(),
        Value::Object(map) => map.iter().map(|(name, value)| 48 + name.len() + json(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inner
}
