use serde_json::{Map, Value, json};

use super::items::read_input;
use super::tools::{Tools, read_choice};
use crate::dialect::chat::tools::read_schema;
use crate::dialect::chat::{CUSTOM_TOOLS, read_effort, read_labels, rest};
use crate::dialect::fields::{Fault, Object, each};
use crate::dialect::request::{Format, Part, Reasoning, Request};
use crate::error::ApiError;

/// Members that ask for what needs a memory, and what to do instead.
const STATEFUL: [(&str, &str); 3] = [
    (
        "previous_response_id",
        "is not supported for this model: the gateway keeps no answers. Send the whole conversation in 'input'",
    ),
    (
        "conversation",
        "is not supported for this model: the gateway keeps no conversations. Send the whole one in 'input'",
    ),
    ("prompt", "is not supported for this model: the prompt is stored at OpenAI. Send its text instead"),
];

/// Members that mean nothing without a memory, or to anybody but OpenAI.
const MEANINGLESS: [&str; 10] = [
    "store",
    "truncation",
    "max_tool_calls",
    "stream_options",
    "context_management",
    "client_metadata",
    "access_programs",
    "background_options",
    "moderation",
    "prompt_cache_options",
];

/// Members of a request that its answer repeats, with what it says where the request says nothing, in OpenAI's order.
fn repeated() -> [(&'static str, Value); 17] {
    let null = Value::Null;
    [
        ("instructions", null.clone()),
        ("max_output_tokens", null.clone()),
        ("max_tool_calls", null.clone()),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("prompt_cache_key", null.clone()),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("safety_identifier", null.clone()),
        ("service_tier", "auto".into()),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_logprobs", 0.into()),
        ("top_p", json!(1.0)),
        ("truncation", "disabled".into()),
        ("user", null),
    ]
}

/// Reads the body of a responses request.
///
/// A web search is asked for as chat does (`web_search_options` in [`Request::extra`]).
///
/// # Errors
/// 400, naming the field: for what is malformed, and for what needs a memory.
pub fn read_request(body: &[u8]) -> Result<Request, ApiError> {
    Ok(read(Object::of_body(body)?)?)
}

fn read(mut body: Object) -> Result<Request, Fault> {
    refuse_state(&mut body)?;
    let mut request = Request {
        model: body.text("model")?.unwrap_or_default(),
        echo: echo(&body),
        want_usage: true,
        ..Request::default()
    };
    if let Some(instructions) = body.text("instructions")? {
        request.system.push(Part::text(instructions));
    }
    let input = body.take("input").ok_or_else(|| Fault::missing("input"))?;
    read_input(input, &mut request).map_err(|fault| fault.within("input"))?;
    let tools = read_tools(&mut body, &mut request)?;
    if let Some(text) = body.object("text")? {
        read_text(text, &mut request).map_err(|fault| fault.within("text"))?;
    }
    if let Some(reasoning) = body.object("reasoning")? {
        request.reasoning = read_reasoning(reasoning).map_err(|fault| fault.within("reasoning"))?;
    }
    request.stream = body.flag("stream")?.unwrap_or(false);
    request.max_tokens = body.count("max_output_tokens")?;
    request.parallel_tool_calls = body.flag("parallel_tool_calls")?;
    request.sampling.temperature = body.number("temperature")?;
    request.sampling.top_p = body.number("top_p")?;
    request.sampling.top_k = body.count("top_k")?;
    read_labels(&mut body, &mut request)?;
    read_include(&mut body, &mut request)?;
    for name in MEANINGLESS {
        body.take(name);
    }
    request.extra = rest(body);
    if let Some(search) = tools.search {
        request.extra.insert("web_search_options".to_owned(), search);
    }
    Ok(request)
}

fn refuse_state(body: &mut Object) -> Result<(), Fault> {
    for (name, why) in STATEFUL {
        if body.take(name).is_some() {
            return Err(Fault::says(why).within(name));
        }
    }
    match body.flag("background")? {
        Some(true) => {
            let why = "is not supported for this model: its answers come while the client waits";
            Err(Fault::says(why).within("background"))
        }
        _ => Ok(()),
    }
}

fn echo(body: &Object) -> Map<String, Value> {
    let member = |(name, default): (&str, Value)| (name.to_owned(), body.copy(name).unwrap_or(default));
    let mut echo: Map<String, Value> = repeated().into_iter().map(member).collect();
    // Chat may leave the form out where it wants text, and so may this dialect.
    if let Some(Value::Object(text)) = echo.get_mut("text") {
        text.entry("format").or_insert_with(|| json!({"type": "text"}));
    }
    echo
}

fn read_tools(body: &mut Object, request: &mut Request) -> Result<Tools, Fault> {
    let mut tools = Tools::default();
    if let Some(items) = body.list("tools")? {
        each("tools", items, |item| tools.read(item))?;
    }
    request.tools = std::mem::take(&mut tools.tools);
    if let Some(choice) = body.take("tool_choice") {
        request.tool_choice = read_choice(choice).map_err(|fault| fault.within("tool_choice"))?;
    }
    if !tools.custom.is_empty() {
        request.echo.insert(CUSTOM_TOOLS.to_owned(), std::mem::take(&mut tools.custom).into());
    }
    Ok(tools)
}

/// `text`: form and length of the answer. The members of a schema stand beside its type.
fn read_text(mut text: Object, request: &mut Request) -> Result<(), Fault> {
    request.verbosity = text.text("verbosity")?;
    let Some(mut format) = text.object("format")? else { return Ok(()) };
    let mut read = || match format.need_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::Json)),
        "json_schema" => read_schema(std::mem::take(&mut format)).map(Some),
        _ => Err(Fault::expected("'text', 'json_object' or 'json_schema'").within("type")),
    };
    request.format = read().map_err(|fault| fault.within("format"))?;
    Ok(())
}

fn read_reasoning(mut reasoning: Object) -> Result<Option<Reasoning>, Fault> {
    let word = reasoning.text("effort")?.unwrap_or_default();
    let effort = read_effort(&word).map_err(|fault| fault.within("effort"))?;
    let summary = reasoning.text("summary")?.or(reasoning.text("generate_summary")?);
    let reasoning = Reasoning { effort, summary, ..Reasoning::default() };
    Ok((reasoning != Reasoning::default()).then_some(reasoning))
}

/// `include`: of what it may ask for, logprobs are there to be had; signatures of reasoning always come.
fn read_include(body: &mut Object, request: &mut Request) -> Result<(), Fault> {
    let top = body.count("top_logprobs")?;
    let wanted = |item: Value| match item {
        Value::String(name) => Ok(name == "message.output_text.logprobs"),
        _ => Err(Fault::expected("a string")),
    };
    let asked = match body.list("include")? {
        Some(items) => each("include", items, wanted)?.contains(&true),
        None => false,
    };
    if asked || top.is_some_and(|top| top > 0) {
        request.sampling.logprobs = Some(true);
        request.sampling.top_logprobs = top;
    }
    Ok(())
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
