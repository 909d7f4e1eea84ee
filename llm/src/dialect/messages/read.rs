//! A client's request in Anthropic's words.

use serde_json::{Map, Value};

use super::read_content::{cache, content, system};
use crate::dialect::Dialect;
use crate::dialect::fields::{Fault, Object, each, text};
use crate::dialect::request::{Effort, Format, Reasoning, Request, Role, Sampling, Tool, ToolChoice, Turn};
use crate::error::ApiError;

/// Reads a client's request.
///
/// # Errors
/// 400, naming the field (`messages[1].content[0].source`).
pub fn read_request(body: &[u8]) -> Result<Request, ApiError> {
    let mut body = Object::of_body(body)?;
    Ok(read(&mut body).map(|request| with_extra(request, body))?)
}

fn read(body: &mut Object) -> Result<Request, Fault> {
    let model = body.text("model")?.unwrap_or_default();
    let max_tokens = body.count("max_tokens")?.ok_or_else(|| Fault::missing("max_tokens"))?;
    if max_tokens == 0 {
        return Err(Fault::expected("a number greater than 0").within("max_tokens"));
    }
    let mut request = Request { model, max_tokens: Some(max_tokens), want_usage: true, ..Request::default() };
    request.stream = body.flag("stream")?.unwrap_or(false);
    request.system = match body.take("system") {
        Some(value) => system(value).map_err(|fault| fault.within("system"))?,
        None => Vec::new(),
    };
    request.turns = each("messages", body.need_list("messages")?, turn)?;
    if request.turns.is_empty() {
        return Err(Fault::expected("at least one message").within("messages"));
    }
    if let Some(tools) = body.list("tools")? {
        request.tools = each("tools", tools, tool)?;
    }
    if let Some(choice) = body.object("tool_choice")? {
        let (choice, parallel) = tool_choice(choice).map_err(|fault| fault.within("tool_choice"))?;
        (request.tool_choice, request.parallel_tool_calls) = (Some(choice), parallel);
    }
    request.sampling = Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        top_k: body.count("top_k")?,
        ..Sampling::default()
    };
    if let Some(stop) = body.list("stop_sequences")? {
        request.stop =
            each("stop_sequences", stop, |stop| text(stop).ok_or_else(|| Fault::expected("a string")))?;
    }
    if let Some(mut metadata) = body.object("metadata")? {
        request.user = metadata.text("user_id").map_err(|fault| fault.within("metadata"))?;
    }
    request.service_tier = body.text("service_tier")?.map(|tier| match tier.as_str() {
        "standard_only" => "default".to_owned(),
        _ => tier,
    });
    thinking(body, &mut request)?;
    format(body, &mut request)?;
    Ok(request)
}

/// What is left: Anthropic's own members go on to whoever knows them; the rest means nothing elsewhere.
fn with_extra(mut request: Request, body: Object) -> Request {
    const OWN: [&str; 6] =
        ["container", "mcp_servers", "context_management", "anthropic_beta", "inference_geo", "speed"];
    let rest = body.rest().into_iter().filter(|(name, _)| OWN.contains(&name.as_str()));
    request.extra.extend(rest);
    request
}

fn turn(value: Value) -> Result<Turn, Fault> {
    let mut message = Object::of(value)?;
    let role = match message.need_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(Fault::expected("`user` or `assistant`").within("role")),
    };
    let value = message.take("content").ok_or_else(|| Fault::missing("content"))?;
    let parts = content(value).map_err(|fault| fault.within("content"))?;
    Ok(Turn::new(role, parts))
}

fn tool(value: Value) -> Result<Tool, Fault> {
    let mut tool = Object::of(value)?;
    if !matches!(tool.peek("type"), "" | "custom") {
        return Ok(Tool::Hosted { dialect: Dialect::Messages, value: tool.into_value() });
    }
    let name = tool.need_text("name")?;
    if name.is_empty() {
        return Err(Fault::expected("a name").within("name"));
    }
    let parameters = tool.need_object("input_schema")?.into_value();
    Ok(Tool::Function {
        name,
        description: tool.text("description")?,
        parameters: Some(parameters),
        strict: tool.flag("strict")?,
        cache: cache(&mut tool)?,
    })
}

fn tool_choice(mut choice: Object) -> Result<(ToolChoice, Option<bool>), Fault> {
    let parallel = choice.flag("disable_parallel_tool_use")?.map(|single| !single);
    let choice = match choice.need_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Function(choice.need_text("name")?),
        _ => return Err(Fault::expected("`auto`, `any`, `tool` or `none`").within("type")),
    };
    Ok((choice, parallel))
}

fn thinking(body: &mut Object, request: &mut Request) -> Result<(), Fault> {
    let Some(mut thinking) = body.object("thinking")? else { return Ok(()) };
    let within = |fault: Fault| fault.within("thinking");
    let mut reasoning =
        Reasoning { summary: thinking.text("display").map_err(within)?, ..Reasoning::default() };
    match thinking.need_text("type").map_err(within)?.as_str() {
        "enabled" => {
            let budget = thinking.count("budget_tokens").map_err(within)?;
            reasoning.budget = Some(budget.ok_or_else(|| within(Fault::missing("budget_tokens")))?);
        }
        "adaptive" => reasoning.adaptive = true,
        "disabled" => reasoning.effort = Some(Effort::None),
        _ => return Err(within(Fault::expected("`enabled`, `adaptive` or `disabled`").within("type"))),
    }
    request.reasoning = Some(reasoning);
    Ok(())
}

/// `output_config`, and the older `output_format`.
fn format(body: &mut Object, request: &mut Request) -> Result<(), Fault> {
    let mut config = body.object("output_config")?.unwrap_or_default();
    let mut own = Map::new();
    let within = |fault: Fault| fault.within("output_config");
    if let Some(effort) = config.text("effort").map_err(within)? {
        let unknown =
            || within(Fault::expected("`low`, `medium`, `high`, `xhigh` or `max`").within("effort"));
        let effort = Effort::of(&effort).ok_or_else(unknown)?;
        match &mut request.reasoning {
            Some(reasoning) if reasoning.adaptive => reasoning.effort = Some(effort),
            // Beside a budget, and without `thinking`, it is for the answer alone; only Anthropic has words for that.
            _ => drop(own.insert("effort".to_owned(), effort.name().into())),
        }
    }
    let (found, name) = match config.object("format").map_err(within)? {
        Some(found) => (Some(found), "output_config.format"),
        None => (body.object("output_format")?, "output_format"),
    };
    own.extend(config.rest());
    if !own.is_empty() {
        request.extra.insert("output_config".to_owned(), own.into());
    }
    let Some(mut found) = found else { return Ok(()) };
    let within = |fault: Fault| fault.within(name);
    match found.need_text("type").map_err(within)?.as_str() {
        "json_schema" => {
            let schema = found.need_object("schema").map_err(within)?.into_value();
            let name = "answer".to_owned();
            request.format = Some(Format::Schema { name, description: None, schema, strict: Some(true) });
            Ok(())
        }
        _ => Err(within(Fault::expected("`json_schema`").within("type"))),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
