use serde_json::Value;

use super::ECHO;
use crate::dialect::chat::{read_common, rest};
use crate::dialect::fields::{Fault, Object};
use crate::dialect::request::{Part, Request, Role, Turn};
use crate::error::ApiError;

/// Reads the body of a completion: one prompt in words becomes one message of the user's. `echo` is the writer's to do.
///
/// # Errors
/// 400, naming the field: for what is malformed, for several prompts, and for tokens, which only the model that they
/// were made for can read.
pub fn read_request(body: &[u8]) -> Result<Request, ApiError> {
    Ok(read(Object::of_body(body)?)?)
}

fn read(mut body: Object) -> Result<Request, Fault> {
    let mut request = Request { model: body.text("model")?.unwrap_or_default(), ..Request::default() };
    let prompt = body.take("prompt").ok_or_else(|| Fault::missing("prompt"))?;
    let prompt = read_prompt(prompt).map_err(|fault| fault.within("prompt"))?;
    if body.flag("echo")?.unwrap_or(false) {
        request.echo.insert(ECHO.to_owned(), prompt.clone().into());
    }
    request.turns.push(Turn::new(Role::User, vec![Part::text(prompt)]));
    read_common(&mut body, &mut request)?;
    request.max_tokens = body.count("max_tokens")?;
    if let Some(top) = body.count("logprobs")? {
        request.sampling.logprobs = Some(true);
        request.sampling.top_logprobs = Some(top);
    }
    request.extra = rest(body);
    Ok(request)
}

fn read_prompt(prompt: Value) -> Result<String, Fault> {
    let items = match prompt {
        Value::String(prompt) => return Ok(prompt),
        Value::Array(items) => items,
        _ => return Err(Fault::expected("a string or an array of strings")),
    };
    if items.len() > 1 && items.iter().all(Value::is_string) {
        return Err(Fault::says("holds several prompts, and this model answers one in each request"));
    }
    match items.into_iter().next() {
        Some(Value::String(prompt)) => Ok(prompt),
        Some(Value::Number(_) | Value::Array(_)) => {
            Err(Fault::says("holds tokens, and this model takes text only"))
        }
        _ => Err(Fault::expected("a string or an array of strings")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Request {
        read_request(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_prompt_is_a_message() {
        for prompt in [json!("Once"), json!(["Once"])] {
            let request = read(&json!({"model": "m", "prompt": prompt, "max_tokens": 5, "stream": true,
                "stream_options": {"include_usage": true}, "stop": ["a", "b"], "logprobs": 2, "echo": true,
                "suffix": "end", "best_of": 3, "user": "ann", "tags": ["x"]}));
            assert_eq!(request.turns, [Turn::new(Role::User, vec![Part::text("Once")])]);
            assert_eq!((request.max_tokens, request.stream, request.want_usage), (Some(5), true, true));
            assert_eq!((request.sampling.logprobs, request.sampling.top_logprobs), (Some(true), Some(2)));
            assert_eq!(request.echo[ECHO], "Once");
            assert_eq!(Value::Object(request.extra), json!({"suffix": "end", "best_of": 3}));
        }
    }

    #[test]
    fn malformed() {
        let cases = [
            (json!({}), "prompt"),
            (json!({"prompt": 5}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": [1, 2]}), "prompt"),
            (json!({"prompt": [[1, 2]]}), "prompt"),
            (json!({"prompt": ["a", "b"]}), "prompt"),
            (json!({"prompt": "a", "logprobs": true}), "logprobs"),
            (json!({"prompt": "a", "echo": 1}), "echo"),
        ];
        for (body, field) in cases {
            let error = read_request(body.to_string().as_bytes()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{body}");
        }
    }
}
