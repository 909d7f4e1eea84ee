use serde_json::{Map, Value};

use super::messages::read_messages;
use super::{CUSTOM_TOOLS, LEGACY_FUNCTIONS, tools};
use crate::dialect::fields::{Fault, Object, each, text};
use crate::dialect::request::{Effort, Reasoning, Request, Sampling};
use crate::error::ApiError;
use crate::scan::{is_for_gateway, is_metadata_for_gateway};

/// Reads the body of a chat completion.
///
/// Tools of the type `custom` become functions of one string, and [`Request::echo`] tells the writer of the answer.
///
/// # Errors
/// 400, naming the field, for what is missing or malformed.
pub fn read_request(body: &[u8]) -> Result<Request, ApiError> {
    Ok(read(Object::of_body(body)?)?)
}

fn read(mut body: Object) -> Result<Request, Fault> {
    let mut request = Request { model: body.text("model")?.unwrap_or_default(), ..Request::default() };
    read_messages(body.need_list("messages")?, &mut request).map_err(|fault| fault.within("messages"))?;
    read_tools(&mut body, &mut request)?;
    request.format = match body.object("response_format")? {
        Some(format) => tools::read_format(format).map_err(|fault| fault.within("response_format"))?,
        None => None,
    };
    request.reasoning = read_reasoning(&mut body)?;
    read_common(&mut body, &mut request)?;
    request.sampling.logprobs = body.flag("logprobs")?;
    request.sampling.top_logprobs = body.count("top_logprobs")?;
    let (newer, older) = (body.count("max_completion_tokens")?, body.count("max_tokens")?);
    request.max_tokens = newer.or(older);
    request.extra = rest(body);
    Ok(request)
}

/// What chat and completions have in common.
pub(in crate::dialect) fn read_common(body: &mut Object, request: &mut Request) -> Result<(), Fault> {
    request.stream = body.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = body.object("stream_options")? {
        let wanted = options.flag("include_usage").map_err(|fault| fault.within("stream_options"))?;
        request.want_usage = wanted.unwrap_or(false);
    }
    request.sampling = read_sampling(body)?;
    request.stop = read_stop(body)?;
    request.parallel_tool_calls = body.flag("parallel_tool_calls")?;
    read_labels(body, request)?;
    request.verbosity = body.text("verbosity")?;
    Ok(())
}

/// Who asks, with what labels, for which class of service. `safety_identifier` is the newer name of `user`.
pub(in crate::dialect) fn read_labels(body: &mut Object, request: &mut Request) -> Result<(), Fault> {
    request.service_tier = body.text("service_tier")?;
    request.user = body.text("user")?;
    if request.user.is_none() {
        request.user = body.text("safety_identifier")?;
    }
    request.metadata = match body.object("metadata")? {
        Some(metadata) => {
            let mut members = metadata.rest();
            members.retain(|name, _| !is_metadata_for_gateway(name));
            (!members.is_empty()).then_some(Value::Object(members))
        }
        None => None,
    };
    Ok(())
}

/// What was not taken, without what is the gateway's own.
pub(in crate::dialect) fn rest(body: Object) -> Map<String, Value> {
    let mut rest = body.rest();
    rest.retain(|name, _| !is_for_gateway(name));
    rest
}

fn read_sampling(body: &mut Object) -> Result<Sampling, Fault> {
    Ok(Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        top_k: body.count("top_k")?,
        frequency_penalty: body.number("frequency_penalty")?,
        presence_penalty: body.number("presence_penalty")?,
        seed: body.integer("seed")?,
        n: body.count("n")?,
        logit_bias: body.object("logit_bias")?.map(Object::into_value),
        logprobs: None,
        top_logprobs: None,
    })
}

fn read_stop(body: &mut Object) -> Result<Vec<String>, Fault> {
    match body.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop]),
        Some(Value::Array(items)) => {
            each("stop", items, |item| text(item).ok_or_else(|| Fault::expected("a string")))
        }
        Some(_) => Err(Fault::expected("a string or an array of strings").within("stop")),
    }
}

