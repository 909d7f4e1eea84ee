//! A conversation as no provider writes it: what every `read_request` makes and every `write_request` takes.
//!
//! A field that is `None` or empty was not sent. What one dialect has and no other understands stays in the part or
//! in [`Request::extra`], so that nothing is lost on the way to a provider that does.

use serde_json::{Map, Value};

/// A request for an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// As the client named it; writers use [`crate::contract::DeploymentMeta::model`].
    pub model: String,
    pub stream: bool,
    /// The client wants usage at the end of its stream (chat and completions; the other dialects always have it).
    pub want_usage: bool,
    /// Instructions before the conversation: text parts, in order.
    pub system: Vec<Part>,
    /// The conversation. Neighbours may have the same role; writers join them where their provider wants that.
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tool_calls: Option<bool>,
    pub format: Option<Format>,
    pub reasoning: Option<Reasoning>,
    pub sampling: Sampling,
    /// Tokens of the answer, reasoning included.
    pub max_tokens: Option<u64>,
    pub stop: Vec<String>,
    /// OpenAI's names: `auto`, `default`, `flex`, `priority`, `scale`.
    pub service_tier: Option<String>,
    /// End user.
    pub user: Option<String>,
    /// The caller's labels, where its dialect has them.
    pub metadata: Option<Value>,
    /// `verbosity` of newer OpenAI models.
    pub verbosity: Option<String>,
    /// Members that this version does not know, as they came, and known ones that only one dialect has. Writers of
    /// chat add them as they are; others take those that their provider has under that name.
    pub extra: Map<String, Value>,
    /// What the answer repeats of the request (the responses dialect does): kept for its writer.
    pub echo: Map<String, Value>,
}

/// Numbers that shape the choice of tokens, as they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub seed: Option<i64>,
    /// Answers wanted.
    pub n: Option<u64>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<u64>,
    pub logit_bias: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions in the middle of a conversation.
    System,
    /// The caller; tool results too.
    User,
    Assistant,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    pub role: Role,
    pub parts: Vec<Part>,
    /// Name of the participant, where given.
    pub name: Option<String>,
}

/// What a message is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub body: Body,
    /// The provider shall cache the prompt up to here.
    pub cache: Option<Cache>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Text(String),
    Image {
        source: Source,
        /// OpenAI's `low`, `high`, `auto`.
        detail: Option<String>,
    },
    /// PDF, text, ...
    Document {
        source: Source,
        name: Option<String>,
        /// Anthropic's `citations.enabled`.
        citations: bool,
        /// Anthropic's `context`.
        context: Option<String>,
    },
    Audio {
        /// Base64.
        data: String,
        /// `wav`, `mp3`, ...
        format: String,
    },
    Video {
        source: Source,
    },
    /// The model's own reasoning, replayed.
    Thinking {
        text: String,
        /// The provider's proof that it is; without it most refuse the part.
        signature: Option<String>,
    },
    /// Reasoning that only the provider can read.
    RedactedThinking {
        data: String,
    },
    /// The model called a tool.
    ToolCall(ToolCall),
    ToolResult {
        /// [`ToolCall::id`].
        id: String,
        /// Text, images, documents.
        content: Vec<Part>,
        is_error: bool,
    },
    /// The model refused, in these words.
    Refusal(String),
    /// A part of the dialect that is named, which no other has (server tools, search results). Writers of other dialects leave it out.
    Other {
        dialect: super::Dialect,
        value: Value,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text, `{}` when there are none.
    pub arguments: String,
    /// Gemini's `thoughtSignature` of the call.
    pub signature: Option<String>,
}

/// Where the bytes of an image or document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Base64 {
        media_type: String,
        data: String,
    },
    Url(String),
    /// Plain text as a document.
    Text(String),
    /// Id at the provider's file service.
    File(String),
}

