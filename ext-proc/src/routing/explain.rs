//! The decision, told instead of done: who could have served the request, who not and why, and the plan.

use std::fmt;

use attache_llm::contract::Ask;
use attache_llm::error::ApiError;
use serde::Serialize;

use super::Context;

/// Why a request would go where. Serialises to JSON; `Display` is a table for the command line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Model as asked.
    pub model: String,
    /// Group behind it.
    pub group: String,
    /// Generation of the configuration that decides.
    pub generation: u64,
    /// Strategy of the group.
    pub strategy: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model {} is group {} ({})", self.model, self.group, self.strategy)
    }
}

/// Decides without charging anything, and tells how.
///
/// # Errors
/// What `decide` refuses before it looks at deployments: unknown keys and models.
pub async fn explain(context: &Context<'_>, ask: &Ask) -> Result<Explanation, ApiError> {
    let name = context.snapshot.aliases.get(&ask.model).unwrap_or(&ask.model);
    let group = context.snapshot.groups.get(name).ok_or_else(|| ApiError::model_not_found(&ask.model))?;
    Ok(Explanation {
        model: ask.model.clone(),
        group: group.name.clone(),
        generation: context.snapshot.generation,
        strategy: group.strategy.name(),
    })
}
