//! The item in progress.

use serde_json::{Map, Value, json};

use crate::dialect::chat::tools::custom_input;

/// An item that is being said.
#[derive(Debug)]
pub(super) enum Open {
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
}

/// What the model says.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) id: String,
    /// Parts that are said.
    pub(super) content: Vec<Value>,
    /// The part in progress.
    pub(super) part: Option<Part>,
}

/// A part of a message: words, or the words of a refusal.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) refusal: bool,
    pub(super) text: String,
    pub(super) annotations: Vec<Value>,
    pub(super) logprobs: Vec<Value>,
}

/// Reasoning, told as its summary: that is what clients show.
#[derive(Debug, Default)]
pub(super) struct Reasoning {
    pub(super) id: String,
    pub(super) text: String,
    /// The summary's part was begun.
    pub(super) begun: bool,
    pub(super) sealed: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) index: u32,
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) arguments: String,
    /// It is a custom tool's: what it takes is told when it is whole.
    pub(super) custom: bool,
    pub(super) signature: Option<String>,
}

impl Open {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Message(message) => &message.id,
            Self::Reasoning(reasoning) => &reasoning.id,
            Self::Call(call) => &call.id,
        }
    }

    /// The item as it stands.
    pub(super) fn item(&self, status: &str) -> Value {
        match self {
            Self::Message(message) => {
                let Message { id, content, .. } = message;
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Self::Reasoning(reasoning) => reasoning.item(),
            Self::Call(call) => call.item(status),
        }
    }
}

impl Part {
    pub(super) fn value(&self) -> Value {
        if self.refusal {
            return json!({"type": "refusal", "refusal": self.text});
        }
        json!({"type": "output_text", "text": self.text, "annotations": self.annotations, "logprobs": self.logprobs})
    }
}

impl Reasoning {
    fn item(&self) -> Value {
        let summary = if self.begun { vec![self.part()] } else { Vec::new() };
        let mut item = json!({"id": self.id, "type": "reasoning", "summary": summary});
        if let (Some(sealed), Value::Object(members)) = (&self.sealed, &mut item) {
            members.insert("encrypted_content".to_owned(), sealed.clone().into());
        }
        item
    }

    pub(super) fn part(&self) -> Value {
        json!({"type": "summary_text", "text": self.text})
    }
}

impl Call {
    pub(super) fn input(&self) -> String {
        custom_input(&self.arguments)
    }

    fn item(&self, status: &str) -> Value {
        let mut members = Map::new();
        members.insert("id".to_owned(), self.id.clone().into());
        let kind = if self.custom { "custom_tool_call" } else { "function_call" };
        members.insert("type".to_owned(), kind.into());
        members.insert("status".to_owned(), status.into());
        let began = status == "in_progress";
        let (name, value) = match self.custom {
            true => ("input", if began { String::new() } else { self.input() }),
            false => ("arguments", self.arguments.clone()),
        };
        members.insert(name.to_owned(), value.into());
        members.insert("call_id".to_owned(), self.call_id.clone().into());
        members.insert("name".to_owned(), self.name.clone().into());
        if let Some(signature) = &self.signature {
            members.insert("extra_content".to_owned(), json!({"google": {"thought_signature": signature}}));
        }
        members.into()
    }
}
