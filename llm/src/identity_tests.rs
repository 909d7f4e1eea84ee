use proptest::prelude::*;

use super::*;

#[test]
fn both_kinds_are_read_back() {
    for identity in [
        Identity::spiffe("spiffe://corp.example/ns/search/sa/indexer").unwrap(),
        Identity::spiffe("spiffe://corp.example").unwrap(),
        Identity::jwt("azp", "batch=1").unwrap(),
        Identity::jwt("https://corp.example/tenant", "Größe").unwrap(),
    ] {
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }
    assert_eq!(Identity::spiffe("spiffe://a/b").unwrap().to_string(), "spiffe:spiffe://a/b");
}

#[test]
fn a_hash_or_a_key_is_no_identity() {
    for text in
        ["", &"0a".repeat(32), "sk-1234567890abcdef", "litellm_proxy_master_key", "spiffe:", "jwt:", "jwt:=x"]
    {
        assert_eq!(Identity::parse(text), None, "{text}");
    }
}

#[test]
fn the_standard_is_taken_by_the_letter() {
    for bad in [
        "spiffe://",
        "spiffe:///ns",
        "SPIFFE://a/b",
        "https://a/b",
        "spiffe://a/",
        "spiffe://a//b",
        "spiffe://a/../b",
        "spiffe://a/./b",
        "spiffe://A/b",
        "spiffe://a:8080/b",
        "spiffe://u@a/b",
        "spiffe://a/b?c",
        "spiffe://a/b#c",
        "spiffe://a/%41",
        "spiffe://a/b c",
        "spiffe://a/*",
        "spiffe://a/ü",
        "spiffe://a/b\n",
    ] {
        assert!(!is_spiffe(bad), "{bad}");
    }
    let longest = format!("spiffe://a/{}", "b".repeat(MAX_SPIFFE - 11));
    assert!(is_spiffe(&longest) && !is_spiffe(&format!("{longest}b")));
    assert!(is_spiffe_pattern("spiffe://a/ns/*/sa/x-*") && !is_spiffe_pattern("spiffe://*/ns"));
}

#[test]
fn a_star_stays_within_its_segment() {
    let matches = |pattern: &str, uri: &str| Identity::spiffe(uri).unwrap().matches(pattern);
    assert!(matches("spiffe://a/ns/search/sa/*", "spiffe://a/ns/search/sa/indexer"));
    assert!(matches("spiffe://a/ns/*/sa/web-*", "spiffe://a/ns/shop/sa/web-1"));
    assert!(!matches("spiffe://a/ns/*/sa/web", "spiffe://a/ns/x/sa/y/sa/web"));
    assert!(!matches("spiffe://a/ns/search/sa/*", "spiffe://a/ns/search/sa/indexer/more"));
    assert!(!matches("spiffe://a/ns/search/sa/*", "spiffe://b/ns/search/sa/indexer"));
    assert!(!matches("spiffe://a/ns/search", "spiffe://a/ns/search2"));
    assert!(matches("spiffe://a/ns/**", "spiffe://a/ns/x/sa/y"));
    assert!(!matches("spiffe://a/ns/**", "spiffe://a/ns"));
    assert!(matches("spiffe://a/ns", "spiffe://a/ns"));
}

#[test]
fn claims_are_bounded() {
    assert!(Identity::jwt("sub", &"v".repeat(MAX_VALUE)).is_some());
    assert!(Identity::jwt("sub", &"v".repeat(MAX_VALUE + 1)).is_none());
    assert!(Identity::jwt(&"c".repeat(MAX_CLAIM + 1), "v").is_none());
    assert!(Identity::jwt("a=b", "c").is_none(), "or a=b, c and a, b=c would be the same text");
    assert!(Identity::jwt("sub", "a\nb").is_none());
    assert!(Identity::jwt("azp", "batch-7").unwrap().matches("batch-*"));
    assert!(!Identity::jwt("azp", "Batch-7").unwrap().matches("batch-*"));
}

proptest! {
    #[test]
    fn different_identities_have_different_texts(
        claim in "[a-z=.:]{0,4}", value in "[a-z=:]{0,4}", claim2 in "[a-z=.:]{0,4}", value2 in "[a-z=:]{0,4}",
    ) {
        let (one, two) = (Identity::jwt(&claim, &value), Identity::jwt(&claim2, &value2));
        if let (Some(one), Some(two)) = (one, two) {
            prop_assert_eq!(one == two, one.to_string() == two.to_string());
        }
    }

    #[test]
    fn what_parses_is_printed_the_same(text in "(spiffe:|jwt:)?\\PC{0,60}") {
        if let Some(identity) = Identity::parse(&text) {
            prop_assert_eq!(identity.to_string(), text);
        }
    }
}
