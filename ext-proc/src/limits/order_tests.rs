use std::fmt::Write as _;
use std::path::Path;

use super::*;

const BEGIN: &str = "<!-- limits: begin (made by `UPDATE_DOCS=1 cargo test -p attache limits::order`) -->\n";
const END: &str = "<!-- limits: end -->";

fn called(subject: Subject) -> &'static str {
    match subject {
        Subject::KeyTag => "key, for a tag",
        Subject::Of(kind) => match kind {
            EntityKind::Key => "key",
            EntityKind::KeyModel => "key, for a model",
            EntityKind::Team => "team",
            EntityKind::TeamModel => "team, for a model",
            EntityKind::User => "owner of the key",
            EntityKind::UserModel => "owner of the key, for a model",
            EntityKind::Member => "owner in the team",
            EntityKind::Organization => "organization",
            EntityKind::EndUser => "end user",
            EntityKind::Tag => "every tag",
            EntityKind::Proxy => "whole gateway",
            other => panic!("{other} has no limits"),
        },
    }
}

/// One row per entity and kind of check, in order.
fn table() -> String {
    let mut out = "\n| | Who | Limits, in order | |\n|---|---|---|---|\n".to_owned();
    let rows = ORDER.chunk_by(|a, b| a.subject == b.subject);
    for (at, row) in rows.enumerate() {
        let settings: Vec<_> = row.iter().map(|check| format!("`{}`", check.setting)).collect();
        let mut notes: Vec<_> = row.iter().filter(|check| !check.about.is_empty()).collect();
        notes.dedup_by_key(|check| check.about);
        let alone =
            row.len() == 1 || notes.len() == 1 && row.iter().all(|check| check.about == notes[0].about);
        let note = |check: &&Check| match alone {
            true => check.about.to_owned(),
            false => format!("`{}`: {}", check.setting, check.about),
        };
        let notes: Vec<_> = notes.iter().map(note).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            at + 1,
            called(row[0].subject),
            settings.join(", "),
            notes.join("; ")
        )
        .unwrap();
    }
    out
}

#[test]
fn the_table_in_the_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin mark");
    let (found, after) = rest.split_once(END).expect("the end mark");
    let wanted = format!("{}\n", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "docs/limits.md is out of date: UPDATE_DOCS=1 cargo test -p attache limits::order"
    );
}

#[test]
fn nothing_is_asked_twice() {
    let mut seen = std::collections::HashSet::new();
    for check in ORDER {
        assert!(seen.insert((check.subject, check.dimension)), "{} {}", called(check.subject), check.setting);
    }
}

#[test]
fn money_comes_first() {
    let last_budget = ORDER.iter().rposition(|check| check.dimension == Dimension::Budget).unwrap();
    let first_rate = ORDER.iter().position(|check| check.dimension != Dimension::Budget).unwrap();
    assert!(last_budget < first_rate);
}

#[test]
fn every_dimension_has_its_bit() {
    let bits = Dimension::ALL.iter().fold(0, |bits, dimension| bits ^ dimension.bit());
    assert_eq!(bits, u8::MAX);
    assert!(Dimension::ALL.iter().enumerate().all(|(at, dimension)| dimension.bit() == 1 << at));
}
