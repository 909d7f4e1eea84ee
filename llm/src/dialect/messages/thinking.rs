//! How Claude is told to think: older models by a budget, newer ones by an effort.

use serde_json::{Map, Value, json};

use crate::contract::DeploymentMeta;
use crate::dialect::request::{Body, Effort, Part, Reasoning, Request, Role, Turn};
use crate::dialect::thought;

/// Smallest thinking budget that Claude takes.
const MIN_BUDGET: u64 = 1_024;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Thinking {
    /// `thinking`; `None`: nothing is said.
    pub(super) member: Option<Value>,
    /// `output_config.effort`.
    pub(super) effort: Option<&'static str>,
    /// The model thinks: no forced tool, no sampling of the client's.
    pub(super) on: bool,
    /// Tokens of the answer that are spent on it.
    pub(super) budget: u64,
}

impl Thinking {
    /// How this conversation's model is to think.
    pub(super) fn of(request: &Request, meta: &DeploymentMeta) -> Self {
        let thinking = match &request.reasoning {
            Some(reasoning) if meta.caps.supports("reasoning") != Some(false) => Self::asked(reasoning, meta),
            _ => Self::default(),
        };
        // A budget is refused there; what another model thought before its calls cannot be had.
        let mend = meta.params.drop || meta.params.modify;
        if mend && thinking.budget > 0 && calls_without_thought(&request.turns) {
            return Self::default();
        }
        thinking
    }

    fn asked(reasoning: &Reasoning, meta: &DeploymentMeta) -> Self {
        let effort = reasoning.level();
        if reasoning.tokens() == Some(0) || (effort.is_none() && !reasoning.adaptive) {
            let off = reasoning.tokens() == Some(0);
            return Self { member: off.then(|| json!({"type": "disabled"})), ..Self::default() };
        }
        let set = reasoning.budget.is_some() && meta.caps.supports("legacy_thinking") != Some(false);
        if reasoning.adaptive || (meta.caps.has("adaptive_thinking") && !set) {
            let display = match reasoning.summary.as_deref() {
                Some("omitted" | "none") => "omitted",
                _ => "summarized",
            };
            return Self {
                member: Some(json!({"type": "adaptive", "display": display})),
                effort: effort.map(|effort| fitting(effort, meta)),
                on: true,
                budget: 0,
            };
        }
        let budget = reasoning.tokens().unwrap_or(MIN_BUDGET).max(MIN_BUDGET);
        let member = Some(json!({"type": "enabled", "budget_tokens": budget}));
        Self { member, effort: None, on: true, budget }
    }

    /// `max_tokens` counts what is thought too: the client's bound is for what it is to read.
    pub(super) fn max_tokens(&self, asked: u64, meta: &DeploymentMeta) -> u64 {
        let raised = if asked <= self.budget { asked.saturating_add(self.budget) } else { asked };
        match meta.caps.max_output.filter(|max| *max > self.budget) {
            Some(max) if raised != asked || meta.params.modify => raised.min(max),
            _ => raised,
        }
    }

    /// Temperature and `top_p` as a thinking model takes them; others pass.
    pub(super) fn sampling(
        &self,
        temperature: Option<f64>,
        top_p: Option<f64>,
    ) -> (Option<f64>, Option<f64>) {
        if !self.on {
            return (temperature, top_p);
        }
        let one = |value: &f64| (value - 1.0).abs() < f64::EPSILON;
        (temperature.filter(one), top_p.filter(|value| (0.95..=1.0).contains(value)))
    }
}

/// Does the conversation end in results of calls before which there is no reasoning that Claude takes back? Calls and results
/// are one turn of the model's: reasoning at its beginning is enough.
fn calls_without_thought(turns: &[Turn]) -> bool {
    let results = |turn: &Turn| turn.parts.iter().any(|part| matches!(part.body, Body::ToolResult { .. }));
    let thought = |part: &Part| match &part.body {
        Body::Thinking { signature: Some(signature), .. } => thought::own(signature).is_none(),
        Body::RedactedThinking { .. } => true,
        _ => false,
    };
    let mut called = false;
    for group in turns.chunk_by(|one, next| one.role == next.role).rev() {
        let assistant = group.first().is_some_and(|turn| turn.role == Role::Assistant);
        if !assistant && !group.iter().any(results) {
            break;
        }
        let mut parts = group.iter().flat_map(|turn| &turn.parts);
        if assistant && parts.clone().any(thought) {
            return false;
        }
        called |= assistant && parts.any(|part| matches!(part.body, Body::ToolCall(_)));
    }
    called
}

/// The effort that a model knows.
fn fitting(effort: Effort, meta: &DeploymentMeta) -> &'static str {
    let effort = match effort {
        Effort::Xhigh if !meta.caps.has("xhigh_reasoning_effort") => Effort::High,
        Effort::Max if !meta.caps.has("max_reasoning_effort") => Effort::High,
        Effort::None | Effort::Minimal => Effort::Low,
        other => other,
    };
    effort.name()
}

/// Puts `output_config` together from its two halves.
pub(super) fn output_config(effort: Option<&'static str>, format: Option<Value>) -> Option<Value> {
    let mut config = Map::new();
    if let Some(effort) = effort {
        config.insert("effort".to_owned(), effort.into());
    }
    if let Some(format) = format {
        config.insert("format".to_owned(), format);
    }
    (!config.is_empty()).then_some(Value::Object(config))
}
