use proptest::prelude::*;

use super::*;

fn of(map: &[(&str, &str)]) -> Headers {
    Headers::from(map)
}

#[test]
fn headers_are_found() {
    let headers = of(&[(":path", "/v1"), ("empty", ""), ("a", "1"), ("a", "2"), ("ab", "3")]);
    assert_eq!(headers.find(":path"), Some("/v1"));
    assert_eq!((headers.find("empty"), headers.has("empty")), (Some(""), true));
    assert_eq!((headers.find("a"), headers.values("a").count()), (Some("1"), 2));
    assert_eq!((headers.find("b"), headers.has("b")), (None, false));
    let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [":path", "empty", "a", "a", "ab"]);
}

#[test]
fn a_second_value_is_another_one() {
    let headers = of(&[("a", "1"), ("b", "1"), ("b", "2"), ("c", "1"), ("c", "1")]);
    assert!(headers.is_only("a", "1"));
    for (name, value) in [("a", "2"), ("b", "1"), ("b", "2"), ("c", "1"), ("d", "1"), ("d", "")] {
        assert!(!headers.is_only(name, value), "{name}: {value}");
    }
}

#[test]
fn bytes_that_are_no_text_stay_bytes() {
    let map: &[(&[u8], &[u8])] = &[(b"a", &[0xff, 0xfe]), (&[0xff], b"x"), (b"b", b"y")];
    let headers = Headers::from(map);
    assert_eq!((headers.find("a"), headers.value("a")), (None, Some(&[0xff, 0xfe][..])));
    assert_eq!(headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn edited_headers_are_there_once() {
    let headers = of(&[(":status", "200"), ("a", "1"), ("b", "2"), ("a", "3"), ("x-own", "4")]);
    let mut edited = headers.edit();
    edited.retain(|name| !name.starts_with(b"x-"));
    edited.set("a", "5");
    edited.set("c", "6");
    edited.set("c", "7");
    let wanted = [(":status", "200"), ("a", "5"), ("b", "2"), ("c", "7")];
    assert_eq!(edited.as_slice(), wanted.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    assert_eq!(Headers::from(edited.as_slice()), of(&wanted));
}

proptest! {
    #[test]
    fn any_map_comes_back(map in prop::collection::vec(("[a-z:-]{1,8}", prop::collection::vec(any::<u8>(), 0..20)), 0..20)) {
        let headers = Headers::from(map.as_slice());
        let back: Vec<_> = headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        prop_assert_eq!(back, map);
    }

    #[test]
    fn nothing_that_the_host_could_say_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0_u32..20) {
        let with_count = [&count.to_le_bytes()[..], &bytes].concat();
        for bytes in [bytes, with_count] {
            let headers = Headers::new(bytes);
            headers.iter().for_each(drop);
            let _ = headers.find("a");
        }
    }
}
