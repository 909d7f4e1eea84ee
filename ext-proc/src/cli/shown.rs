//! What commands print: tables, and one thing with its fields.

use serde_json::Value;

/// A table with columns as wide as they need to be.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([head[at].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Names and values below each other; empty values are left out.
pub(super) fn fields(pairs: &[(&str, String)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = shown.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    lines.join("\n")
}

/// A field for a person: nothing is empty, a list has commas. Control characters of somebody's data stay away from the
/// terminal.
pub(super) fn text(of: &Value, name: &str) -> String {
    let text = match &of[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let parts: Vec<String> = list
                .iter()
                .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                .collect();
            parts.join(", ")
        }
        Value::Object(map) if map.is_empty() => String::new(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `$1.50 of $20 per 1mo`.
pub(super) fn money(of: &Value) -> String {
    let spend = dollars(&of["spend"]).unwrap_or_else(|| "$0".to_owned());
    let Some(budget) = dollars(&of["max_budget"]) else { return spend };
    match of["budget_duration"].as_str() {
        Some(duration) => format!("{spend} of {budget} per {duration}"),
        None => format!("{spend} of {budget}"),
    }
}

fn dollars(value: &Value) -> Option<String> {
    let amount = value.as_f64()?;
    // Cents, but never nothing for something.
    let text =
        if amount != 0.0 && amount.abs() < 0.01 { format!("{amount:.6}") } else { format!("{amount:.2}") };
    Some(format!("${}", text.strip_suffix(".00").unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["bb".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X   Y\na   long cell\nbb");
    }

    #[test]
    fn values_are_shown_for_people() {
        let value = json!({"spend": 1.5, "max_budget": 20.0, "budget_duration": "1mo", "models": ["a", "b"], "odd": "a\u{1b}b"});
        assert_eq!(money(&value), "$1.50 of $20 per 1mo");
        assert_eq!(money(&json!({"spend": 0.0000012, "max_budget": null})), "$0.000001");
        assert_eq!((text(&value, "models").as_str(), text(&value, "odd").as_str()), ("a, b", "a b"));
        assert_eq!(text(&value, "not there"), "");
        assert_eq!(
            fields(&[("a", "1".to_owned()), ("none", String::new()), ("long", "2".to_owned())]),
            "a     1\nlong  2"
        );
    }
}