/// `tools` and `tool_choice`, or their first form, `functions` and `function_call`.
fn read_tools(body: &mut Object, request: &mut Request) -> Result<(), Fault> {
    let mut custom = Vec::new();
    if let Some(items) = body.list("tools")? {
        request.tools = each("tools", items, |item| tools::read_tool(item, &mut custom))?;
    }
    if let Some(choice) = body.take("tool_choice") {
        request.tool_choice = tools::read_choice(choice).map_err(|fault| fault.within("tool_choice"))?;
    }
    if let Some(items) = body.list("functions")? {
        let functions = each("functions", items, |item| tools::read_function(Object::of(item)?, None))?;
        request.tools.extend(functions);
        request.echo.insert(LEGACY_FUNCTIONS.to_owned(), Value::Bool(true));
    }
    if let Some(choice) = body.take("function_call")
        && request.tool_choice.is_none()
    {
        request.tool_choice =
            tools::read_function_choice(choice).map_err(|fault| fault.within("function_call"))?;
    }
    if !custom.is_empty() {
        request.echo.insert(CUSTOM_TOOLS.to_owned(), custom.into());
    }
    Ok(())
}

/// `reasoning_effort` (a word, or LiteLLM's object with a `summary`), Anthropic's `thinking`, OpenRouter's `reasoning`.
fn read_reasoning(body: &mut Object) -> Result<Option<Reasoning>, Fault> {
    let mut reasoning = Reasoning::default();
    match body.take("reasoning_effort") {
        None => {}
        Some(Value::String(word)) => {
            reasoning.effort = read_effort(&word).map_err(|fault| fault.within("reasoning_effort"))?;
        }
        Some(Value::Object(members)) => {
            let read = |mut object: Object| {
                let word = object.text("effort")?.unwrap_or_default();
                let effort = read_effort(&word).map_err(|fault| fault.within("effort"))?;
                Ok((effort, object.text("summary")?))
            };
            let object = Object::of(Value::Object(members))?;
            (reasoning.effort, reasoning.summary) =
                read(object).map_err(|fault: Fault| fault.within("reasoning_effort"))?;
        }
        Some(_) => return Err(Fault::expected("a string or an object").within("reasoning_effort")),
    }
    if let Some(own) = body.object("reasoning")? {
        read_openrouter(own, &mut reasoning).map_err(|fault| fault.within("reasoning"))?;
    }
    if let Some(thinking) = body.object("thinking")? {
        read_thinking(thinking, &mut reasoning).map_err(|fault| fault.within("thinking"))?;
    }
    Ok((reasoning != Reasoning::default()).then_some(reasoning))
}

/// OpenRouter's `reasoning`.
fn read_openrouter(mut own: Object, reasoning: &mut Reasoning) -> Result<(), Fault> {
    let word = own.text("effort")?.unwrap_or_default();
    let effort = read_effort(&word).map_err(|fault| fault.within("effort"))?;
    let off = (own.flag("enabled")? == Some(false)).then_some(Effort::None);
    reasoning.effort = reasoning.effort.or(off).or(effort);
    reasoning.budget = own.count("max_tokens")?;
    reasoning.summary = reasoning.summary.take().or(own.text("summary")?);
    Ok(())
}

fn read_thinking(mut thinking: Object, reasoning: &mut Reasoning) -> Result<(), Fault> {
    match thinking.need_text("type")?.as_str() {
        "enabled" => {
            reasoning.budget = thinking.count("budget_tokens")?.or(reasoning.budget);
            // DeepSeek's switch has no budget.
            if reasoning.budget.is_none() {
                reasoning.effort = reasoning.effort.or(Some(Effort::Medium));
            }
        }
        "adaptive" | "auto" => reasoning.adaptive = true,
        "disabled" => reasoning.effort = Some(Effort::None),
        _ => return Err(Fault::expected("'enabled', 'adaptive' or 'disabled'").within("type")),
    }
    Ok(())
}

/// `auto` and `default` (Groq) leave it to the model.
pub(in crate::dialect) fn read_effort(word: &str) -> Result<Option<Effort>, Fault> {
    match word {
        "" | "auto" | "default" => Ok(None),
        word => match Effort::of(word) {
            Some(effort) => Ok(Some(effort)),
            None => Err(Fault::expected("'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'")),
        },
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
