//! What a request wants and what the answer says, as no protocol writes it.
//!
//! Tokens are counted simply, so that a test can say what it expects: a prompt has one token per four characters of
//! text (rounded up, per text) and four more per message; a completion has one token per content piece, per word of
//! thinking, and one per four characters of a tool call's arguments.

use serde_json::{Value, json};

use crate::schema;
use crate::script::Script;

/// A tool of the request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tool {
    pub name: String,
    /// JSON schema of its arguments.
    pub schema: Value,
}

/// Whether tools are to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    Auto,
    None,
    Any,
    Named(String),
}

/// A request, read as far as the answer depends on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Without directives.
    pub model: String,
    pub stream: bool,
    /// Text of the last message that a person wrote.
    pub text: String,
    pub prompt_tokens: u64,
    /// Tokens that the answer may have.
    pub limit: Option<u64>,
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// May call more than one tool at once.
    pub parallel: bool,
    /// What the tools answered, if the request ends with their results.
    pub result: Option<String>,
    /// Schema that the answer's text is to conform to.
    pub schema: Option<Value>,
    /// Any JSON object will do.
    pub json: bool,
    /// The caller is to see the model think.
    pub thinks: bool,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Number in the answer, from 0; protocols make their ids of it.
    pub index: usize,
    pub name: String,
    pub arguments: Value,
}

/// Why the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Stop,
    Length,
    Tools,
    Refused,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub thinking: Option<String>,
    /// The text, one token each.
    pub pieces: Vec<String>,
    pub calls: Vec<Call>,
    pub finish: Finish,
    pub usage: Usage,
}

/// Tokens of an answer. The parts are within the totals; protocols that count otherwise subtract.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of the prompt, cached or not.
    pub prompt: u64,
    /// All of the answer, with reasoning.
    pub completion: u64,
    pub cached: u64,
    pub written: u64,
    pub reasoning: u64,
}

impl Usage {
    /// Prompt tokens that no cache had.
    #[must_use]
    pub fn fresh(self) -> u64 {
        self.prompt.saturating_sub(self.cached).saturating_sub(self.written)
    }

    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

const WORDS: [&str; 12] = [
    "Envoys",
    " carry",
    " letters",
    ",",
    " attachés",
    " know",
    " what",
    " is",
    " in",
    " them",
    ".",
    " \u{1f4ee}",
];
const THOUGHT: &str = "The envoy wonders what to say.";
const REFUSAL: &str = "I can't help with that.";

/// Begin of the creation times; fixed, so that answers can be compared.
pub const CREATED: u64 = 1_760_000_000;

impl Said {
    /// What a model would answer that does as its script says.
    ///
    /// # Errors
    /// The script wants what the request has nothing for (tools, a schema).
    pub fn new(wanted: &Wanted, script: &Script) -> Result<Self, String> {
        let calls = calls(wanted, script)?;
        if script.json && wanted.schema.is_none() {
            return Err("the script wants an answer by schema, but no schema was sent".into());
        }
        let mut finish = if calls.is_empty() { Finish::Stop } else { Finish::Tools };
        let mut pieces = if script.refuse {
            finish = Finish::Refused;
            words(REFUSAL)
        } else if calls.is_empty() {
            text(wanted, script)
        } else {
            Vec::new()
        };
        if let Some(limit) = wanted.limit.and_then(|limit| usize::try_from(limit).ok())
            && limit < pieces.len()
        {
            pieces.truncate(limit);
            finish = Finish::Length;
        }
        if script.stop_length {
            finish = Finish::Length;
        }
        let thinking = (script.thinking || wanted.thinks).then(|| THOUGHT.to_owned());
        let usage = usage(wanted, script, &pieces, &calls, thinking.as_deref());
        Ok(Self { thinking, pieces, calls, finish, usage })
    }

