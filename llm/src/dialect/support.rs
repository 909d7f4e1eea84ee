//! What a provider cannot do, and what is done about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Dialect, Route, chat, route};
use crate::contract::DeploymentMeta;
use crate::error::{ApiError, mask_secrets};
use crate::path::Endpoint;

/// A deployment's rules about parameters (`drop_params` and its kin).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParamRules {
    /// Leave out what the provider does not take, instead of refusing it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop: bool,
    /// Left out whatever the provider takes (`additional_drop_params`): top-level names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_drop: Vec<String>,
    /// Sent whatever is known of the provider (`allowed_openai_params`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Members added to the body (`extra_body`), over the client's.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
    /// Mend what the provider would refuse (`modify_params`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub modify: bool,
}

impl ParamRules {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Leaves out of a body, and adds to it, what the operator says. The last step of every `write_request`.
    pub fn apply(&self, body: &mut Map<String, Value>) {
        for name in &self.also_drop {
            body.shift_remove(name);
        }
        body.extend(self.extra_body.clone());
    }

    /// Do bodies that are not translated change by them?
    #[must_use]
    pub fn changes_bodies(&self) -> bool {
        !self.also_drop.is_empty() || !self.extra_body.is_empty()
    }
}

/// What the price table and the configuration say that a model can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Longest answer, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// `supports_*` of LiteLLM's table without the prefix: `reasoning`, `adaptive_thinking`,
    /// `native_structured_output`, ... What is not named is not known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub supports: BTreeMap<String, bool>,
}

impl Capabilities {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Does the model have this? `None`: not known.
    #[must_use]
    pub fn supports(&self, what: &str) -> Option<bool> {
        self.supports.get(what).copied()
    }

    /// Is it known to have this?
    #[must_use]
    pub fn has(&self, what: &str) -> bool {
        self.supports(what) == Some(true)
    }
}

/// Needs (see [`crate::contract::Ask::needs`]) that no provider of this dialect meets, other than OpenAI's own.
fn lacks_by_dialect(dialect: Dialect, need: &str) -> bool {
    let everywhere = matches!(
        need,
        "best_of" | "logit_bias" | "prediction" | "suffix" | "previous_response_id" | "background"
    );
    match dialect {
        Dialect::Messages => {
            everywhere
                || matches!(
                    need,
                    "n" | "frequency_penalty"
                        | "presence_penalty"
                        | "seed"
                        | "logprobs"
                        | "top_logprobs"
                        | "audio"
                        | "content.input_audio"
                )
        }
        Dialect::Converse => {
            everywhere
                || matches!(
                    need,
                    "n" | "frequency_penalty"
                        | "presence_penalty"
                        | "seed"
                        | "logprobs"
                        | "top_logprobs"
                        | "audio"
                        | "content.input_audio"
                        | "parallel_tool_calls"
                        | "web_search_options"
                        | "content.url"
                )
        }
        Dialect::Gemini => everywhere || need == "parallel_tool_calls",
        // Only what a client of another dialect can say: the provider itself knows the rest.
        Dialect::Chat => matches!(need, "previous_response_id" | "background"),
        Dialect::Completions | Dialect::Responses => false,
    }
}

/// What only some of Bedrock's models have, as the price table tells.
fn has_by_model(dialect: Dialect, need: &str, caps: &Capabilities) -> bool {
    dialect == Dialect::Converse
        && match need {
            "parallel_tool_calls" => caps.has("parallel_tool_use_config"),
            "content.input_audio" => caps.has("audio_input"),
            _ => false,
        }
}

/// May a file id of this endpoint's clients mean anything to the provider? Ids belong to one provider's own file service.
fn knows_file_ids(dialect: Dialect, endpoint: Endpoint) -> bool {
    matches!(
        (dialect, endpoint),
        (Dialect::Chat, Endpoint::ChatCompletions | Endpoint::Responses)
            | (Dialect::Messages, Endpoint::Messages)
    )
}

/// The first need that a deployment does not meet: it must be kept out of the plan. `None`: it can take the request
/// (or `drop_params` lets it leave out what it cannot take; content is never left out).
#[must_use]
pub fn missing<'a>(meta: &DeploymentMeta, endpoint: Endpoint, needs: &'a [String]) -> Option<&'a str> {
    let Some(Route::Translate(dialect)) = route(meta, endpoint) else { return None };
    let lacks = |need: &str| {
        let by_model = match need {
            "reasoning_effort" => meta.caps.supports("reasoning") == Some(false),
            "tools" => meta.caps.supports("function_calling") == Some(false),
            "top_k" => dialect == Dialect::Chat && !chat::takes_top_k(meta),
            "content.file_id" => !knows_file_ids(dialect, endpoint),
            _ => false,
        };
        let rules = &meta.params;
        let dropped = !need.starts_with("content.")
            && (rules.drop
                || [&rules.also_drop, &rules.allowed]
                    .iter()
                    .any(|list| list.iter().any(|name| name == need)));
        let by_dialect = lacks_by_dialect(dialect, need) && !has_by_model(dialect, need, &meta.caps);
        (by_model || by_dialect) && !dropped
    };
    needs.iter().map(String::as_str).find(|need| lacks(need))
}

/// 400: no deployment of the model can do what is asked.
#[must_use]
pub fn unsupported(need: &str, model: &str) -> ApiError {
    let message = match need.strip_prefix("content.") {
        Some("url") => format!("'{model}' takes images and files as data only, not by URL."),
        Some(kind) => format!("'{model}' does not take {kind} content."),
        None => format!(
            "'{model}' does not support the parameter '{need}'. Leave it out, or let the gateway do so with `drop_params: true`."
        ),
    };
    let param = if need.starts_with("content.") { "messages" } else { need };
    ApiError::invalid_request(mask_secrets(&message), None)
        .with_param(param.to_owned())
        .with_code("unsupported_parameter")
}

#[cfg(test)]
#[path = "support_tests.rs"]
mod tests;
