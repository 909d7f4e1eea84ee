use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn members_and_their_ranges() {
    let data = br#" { "a" : {"b":"}\""} , "\u0062":[1, "]"],"c":-1.5e3 } "#;
    let found = members(data).unwrap();
    let pairs: Vec<_> = found
        .iter()
        .map(|member| (&*member.key, std::str::from_utf8(&data[member.value.clone()]).unwrap()))
        .collect();
    assert_eq!(pairs, [("a", r#"{"b":"}\""}"#), ("b", r#"[1, "]"]"#), ("c", "-1.5e3")]);
    assert_eq!(members(b"{}"), Some(Vec::new()));
    assert_eq!(elements(b" [1, {} ,\"x\"] ").map(|found| found.len()), Some(3));
    assert_eq!(elements(b"[]"), Some(Vec::new()));
}

#[test]
fn broken_json_is_none() {
    for data in
        ["", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":\"x}", "{\"a\":[}", "[]", "{} x", "{\"a\":1,}"]
    {
        assert_eq!(members(data.as_bytes()), None, "{data}");
    }
}

#[test]
fn text_lengths() {
    for (raw, length) in
        [(r#""abc""#, 3), (r#""a\n\"""#, 3), (r#""\u00e9\u4e2d""#, 4), (r#""\ud83d\ude00""#, 4), ("null", 0)]
    {
        assert_eq!(text_len(raw.as_bytes()), length, "{raw}");
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), text_bytes in r#"[{}\[\]",:\\u0-9a-e \n]{0,80}"#) {
        for data in [bytes.as_slice(), text_bytes.as_bytes()] {
            let _ = (members(data), elements(data), text(data), text_len(data));
        }
        if let Ok(Value::Object(object)) = serde_json::from_str::<Value>(&text_bytes) {
            let found = members(text_bytes.as_bytes()).unwrap();
            prop_assert!(found.len() >= object.len());
            for member in found.iter().rev().take(1) {
                let value = serde_json::from_slice::<Value>(&text_bytes.as_bytes()[member.value.clone()]).unwrap();
                prop_assert_eq!(&object[&*member.key], &value);
            }
        }
    }
}
