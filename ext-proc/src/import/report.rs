use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Rows that are named with their reasons, per table.
const NAMED: usize = 20;

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub dry_run: bool,
    pub tables: Vec<TableReport>,
    /// What LiteLLM knew and Attaché does not act on, with how many rows have it.
    pub notes: BTreeMap<String, u64>,
}

/// One table's part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    pub table: &'static str,
    /// The kind of entity that its rows become.
    pub becomes: &'static str,
    /// The table does not exist in this version of LiteLLM.
    pub missing: bool,
    pub read: u64,
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// Left alone on purpose; `reasons` tells why.
    pub skipped: u64,
    /// Could not be taken over.
    pub failed: u64,
    pub reasons: Vec<Reason>,
    /// Reasons beyond the first 20.
    pub more_reasons: u64,
}

/// Why a row was skipped or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub row: String,
    pub why: String,
}

impl Report {
    /// Could every row be taken over?
    #[must_use]
    pub fn complete(&self) -> bool {
        self.tables.iter().all(|table| table.failed == 0)
    }

    /// Did (or would) anything change?
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.tables.iter().map(|table| table.created + table.updated).sum()
    }

    /// Models that are (or would be) in the database now.
    #[must_use]
    pub fn stored_models(&self) -> u64 {
        let models = self.tables.iter().filter(|table| table.becomes == "model");
        models.map(|table| table.created + table.updated + table.unchanged).sum()
    }

    pub(super) fn note(&mut self, what: &str) {
        *self.notes.entry(what.to_owned()).or_default() += 1;
    }

    fn summary(&self) -> String {
        let failed: u64 = self.tables.iter().map(|table| table.failed).sum();
        let changed = match (self.changes(), self.dry_run) {
            (0, _) => "nothing to change".to_owned(),
            (count, true) => format!("dry run: {count} entities would change, nothing was written"),
            (count, false) => format!("{count} entities changed"),
        };
        match failed {
            0 => changed,
            count => format!("{changed}; {count} rows failed"),
        }
    }
}

impl TableReport {
    pub(super) fn skip(&mut self, row: &str, why: impl Into<String>) {
        self.skipped += 1;
        self.reason(row, why.into());
    }

    pub(super) fn fail(&mut self, row: &str, why: impl Into<String>) {
        self.failed += 1;
        self.reason(row, why.into());
    }

    /// Something about a row that was taken over.
    pub(super) fn reason(&mut self, row: &str, why: String) {
        if self.reasons.len() < NAMED {
            // No control character of somebody's data reaches a terminal.
            let row = row.chars().map(|c| if c.is_control() { '/' } else { c }).take(100).collect();
            self.reasons.push(Reason { row, why });
        } else {
            self.more_reasons += 1;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<38} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "table", "read", "created", "updated", "unchanged", "skipped", "failed"
        )?;
        for table in &self.tables {
            if table.missing {
                writeln!(f, "{:<38} not in this database", table.table)?;
                continue;
            }
            let TableReport { read, created, updated, unchanged, skipped, failed, .. } = table;
            let name = table.table;
            writeln!(
                f,
                "{name:<38} {read:>9} {created:>9} {updated:>9} {unchanged:>9} {skipped:>9} {failed:>7}"
            )?;
        }
        for table in &self.tables {
            if table.reasons.is_empty() {
                continue;
            }
            writeln!(f, "\n{}:", table.table)?;
            for Reason { row, why } in &table.reasons {
                writeln!(f, "  {row}: {why}")?;
            }
            if table.more_reasons > 0 {
                writeln!(f, "  and {} more", table.more_reasons)?;
            }
        }
        if !self.notes.is_empty() {
            writeln!(f, "\nkept, but without effect here:")?;
            for (what, count) in &self.notes {
                writeln!(f, "  {what}: {count}")?;
            }
        }
        write!(f, "\n{}", self.summary())
    }
}
