//! Tools of the responses dialect, which has their members one level higher than chat.

use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::dialect::chat::parts::read_cache;
use crate::dialect::chat::tools::{read_allowed, read_custom, read_function, word_choice};
use crate::dialect::fields::{Fault, Object};
use crate::dialect::request::{Tool, ToolChoice};

/// What a list of tools asks for.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    /// Names of the custom ones.
    pub(super) custom: Vec<String>,
    /// A web search, as chat asks for one (`web_search_options`).
    pub(super) search: Option<Value>,
}

impl Tools {
    pub(super) fn read(&mut self, value: Value) -> Result<(), Fault> {
        let mut tool = Object::of(value)?;
        let kind = tool.text("type")?.ok_or_else(|| Fault::missing("type"))?;
        match kind.as_str() {
            "function" => {
                let cache = read_cache(&mut tool)?;
                self.tools.push(read_function(tool, cache)?);
            }
            "custom" => self.tools.push(read_custom(tool, None, &mut self.custom)?),
            search if search.starts_with("web_search") => self.search = Some(search_options(tool)?),
            _ => {
                let mut value = tool.into_value();
                if let Value::Object(members) = &mut value {
                    members.insert("type".to_owned(), kind.into());
                }
                self.tools.push(Tool::Hosted { dialect: Dialect::Responses, value });
            }
        }
        Ok(())
    }
}

fn search_options(mut tool: Object) -> Result<Value, Fault> {
    let mut options = Map::new();
    if let Some(size) = tool.text("search_context_size")? {
        options.insert("search_context_size".to_owned(), size.into());
    }
    if let Some(location) = tool.object("user_location")? {
        let mut place = location.rest();
        place.remove("type");
        options.insert("user_location".to_owned(), json!({"type": "approximate", "approximate": place}));
    }
    Ok(options.into())
}

/// A `tool_choice`. One that names a tool which runs at OpenAI asks for what no other provider has, but for the search.
pub(super) fn read_choice(value: Value) -> Result<Option<ToolChoice>, Fault> {
    let mut object = match value {
        Value::String(word) => return word_choice(&word),
        value => Object::of(value).map_err(|_| Fault::expected("a string or an object"))?,
    };
    match object.peek("type") {
        "function" | "custom" => Ok(Some(ToolChoice::Function(object.need_text("name")?))),
        "allowed_tools" => read_allowed(object).map(Some),
        "" => Err(Fault::missing("type")),
        search if search.starts_with("web_search") => Ok(None),
        _ => Err(Fault::says("names a tool that this model does not have").within("type")),
    }
}
