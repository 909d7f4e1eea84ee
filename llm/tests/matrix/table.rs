//! The table of what is shown to work. A cell is made by running its cases, never written by hand.

use std::fmt::Write;
use std::path::PathBuf;

use attache_llm::dialect::Route;
use attache_llm::path::Endpoint;

use crate::answers::{self, Seen};
use crate::pairs::{CLIENTS, UPSTREAMS, Upstream, client_name};
use crate::requests;

/// A column: what must be found in what the provider is sent, and in what the client sees, whole and streamed.
struct Feature {
    name: &'static str,
    request: Option<(&'static str, &'static [&'static [&'static str]])>,
    answer: Option<(&'static str, &'static [&'static [&'static str]])>,
}

/// Each inner list holds alternatives of which one must be there.
const FEATURES: [Feature; 11] = [
    feature(
        "chat",
        Some(("plain", &[&["attaché carry"], &["You are terse."]])),
        Some(("plain", &[&["letters. 📮"]])),
    ),
    feature("tools", Some(("tools", TOOLS)), Some(("tools", CALLED))),
    feature("parallel tools", Some(("parallel-tools", BOTH_TOOLS)), Some(("parallel-tools", BOTH_CALLED))),
    feature("tool results", Some(("tool-results", &[&["11 degrees, rain"], &["Bern"]])), None),
    feature("JSON schema", Some(("json-schema", &[&["letters"], &["integer", "INTEGER"]])), None),
    feature("vision", Some(("vision", &[&["iVBORw0KGgo"]])), None),
    feature("documents", Some(("document", &[&["JVBERi0xLjQ"]])), None),
    feature("reasoning", Some(("reasoning", REASONING)), Some(("reasoning", &[&["Think of "]]))),
    feature("prompt cache", Some(("prompt-cache", &[&["cache_control", "cachePoint"]])), None),
    feature("errors inside", None, Some(("error-inside", &[&["\"error\""]]))),
    feature("cut streams", None, Some(("cut", &[&["\"error\""]]))),
];
const TOOLS: &[&[&str]] = &[&["get_weather"], &["Name of the city"]];
const BOTH_TOOLS: &[&[&str]] = &[&["get_weather"], &["get_time"]];
const CALLED: &[&[&str]] = &[&["get_weather"], &["Bern"]];
const BOTH_CALLED: &[&[&str]] = &[&["get_weather"], &["get_time"], &["Bern"]];
const REASONING: &[&[&str]] =
    &[&["\"reasoning_effort\"", "\"thinking\"", "\"reasoning\"", "\"thinkingConfig\""]];

const fn feature(
    name: &'static str,
    request: Option<(&'static str, &'static [&'static [&'static str]])>,
    answer: Option<(&'static str, &'static [&'static [&'static str]])>,
) -> Feature {
    Feature { name, request, answer }
}

fn holds(text: &str, wanted: &[&[&str]]) -> bool {
    wanted.iter().all(|any| any.iter().any(|word| text.contains(word)))
}

/// Is the feature shown? `None` when there is no case for it.
fn shown(feature: &Feature, client: Endpoint, upstream: &Upstream) -> Option<bool> {
    let request = feature.request.map(|(case, wanted)| {
        let body = requests::body(client, case, false)?;
        let sent = requests::sent(client, upstream, &body);
        Some(sent.is_ok_and(|sent| holds(&String::from_utf8_lossy(&sent.body), wanted)))
    });
    let answer = feature.answer.map(|(case, wanted)| {
        let found = [answers::document(client, upstream, case), answers::stream(client, upstream, case)];
        let found: Vec<Seen> = found.into_iter().flatten().collect();
        (!found.is_empty()).then(|| found.iter().all(|seen| holds(&seen.text, wanted)))
    });
    match (request, answer) {
        (Some(request), Some(answer)) => Some(request? && answer?),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => None,
    }
}

fn cell(feature: &Feature, client: Endpoint, upstream: &Upstream) -> &'static str {
    let same = upstream.way(client).0 == Route::Same;
    match shown(feature, client, upstream) {
        Some(true) if same => "=",
        Some(true) => "✓",
        Some(false) | None => "–",
    }
}

fn table() -> String {
    let mut out = String::new();
    for client in CLIENTS {
        let _ = writeln!(out, "### Client: {}\n", client_name(client));
        let names: Vec<_> = FEATURES.iter().map(|feature| feature.name).collect();
        let _ = writeln!(out, "| provider | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
        for upstream in UPSTREAMS {
            let cells: Vec<_> = FEATURES.iter().map(|feature| cell(feature, client, &upstream)).collect();
            let _ = writeln!(out, "| {} | {} |", upstream.name, cells.join(" | "));
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_table_says_what_is_shown() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src", "dialect", "matrix.md"].iter().collect();
    let made = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("the table can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, made, "run UPDATE_DOCS=1 cargo test -p attache-llm --test matrix");
}
