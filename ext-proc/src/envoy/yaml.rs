//! YAML for people: what is short stands on one line, what comes twice stands once.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Longest line of a value, indentation aside.
const WIDTH: usize = 110;
/// What is shorter is written again.
const WORTH_A_NAME: usize = 300;

/// A document, its lines indented by so many spaces.
#[must_use]
pub fn emit(value: &Value, indent: usize) -> String {
    let mut counts = HashMap::new();
    count(value, &mut counts);
    let mut writer = Writer { counts, names: HashMap::new(), out: String::new() };
    writer.block(value, indent);
    writer.out
}

fn count(value: &Value, counts: &mut HashMap<String, usize>) {
    let text = value.to_string();
    if text.len() < WORTH_A_NAME || value.is_string() {
        return;
    }
    let seen = counts.entry(text).or_default();
    *seen += 1;
    // Parts of what is written once only are written once, too.
    if *seen > 1 {
        return;
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| count(field, counts)),
        Value::Array(items) => items.iter().for_each(|item| count(item, counts)),
        _ => {}
    }
}

struct Writer {
    counts: HashMap<String, usize>,
    names: HashMap<String, String>,
    out: String,
}

impl Writer {
    /// Whole lines.
    fn block(&mut self, value: &Value, indent: usize) {
        let pad = " ".repeat(indent);
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, field) in fields {
                    let _ = write!(self.out, "{pad}{}:", key_text(key));
                    self.field(field, indent + 2);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    let start = self.out.len();
                    let text = item.to_string();
                    let is_named = self.counts.get(&text).is_some_and(|seen| *seen > 1);
                    if item.is_object() && !is_flat(item, &text) && !is_named {
                        self.block(item, indent + 2);
                        self.out.replace_range(start..start + indent + 2, &format!("{pad}- "));
                    } else {
                        let _ = write!(self.out, "{pad}-");
                        self.field(item, indent + 2);
                    }
                }
            }
            other => {
                let _ = writeln!(self.out, "{pad}{other}");
            }
        }
    }

    /// After a key or a dash.
    fn field(&mut self, value: &Value, indent: usize) {
        let text = value.to_string();
        if let Some(name) = self.names.get(&text) {
            let _ = writeln!(self.out, " *{name}");
            return;
        }
        let mut name = String::new();
        if self.counts.get(&text).is_some_and(|seen| *seen > 1) {
            let number = self.names.len() + 1;
            name = format!(" &same{number}");
            self.names.insert(text.clone(), format!("same{number}"));
        }
        if let Some(lines) = value.as_str().filter(|text| is_text(text)) {
            let _ = writeln!(self.out, " |");
            for line in lines.lines() {
                let pad = if line.is_empty() { 0 } else { indent };
                let _ = writeln!(self.out, "{}{line}", " ".repeat(pad));
            }
        } else if let Some(word) = value.as_str().filter(|text| is_word(text)) {
            let _ = writeln!(self.out, " {word}");
        } else if is_flat(value, &text) {
            let _ = writeln!(self.out, "{name} {text}");
        } else {
            let _ = writeln!(self.out, "{name}");
            self.block(value, indent);
        }
    }
}

fn is_flat(value: &Value, text: &str) -> bool {
    match value {
        Value::Object(_) | Value::Array(_) => text.len() <= WIDTH,
        _ => true,
    }
}

fn key_text(key: &str) -> String {
    if is_word(key) { key.to_owned() } else { Value::from(key).to_string() }
}

/// Can it be written as it is? No reader may take it for something else than text.
fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let taken = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !taken.contains(&text.to_ascii_lowercase().as_str())
}

/// Is it whole lines, which a block of YAML can hold?
fn is_text(text: &str) -> bool {
    let fits = |c: char| c == '\n' || !c.is_control();
    text.len() > 1
        && text.ends_with('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\n'])
        && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let long = json!({"a": "x".repeat(200), "b": ["y".repeat(200), 1, null, true, {}]});
        let value = json!({
            "@type": "t", "on": false, "1": {}, "list": [long, {"deep": long}, "tail: # no comment"], "again": long,
            "text": "two\nlines \"quoted\" {{x}} *y &z", "empty": [], "lines": {"a": "one: 1\n\n  two # 2\n"},
            "words": ["no", "No", "1e3", "0x1", ".5", "a/b.c-d", "a: b", "", "-", "~", "null", "\n", " x\n", "x\n\n"],
        });
        let text = emit(&value, 2);
        assert_eq!(serde_yaml_ng::from_str::<Value>(&text).unwrap(), value, "{text}");
        assert_eq!(text.matches(&"x".repeat(200)).count(), 1, "{text}");
        assert_eq!(text.matches("*same1").count(), 2, "{text}");
    }
}
