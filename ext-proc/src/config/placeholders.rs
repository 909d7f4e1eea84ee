//! `os.environ/NAME` (the whole value) and `${NAME}`, `${NAME:-default}` (anywhere in a string; `$${` is a
//! literal `${`). Values are not expanded again.

use serde_yaml_ng::Value;

use super::env::Env;
use super::issue::{Findings, Place, did_you_mean};

/// Deepest nesting that is walked; YAML aliases can nest deeper than any file needs.
pub(super) const MAX_DEPTH: usize = 64;

const OS_ENVIRON: &str = "os.environ/";

/// Why a string cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unexpanded {
    Missing(String),
    BadName,
    Unclosed,
}

/// Expands one string.
pub(super) fn expand(text: &str, env: &Env) -> Result<String, Unexpanded> {
    if let Some(name) = text.strip_prefix(OS_ENVIRON) {
        let name = name.trim();
        return if is_name(name) { lookup(name, env) } else { Err(Unexpanded::BadName) };
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = &after[2..];
            continue;
        }
        out.push_str(before);
        let (inside, tail) = after[2..].split_once('}').ok_or(Unexpanded::Unclosed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(Unexpanded::BadName);
        }
        match default {
            // As in a shell: the default also stands in for an empty value.
            Some(default) => out.push_str(env.get(name).filter(|value| !value.is_empty()).unwrap_or(default)),
            None => out.push_str(&lookup(name, env)?),
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup(name: &str, env: &Env) -> Result<String, Unexpanded> {
    env.get(name).map(str::to_owned).ok_or_else(|| Unexpanded::Missing(name.to_owned()))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Expands every string under `value`, in place.
pub(super) fn expand_all(value: &mut Value, place: &Place, env: &Env, findings: &mut Findings) {
    if place.0.len() > MAX_DEPTH {
        findings.error(place, format!("nested deeper than {MAX_DEPTH} levels"));
        return;
    }
    match value {
        Value::String(text) => match expand(text, env) {
            Ok(expanded) => *text = expanded,
            Err(why) => findings.error(place, explain(&why, env)),
        },
        Value::Sequence(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                expand_all(item, &place.index(at), env, findings);
            }
        }
        Value::Mapping(map) => {
            for (key, item) in map.iter_mut() {
                expand_all(item, &place.key(&super::files::key_text(key)), env, findings);
            }
        }
        Value::Tagged(tagged) => expand_all(&mut tagged.value, place, env, findings),
        _ => {}
    }
}

pub(super) fn explain(why: &Unexpanded, env: &Env) -> String {
    match why {
        Unexpanded::Missing(name) => {
            format!("environment variable {name} is not set{}", did_you_mean(name, env.names()))
        }
        Unexpanded::BadName => {
            "not a variable name inside the placeholder; write `$${` for a literal `${`".to_owned()
        }
        Unexpanded::Unclosed => "`${` without `}`; write `$${` for a literal `${`".to_owned(),
    }
}