    #[must_use]
    pub fn text(&self) -> String {
        self.pieces.concat()
    }
}

fn calls(wanted: &Wanted, script: &Script) -> Result<Vec<Call>, String> {
    if script.tools > 0 && wanted.tools.is_empty() {
        return Err("the script wants tools to be called, but none were sent".into());
    }
    let weather = wanted.result.is_none() && wanted.text.to_ascii_lowercase().contains("weather");
    let asked = match &wanted.choice {
        Choice::None => 0,
        _ if script.refuse || wanted.tools.is_empty() => 0,
        _ if script.tools > 0 => script.tools,
        Choice::Any | Choice::Named(_) => 1,
        Choice::Auto => usize::from(weather),
    };
    let count = if wanted.parallel { asked } else { asked.min(1) };
    let named = |tool: &&Tool| match &wanted.choice {
        Choice::Named(name) => tool.name == *name,
        _ => true,
    };
    let tools: Vec<_> = wanted.tools.iter().filter(named).collect();
    let calls = tools.iter().cycle().take(if tools.is_empty() { 0 } else { count }).enumerate();
    Ok(calls
        .map(|(index, tool)| Call {
            index,
            name: tool.name.clone(),
            arguments: schema::instance(&tool.schema),
        })
        .collect())
}

fn text(wanted: &Wanted, script: &Script) -> Vec<String> {
    if let Some(text) = &script.text {
        return words(text);
    }
    if let Some(schema) = &wanted.schema {
        return words(&schema::instance(schema).to_string());
    }
    if wanted.json {
        return words("{\"answer\": \"letters\"}");
    }
    if let Some(result) = &wanted.result {
        return words(&format!("The tool said: {result}"));
    }
    let count =
        usize::try_from(script.chunks.unwrap_or(WORDS.len() as u64)).unwrap_or(usize::MAX).min(1_000_000);
    WORDS.iter().cycle().take(count).map(|word| (*word).to_owned()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn usage(
    wanted: &Wanted,
    script: &Script,
    pieces: &[String],
    calls: &[Call],
    thinking: Option<&str>,
) -> Usage {
    let thought = thinking.map_or(0, |text| words(text).len() as u64);
    let arguments: u64 = calls.iter().map(|call| text_tokens(&call.arguments.to_string())).sum();
    let reasoning = if script.reasoning > 0 { script.reasoning } else { thought };
    let counted = pieces.len() as u64 + arguments + thought;
    let (prompt, completion) = script.usage.unwrap_or((wanted.prompt_tokens, counted));
    Usage { prompt, completion, cached: script.cached, written: script.written, reasoning }
}

/// Tokens of a text.
#[must_use]
pub fn text_tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}

/// Tokens of a message's content in any protocol: a string, or (nested) parts that have a `text`.
#[must_use]
pub fn content_tokens(content: &Value) -> u64 {
    match content {
        Value::String(text) => text_tokens(text),
        Value::Array(parts) => parts.iter().map(content_tokens).sum(),
        Value::Object(part) => {
            let text = part.get("text").and_then(Value::as_str).map_or(0, text_tokens);
            text + ["content", "parts"].iter().filter_map(|k| part.get(*k)).map(content_tokens).sum::<u64>()
        }
        Value::Number(_) => 1,
        _ => 0,
    }
}

/// Text of a message's content in any protocol, parts joined by a space.
#[must_use]
pub fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<_> = parts.iter().map(content_text).filter(|text| !text.is_empty()).collect();
            texts.join(" ")
        }
        Value::Object(part) => match (part.get("text"), part.get("json")) {
            (Some(text), _) => text.as_str().unwrap_or_default().to_owned(),
            (None, Some(json)) => json.to_string(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// FNV-1a as hexadecimal: ids that depend on what the answer depends on.
#[must_use]
pub fn digest(what: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in what.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// The provider's proof that it thought this.
#[must_use]
pub fn signature(thinking: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("fake-signature-{}", digest(thinking)))
}

/// Was the signature given by this provider?
#[must_use]
pub fn is_signature(text: &str) -> bool {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    decoded.starts_with(b"fake-signature-")
}

/// The usage object of OpenAI's chat completions.
#[must_use]
pub fn openai_usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(wanted: &Wanted, directives: &str) -> Said {
        Said::new(wanted, &Script::default().with(directives).unwrap()).unwrap()
    }

    fn with_tools() -> Wanted {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tool = |name: &str| Tool { name: name.into(), schema: schema.clone() };
        Wanted { tools: vec![tool("get_weather"), tool("get_time")], parallel: true, ..Wanted::default() }
    }

    #[test]
    fn the_weather_is_asked_of_the_first_tool_once() {
        let mut wanted = with_tools();
        assert!(said(&wanted, "").calls.is_empty());
        wanted.text = "How is the weather?".into();
        let first = said(&wanted, "");
        assert_eq!((first.calls.len(), first.finish), (1, Finish::Tools));
        assert_eq!(first.calls[0].arguments, json!({"city": "Genève"}));
        wanted.result = Some("18 degrees".into());
        assert_eq!(said(&wanted, "").text(), "The tool said: 18 degrees");
    }

    #[test]
    fn scripts_and_choices() {
        let mut wanted = with_tools();
        let both = said(&wanted, "parallel");
        assert_eq!(
            both.calls.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["get_weather", "get_time"]
        );
        wanted.parallel = false;
        assert_eq!(said(&wanted, "parallel").calls.len(), 1);
        wanted.choice = Choice::Named("get_time".into());
        assert_eq!(said(&wanted, "").calls[0].name, "get_time");
        wanted.choice = Choice::None;
        assert!(said(&wanted, "tools").calls.is_empty());
        assert_eq!(said(&wanted, "refuse").finish, Finish::Refused);
        assert_eq!(said(&wanted, "stop:length").finish, Finish::Length);
        let none = Wanted::default();
        let script = |text: &str| Script::default().with(text).unwrap();
        assert!(Said::new(&none, &script("tools")).is_err());
        assert!(Said::new(&none, &script("json")).is_err());
    }

    #[test]
    fn thinking_has_tokens_and_a_signature_that_is_known_again() {
        let thought = said(&Wanted::default(), "thinking");
        assert_eq!((thought.usage.reasoning, thought.usage.completion), (6, 18));
        assert!(is_signature(&signature(&thought.thinking.unwrap())));
        assert!(!is_signature("c29tZW9uZSBlbHNl"));
        assert_eq!(said(&Wanted::default(), "usage:70/30,cached:20,written:10").usage.fresh(), 40);
    }
}
