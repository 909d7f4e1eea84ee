use proptest::prelude::*;

use super::*;

const ID: &str = "spiffe://corp.example/ns/search/sa/indexer";

fn id(header: &str) -> Option<String> {
    spiffe_of(header)
}

#[test]
fn the_client_of_the_last_hop_counts() {
    let found = Some(ID.to_owned());
    assert_eq!(id(&format!("By=spiffe://a/proxy;Hash=ab;Subject=\"CN=x,O=y\";URI={ID}")), found);
    assert_eq!(id(&format!("URI={ID}")), found);
    assert_eq!(id(&format!("uri = \"{ID}\" ;DNS=a")), found);
    assert_eq!(id(&format!("URI=spiffe://a/first,By=spiffe://a/p;URI={ID}")), found);
    assert_eq!(id(&format!("URI={ID},By=spiffe://a/p;Hash=ab")), None, "the last hop's client showed none");
}

#[test]
fn what_a_client_puts_into_its_subject_is_no_other_pair() {
    let subject = r#"Subject="CN=x;URI=spiffe://a/admin,URI=spiffe://a/admin""#;
    assert_eq!(id(subject), None);
    assert_eq!(id(&format!("{subject};URI={ID}")), Some(ID.to_owned()));
    let escaped = r#"Subject="CN=\";URI=spiffe://a/admin;\"";URI=spiffe://a/b"#;
    assert_eq!(id(escaped), Some("spiffe://a/b".to_owned()));
}

#[test]
fn what_is_not_well_formed_is_not_believed() {
    for header in [
        "",
        ",",
        ";",
        "URI",
        "URI=",
        "URI=https://a/b",
        "URI=spiffe://a/b;URI=spiffe://a/c",
        "URI=spiffe://a/b;x",
        "Subject=\"open;URI=spiffe://a/b",
        "URI=spiffe://a/\"b\"",
        "URI=\"spiffe://a/b\"c\"",
        "URI=spiffe://a/b,",
        "URI=\"spiffe://a/b\\",
        "URI=spiffe://a/b c",
    ] {
        assert_eq!(id(header), None, "{header}");
    }
    assert_eq!(id(&format!("Hash={};URI={ID}", "a".repeat(MAX_HEADER))), None);
    assert_eq!(id(&format!("{}URI={ID}", "Hash=a,".repeat(MAX_PARTS + 1))), None);
}

/// As Envoy writes a value.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_id_or_in_nothing(header in "\\PC{0,200}") {
        if let Some(found) = spiffe_of(&header) {
            prop_assert!(is_spiffe(&found));
        }
    }

    #[test]
    fn pieces_of_the_grammar_do_not_panic(parts in prop::collection::vec("(URI=|By=|,|;|\"|\\\\|=|spiffe://a/b|x| )", 0..40)) {
        let _ = spiffe_of(&parts.concat());
    }

    #[test]
    fn no_subject_changes_who_it_is(subject in "\\PC{0,80}", earlier in "\\PC{0,40}") {
        let header = format!("Subject={},By=spiffe://a/p;Subject={};URI={ID}", quoted(&earlier), quoted(&subject));
        prop_assert_eq!(spiffe_of(&header), Some(ID.to_owned()));
        let none = format!("By=spiffe://a/p;Subject={}", quoted(&subject));
        prop_assert_eq!(spiffe_of(&none), None);
    }
}
