//! The key section of `docs/configuration.md`.

use std::fmt::Write as _;

use super::keys::SECTIONS;
use super::schema::Key;

/// Every key as Markdown tables, from the table that the loader checks against.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let _ = writeln!(out, "### {}\n", section.title);
        out.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let _ = writeln!(out, "{}", row(key));
        }
        if !section.known.is_empty() {
            let mut known: Vec<_> = section.known().map(|name| format!("`{name}`")).collect();
            known.sort();
            let _ = writeln!(out, "\nLiteLLM's keys that Attaché does not act on (a warning names each):\n");
            out.push_str(&wrapped(&known));
        }
        out.push('\n');
    }
    out
}

fn row(key: &Key) -> String {
    let default = if key.default.is_empty() { "–" } else { key.default };
    format!("| `{}` | {} | {default} | {} |", key.name, key.kind.name(), key.doc)
}

/// A paragraph of at most 110 characters a line.
fn wrapped(words: &[String]) -> String {
    let mut out = String::new();
    let mut width = 0;
    for (at, word) in words.iter().enumerate() {
        let word = if at + 1 == words.len() { format!("{word}.") } else { format!("{word},") };
        if width > 0 && width + word.len() >= 110 {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        width += word.len();
        out.push_str(&word);
    }
    out.push('\n');
    out
}
