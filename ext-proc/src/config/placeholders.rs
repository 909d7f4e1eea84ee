//! `os.environ/NAME` (the whole value) and `${NAME}`, `${NAME:-default}`, `${file:/path}` (anywhere in a string; `$${` is a
//! literal `${`). Values are not expanded again.

use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::env::Env;
use super::issue::{Findings, Place, did_you_mean};

/// Deepest nesting that is walked; YAML aliases can nest deeper than any file needs.
pub(super) const MAX_DEPTH: usize = 64;

const OS_ENVIRON: &str = "os.environ/";
const FILE: &str = "file:";
/// A larger file is no secret.
const MAX_SECRET: u64 = 1024 * 1024;

/// Why a string cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unexpanded {
    Missing(String),
    BadName,
    Unclosed,
    /// Which file, and why.
    File(String, String),
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
        rest = tail;
        if let Some(path) = inside.strip_prefix(FILE) {
            let content = content(Path::new(path));
            out.push_str(&content.map_err(|why| Unexpanded::File(path.to_owned(), why))?);
            continue;
        }
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
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup(name: &str, env: &Env) -> Result<String, Unexpanded> {
    env.get(name).map(str::to_owned).ok_or_else(|| Unexpanded::Missing(name.to_owned()))
}

/// A secret in a file, without the line's end.
fn content(path: &Path) -> Result<String, String> {
    if !path.is_absolute() {
        return Err("its path must begin with `/`".to_owned());
    }
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_SECRET {
        return Err(format!("larger than {} MiB", MAX_SECRET / 1024 / 1024));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = text.trim_end_matches(['\n', '\r']);
    // Half of a rotation, most likely. Empty text would mean "not set".
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// Files that `${file:/path}` names anywhere in a text.
pub(crate) fn file_references(text: &str) -> impl Iterator<Item = PathBuf> {
    let found = text.match_indices("${file:").filter(|(at, _)| !text[..*at].ends_with('$'));
    found.filter_map(|(at, start)| {
        let path = Path::new(text[at + start.len()..].split_once('}')?.0);
        path.is_absolute().then(|| path.to_owned())
    })
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
        Value::String(text) => {
            findings.references.extend(file_references(text));
            match expand(text, env) {
                Ok(expanded) => *text = expanded,
                Err(why) => findings.error(place, explain(&why, env)),
            }
        }
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
        Unexpanded::File(path, why) => format!("the file {path} cannot be used: {why}"),
        Unexpanded::BadName => {
            "not a variable name inside the placeholder; write `$${` for a literal `${`".to_owned()
        }
        Unexpanded::Unclosed => "`${` without `}`; write `$${` for a literal `${`".to_owned(),
    }
}
