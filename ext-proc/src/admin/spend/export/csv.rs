//! CSV (RFC 4180), with the exact dollars and the start as text beside their integers.

use super::Format;
use super::columns::{COLUMNS, Cell};
use crate::admin::money::Dollars;
use crate::admin::when;
use crate::store::SpendRow;

pub(super) struct Csv {
    begun: bool,
}

impl Csv {
    pub(super) fn new() -> Self {
        Self { begun: false }
    }
}

/// A spreadsheet runs text that begins like a formula, and names, tags and end users are anybody's text: an apostrophe
/// before it makes it text.
fn harmless(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula { format!("'{text}") } else { text.to_owned() }
}

impl Format for Csv {
    fn rows(&mut self, rows: &[SpendRow]) -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        if !self.begun {
            self.begun = true;
            writer.write_record(COLUMNS.iter().map(|column| column.name).chain(["startTime", "spend"]))?;
        }
        for row in rows {
            for column in &COLUMNS {
                let text = match (column.of)(row) {
                    Cell::Text(text) => text.map(harmless).unwrap_or_default(),
                    Cell::Owned(text) => harmless(&text),
                    Cell::Number(number) => number.map(|number| number.to_string()).unwrap_or_default(),
                    Cell::Flag(flag) => flag.to_string(),
                };
                writer.write_field(text)?;
            }
            writer.write_field(when::rfc3339_us(row.start_us))?;
            writer.write_field(row.cost_nanos.map(|nanos| Dollars(nanos).to_string()).unwrap_or_default())?;
            writer.write_record(None::<&[u8]>)?;
        }
        Ok(writer.into_inner()?)
    }

    fn end(self: Box<Self>) -> anyhow::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text_and_amounts_are_exact() {
        let row = SpendRow {
            call_id: "c,\"1\"".into(),
            user: Some("=HYPERLINK(\"http://x\")".into()),
            team_id: Some("-1".into()),
            cost_nanos: Some(1_000_000_001),
            start_us: 1_769_860_800_000_000,
            tags: vec!["a".into()],
            ..SpendRow::default()
        };
        let mut format = Csv::new();
        let text = format.rows(&[row, SpendRow::default()]).unwrap();
        let mut reader = csv::Reader::from_reader(&text[..]);
        let names = reader.headers().unwrap().clone();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let cell = |at: usize, name: &str| {
            let column = names.iter().position(|known| known == name).unwrap();
            records[at][column].to_owned()
        };
        assert_eq!(cell(0, "request_id"), "c,\"1\"");
        assert_eq!(cell(0, "end_user"), "'=HYPERLINK(\"http://x\")");
        assert_eq!(cell(0, "team_id"), "'-1");
        assert_eq!((cell(0, "spend_nanos"), cell(0, "spend")), ("1000000001".into(), "1.000000001".into()));
        assert_eq!(
            (cell(0, "startTime"), cell(0, "request_tags")),
            ("2026-01-31T12:00:00Z".into(), "[\"a\"]".into())
        );
        assert_eq!((cell(1, "spend_nanos"), cell(1, "spend"), cell(1, "team_id")), Default::default());
        // The head is written once.
        assert!(format.rows(&[]).unwrap().is_empty());
    }
}
