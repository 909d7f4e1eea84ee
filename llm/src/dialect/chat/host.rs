//! Who is spoken to in chat, and what it wants otherwise than OpenAI.

use crate::contract::DeploymentMeta;
use crate::dialect::names::{fit_id, hash};
use crate::dialect::request::{Effort, Reasoning};
use crate::dialect::thought;
use crate::provider::Provider;

/// A deployment that speaks chat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    meta: &'a DeploymentMeta,
    /// OpenAI itself, or Azure: they refuse what they do not know.
    pub(super) openai: bool,
    pub(super) mistral: bool,
    pub(super) deepseek: bool,
    pub(super) openrouter: bool,
    pub(super) google: bool,
    /// A reasoning model of OpenAI's, whoever serves it.
    pub(super) reasoning: bool,
}

impl<'a> Host<'a> {
    pub(super) fn of(meta: &'a DeploymentMeta) -> Self {
        let authority = meta.authority.to_ascii_lowercase();
        let host = authority.split(':').next().unwrap_or_default();
        let azure = meta.provider == Provider::Azure;
        let openai = azure || host == "openai.com" || host.ends_with(".openai.com");
        let model = meta.model.to_ascii_lowercase();
        // An Azure deployment may have any name; the price table knows what is behind it.
        let reasoning = is_reasoning(&model) || (openai && meta.caps.has("reasoning"));
        Self {
            meta,
            openai,
            mistral: host.ends_with("mistral.ai"),
            deepseek: host.ends_with("deepseek.com"),
            openrouter: host.ends_with("openrouter.ai"),
            google: host.ends_with("googleapis.com"),
            reasoning,
        }
    }

    /// OpenAI's reasoning models take `max_completion_tokens` only, and OpenAI calls the other name deprecated; whoever
    /// else speaks chat, and Azure's older versions, know `max_tokens`.
    pub(super) fn max_tokens(&self) -> &'static str {
        let openai = self.openai && self.meta.provider != Provider::Azure;
        if openai || self.reasoning { "max_completion_tokens" } else { "max_tokens" }
    }

    /// `developer` is what OpenAI's reasoning models call `system`; servers of other models know `system` only.
    pub(super) fn system(&self) -> &'static str {
        if self.openai && self.reasoning { "developer" } else { "system" }
    }

    /// Must reasoning be replayed with the calls that came of it? DeepSeek refuses a request without it, and so does
    /// Moonshot; OpenAI's own reasoning cannot be replayed in chat, and others ignore it or refuse the member.
    pub(super) fn replays_reasoning(&self) -> bool {
        let model = self.meta.model.to_ascii_lowercase();
        self.deepseek || ["deepseek", "kimi", "moonshot"].iter().any(|name| model.contains(name))
    }

    /// `reasoning_effort` for what the client asked; `None`: nothing is said.
    ///
    /// A budget stands for `low`, `medium` or `high`: what is above is known by few models and was not asked for by
    /// name. A name that the model is not known to have becomes its neighbour.
    pub(super) fn effort(&self, reasoning: &Reasoning) -> Option<&'static str> {
        let caps = &self.meta.caps;
        let unable = caps.supports("reasoning") == Some(false) || (self.openai && !self.reasoning);
        let known = self.reasoning || caps.has("reasoning");
        // Asked for by name it goes to models that nothing is known of; who drops parameters wants no risk.
        if unable || ((self.mistral || self.meta.params.drop) && !known) {
            return None;
        }
        let level = match (reasoning.effort, reasoning.budget) {
            (Some(effort), _) => effort,
            (None, budget) => Effort::of_budget(budget?).min(Effort::High),
        };
        let has = |name: &str| caps.has(name);
        let first = is_first_gpt5(&self.meta.model);
        Some(match level {
            Effort::None if has("none_reasoning_effort") => "none",
            Effort::None if first => "minimal",
            // It cannot be asked not to think, or does not unless asked.
            Effort::None => return None,
            Effort::Minimal if first || has("minimal_reasoning_effort") => "minimal",
            Effort::Max if has("max_reasoning_effort") || self.deepseek => "max",
            Effort::Xhigh | Effort::Max if has("xhigh_reasoning_effort") => "xhigh",
            Effort::Minimal | Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High | Effort::Xhigh | Effort::Max => "high",
        })
    }

    /// May this member, which only one dialect has, go to it? Hints of OpenAI's own are refused elsewhere (Groq,
    /// Mistral), Anthropic's mean nothing here, and a web search is refused by models that have none.
    pub(super) fn takes(&self, name: &str) -> bool {
        let hint =
            ["prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "safety_identifier"];
        let anthropic = [
            "container",
            "mcp_servers",
            "context_management",
            "anthropic_beta",
            "inference_geo",
            "speed",
            "output_config",
        ];
        let lenient = self.openrouter || self.is_allowed(name);
        match name {
            "web_search_options" => lenient || self.searches(),
            "verbosity" => lenient || self.openai || self.reasoning,
            name if hint.contains(&name) => lenient || self.openai,
            name => !anthropic.contains(&name) || self.is_allowed(name),
        }
    }

    /// OpenAI and Mistral refuse it.
    pub(super) fn takes_top_k(&self) -> bool {
        (!self.openai && !self.mistral) || self.is_allowed("top_k")
    }

    /// Is it a model that searches the web when chat asks for it?
    fn searches(&self) -> bool {
        let model = self.meta.model.to_ascii_lowercase();
        self.meta.caps.has("web_search") || model.contains("search") || model.contains("sonar")
    }

    /// Does the operator say that it takes this (`allowed_openai_params`)?
    pub(super) fn is_allowed(&self, name: &str) -> bool {
        self.meta.params.allowed.iter().any(|allowed| allowed == name)
    }

    /// An id of a call as the provider takes it: Mistral wants nine letters and digits, OpenAI no more than forty
    /// characters. The same id always becomes the same.
    pub(super) fn call_id(&self, id: &str) -> String {
        let (plain, _) = thought::split(id);
        if !self.mistral {
            return fit_id(plain, 40, |c| c.is_ascii_graphic());
        }
        let fits = plain.len() == 9 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { plain.to_owned() } else { short(hash(plain)) }
    }
}

/// Does a deployment that speaks chat know `top_k`?
pub(in crate::dialect) fn takes_top_k(meta: &DeploymentMeta) -> bool {
    Host::of(meta).takes_top_k()
}

/// o1, o3, o4-mini, gpt-5 and what comes after; `gpt-5-chat` does not reason.
fn is_reasoning(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    let mut letters = name.bytes();
    let o_series = letters.next() == Some(b'o') && letters.next().is_some_and(|digit| digit.is_ascii_digit());
    let generation = name.strip_prefix("gpt-").and_then(|rest| rest.bytes().next());
    let gpt = generation.is_some_and(|digit| (b'5'..=b'9').contains(&digit)) && !name.contains("-chat");
    o_series || gpt
}

/// gpt-5, gpt-5-mini, gpt-5-nano, dated or not: they have `minimal`, which gpt-5.1 and later have not.
fn is_first_gpt5(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    name == "gpt-5" || name.starts_with("gpt-5-")
}

/// Nine letters and digits.
fn short(mut hash: u64) -> String {
    let mut out = String::with_capacity(9);
    for _ in 0..9 {
        let digit = u32::try_from(hash % 36).unwrap_or(0);
        out.push(char::from_digit(digit, 36).unwrap_or('0'));
        hash /= 36;
    }
    out
}