/// A mark up to which the prompt shall be cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cache {
    /// For an hour instead of five minutes.
    pub hour: bool,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub enum Tool {
    Function {
        name: String,
        description: Option<String>,
        /// JSON schema; `None`: no parameters.
        parameters: Option<Value>,
        strict: Option<bool>,
        cache: Option<Cache>,
    },
    /// A tool that runs at the provider, in the words of the dialect that is named.
    Hosted { dialect: super::Dialect, value: Value },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    /// Any tool, but one.
    Required,
    Function(String),
    /// One of these (OpenAI's `allowed_tools`): `required` says whether one must be called.
    Allowed {
        names: Vec<String>,
        required: bool,
    },
}

/// Form of the answer. Plain text is `None` in [`Request::format`].
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any JSON object.
    Json,
    Schema {
        name: String,
        description: Option<String>,
        schema: Value,
        strict: Option<bool>,
    },
}

/// How much the model may think before it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning {
    pub effort: Option<Effort>,
    /// Thinking budget, tokens (Anthropic's `budget_tokens`, Gemini's `thinkingBudget`). Wins over `effort`.
    pub budget: Option<u64>,
    /// Anthropic's `thinking.type: adaptive`.
    pub adaptive: bool,
    /// Shall the caller see it? `None`: as the dialect does by default.
    pub summary: Option<String>,
}

/// OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// The effort of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "none" | "disable" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::Xhigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// Thinking budget that stands for it, tokens (LiteLLM's numbers); 0 for none.
    #[must_use]
    pub fn budget(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1_024,
            Self::Medium => 2_048,
            Self::High => 4_096,
            Self::Xhigh => 8_192,
            Self::Max => 16_384,
        }
    }

    /// Effort that stands for a thinking budget.
    #[must_use]
    pub fn of_budget(budget: u64) -> Self {
        match budget {
            0 => Self::None,
            1..=1_024 => Self::Low,
            1_025..=4_095 => Self::Medium,
            4_096..=8_191 => Self::High,
            8_192..=16_383 => Self::Xhigh,
            _ => Self::Max,
        }
    }
}

impl Reasoning {
    /// Tokens to think with: the budget that was given, or the effort's; `None` when neither says.
    #[must_use]
    pub fn tokens(&self) -> Option<u64> {
        self.budget.or_else(|| self.effort.map(Effort::budget))
    }

    /// The effort that was given, or the budget's.
    #[must_use]
    pub fn level(&self) -> Option<Effort> {
        self.effort.or_else(|| self.budget.map(Effort::of_budget))
    }
}

impl Request {
    /// Forgets a parameter that a client dialect calls this (`additional_drop_params`).
    pub fn leave_out(&mut self, name: &str) {
        let sampling = &mut self.sampling;
        match name {
            "temperature" => sampling.temperature = None,
            "top_p" => sampling.top_p = None,
            "top_k" => sampling.top_k = None,
            "frequency_penalty" => sampling.frequency_penalty = None,
            "presence_penalty" => sampling.presence_penalty = None,
            "seed" => sampling.seed = None,
            "n" => sampling.n = None,
            "logprobs" => (sampling.logprobs, sampling.top_logprobs) = (None, None),
            "top_logprobs" => sampling.top_logprobs = None,
            "logit_bias" => sampling.logit_bias = None,
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => self.max_tokens = None,
            "stop" | "stop_sequences" => self.stop.clear(),
            "tools" => self.tools.clear(),
            "tool_choice" => self.tool_choice = None,
            "parallel_tool_calls" => self.parallel_tool_calls = None,
            "response_format" => self.format = None,
            "reasoning_effort" | "reasoning" | "thinking" => self.reasoning = None,
            "service_tier" => self.service_tier = None,
            "user" => self.user = None,
            "metadata" => self.metadata = None,
            "verbosity" => self.verbosity = None,
            other => drop(self.extra.shift_remove(other)),
        }
    }
}

impl From<Body> for Part {
    fn from(body: Body) -> Self {
        Self { body, cache: None }
    }
}

impl Part {
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Body::Text(text.into()).into()
    }
}

impl Turn {
    #[must_use]
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None }
    }
}
