//! `additionalModelRequestFields`: what only some models take.

use serde_json::{Map, Value, json};

use super::Family;
use crate::contract::DeploymentMeta;
use crate::dialect::request::{Effort, Reasoning};

/// Smallest thinking budget that Claude takes.
const MIN_BUDGET: u64 = 1_024;

/// How a model is told to think.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Thinking {
    pub(super) fields: Map<String, Value>,
    /// Claude thinks: no forced tool, no sampling of the client's.
    pub(super) on: bool,
    /// Tokens of the answer that are spent on it.
    pub(super) budget: u64,
}

impl Thinking {
    pub(super) fn of(reasoning: Option<&Reasoning>, meta: &DeploymentMeta, family: Family) -> Self {
        let mut out = Self::default();
        let Some(reasoning) = reasoning.filter(|_| meta.caps.supports("reasoning") != Some(false)) else {
            return out;
        };
        let Some(effort) = reasoning.level().or(reasoning.adaptive.then_some(Effort::High)) else {
            return out;
        };
        match family {
            Family::Claude => out.claude(reasoning, effort, meta),
            Family::Nova2 => {
                let config = match amazon_effort(effort) {
                    Some(effort) => json!({ "type": "enabled", "maxReasoningEffort": effort }),
                    None => json!({ "type": "disabled" }),
                };
                out.fields.insert("reasoningConfig".into(), config);
            }
            // The first generation does not think.
            Family::Nova => {}
            Family::Gpt => {
                out.fields.insert("reasoning".into(), json!({ "effort": effort.name() }));
            }
            Family::Other if effort == Effort::None => {}
            Family::Other => {
                let effort = amazon_effort(effort).unwrap_or("low");
                out.fields.insert("reasoning_effort".into(), effort.into());
            }
        }
        out
    }

    /// Newer Claude models find their own budget by an effort, the others have one set.
    fn claude(&mut self, reasoning: &Reasoning, effort: Effort, meta: &DeploymentMeta) {
        if reasoning.tokens() == Some(0) {
            return;
        }
        self.on = true;
        let set = reasoning.budget.is_some() && meta.caps.supports("legacy_thinking") != Some(false);
        if reasoning.adaptive || (meta.caps.has("adaptive_thinking") && !set) {
            self.fields.insert("thinking".into(), json!({ "type": "adaptive", "display": "summarized" }));
            let effort = match effort {
                Effort::Xhigh if !meta.caps.has("xhigh_reasoning_effort") => Effort::High,
                Effort::Max if !meta.caps.has("max_reasoning_effort") => Effort::High,
                Effort::None | Effort::Minimal => Effort::Low,
                other => other,
            };
            // An adaptive model without an effort decides for itself.
            if reasoning.level().is_some() {
                self.fields.insert("output_config".into(), json!({ "effort": effort.name() }));
            }
            return;
        }
        self.budget = reasoning.tokens().unwrap_or_else(|| effort.budget()).max(MIN_BUDGET);
        self.fields.insert("thinking".into(), json!({ "type": "enabled", "budget_tokens": self.budget }));
    }
}

/// Three levels; `None`: not at all.
fn amazon_effort(effort: Effort) -> Option<&'static str> {
    Some(match effort {
        Effort::None => return None,
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    })
}

/// `top_k` has no place of its own in Converse.
pub(super) fn top_k(top_k: u64, family: Family, fields: &mut Map<String, Value>) {
    match family {
        Family::Nova | Family::Nova2 => {
            fields.insert("inferenceConfig".into(), json!({ "topK": top_k }));
        }
        Family::Claude | Family::Gpt | Family::Other => {
            fields.insert("top_k".into(), top_k.into());
        }
    }
}
