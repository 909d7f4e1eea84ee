use std::path::Path;

use super::super::keys::SECTIONS;
use crate::config::reference;

const BEGIN: &str =
    "<!-- keys: begin (made by `UPDATE_DOCS=1 cargo test -p attache config::tests::docs`) -->\n";
const END: &str = "<!-- keys: end -->";

#[test]
fn the_reference_in_the_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin mark");
    let (keys, after) = rest.split_once(END).expect("the end mark");
    let wanted = format!("\n{}", reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(
        keys == wanted,
        "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test -p attache config::tests::docs"
    );
}

#[test]
fn no_key_is_in_a_section_twice() {
    for section in SECTIONS {
        let mut seen = std::collections::HashSet::new();
        for name in section.names() {
            assert!(seen.insert(name), "{} has {name} twice", section.title);
        }
        for key in section.keys {
            assert!(section.known().all(|name| name != key.name), "{} is acted on and not", key.name);
        }
    }
}
