//! What a request asks for that not every provider can do.

use super::lexer::Kind;

/// What makes a value of a member a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// A number other than 0 (or 1, where 1 is the default).
    NumberBut(&'static str),
    True,
    False,
    /// True, or a number: the two dialects of OpenAI differ.
    TrueOrNumber,
    Object,
    Array,
    Text,
}

/// Members of the body, with when they are needs. Defaults are none: OpenAI's libraries send them unasked.
const MEMBERS: [(&str, When); 19] = [
    ("n", When::NumberBut("1")),
    ("best_of", When::NumberBut("1")),
    ("frequency_penalty", When::NumberBut("0")),
    ("presence_penalty", When::NumberBut("0")),
    ("seed", When::NumberBut("")),
    ("top_k", When::NumberBut("")),
    ("logprobs", When::TrueOrNumber),
    ("top_logprobs", When::NumberBut("0")),
    ("logit_bias", When::Object),
    ("parallel_tool_calls", When::False),
    ("tools", When::Array),
    ("reasoning_effort", When::Text),
    ("prediction", When::Object),
    ("audio", When::Object),
    ("web_search_options", When::Object),
    ("suffix", When::Text),
    ("echo", When::True),
    ("previous_response_id", When::Text),
    ("background", When::True),
];

/// Content of messages by the name of the need.
pub(super) const REMOTE: &str = "content.url";
pub(super) const FILE_ID: &str = "content.file_id";
pub(super) const AUDIO: &str = "content.input_audio";

/// Needs found so far, each once.
#[derive(Debug, Default)]
pub(super) struct Needs {
    found: Vec<&'static str>,
    /// Member in progress whose number decides.
    number: Option<(&'static str, &'static str)>,
}

impl Needs {
    pub(super) fn add(&mut self, need: &'static str) {
        if !self.found.contains(&need) {
            self.found.push(need);
        }
    }

    /// A value of the body's object begins. True when its text must be kept: a number that decides.
    pub(super) fn value(&mut self, key: &[u8], kind: Kind) -> bool {
        let Some((name, when)) = MEMBERS.iter().find(|(name, _)| name.as_bytes() == key) else {
            return false;
        };
        let met = match when {
            When::NumberBut(default) => {
                self.number = (kind == Kind::Number).then_some((*name, *default));
                return self.number.is_some();
            }
            When::True => kind == Kind::True,
            When::False => kind == Kind::False,
            When::TrueOrNumber => matches!(kind, Kind::True | Kind::Number),
            When::Object => kind == Kind::Object,
            When::Array => kind == Kind::Array,
            When::Text => kind == Kind::String,
        };
        if met {
            self.add(name);
        }
        false
    }

    /// The number in progress is whole.
    pub(super) fn number(&mut self, text: &str) {
        let Some((name, default)) = self.number.take() else { return };
        let number = text.parse::<f64>().ok();
        if number != default.parse::<f64>().ok() || number.is_none() {
            self.add(name);
        }
    }

    pub(super) fn finish(self) -> Vec<&'static str> {
        self.found
    }
}
