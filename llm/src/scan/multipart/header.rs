//! Headers of a form and its parts, as browsers and SDKs write them.

/// Longest boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;

/// The boundary in a `content-type` header. `None`: it is no multipart form. `Some(None)`: it is one without a usable
/// boundary.
#[must_use]
pub fn boundary(content_type: &str) -> Option<Option<String>> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let found = parameter(parameters, "boundary");
    let usable = |text: &String| {
        (1..=MAX_BOUNDARY).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
            && !text.ends_with(' ')
    };
    Some(found.filter(usable))
}

/// What the header of a part says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) file: bool,
}

/// Name of the part with these headers.
pub(super) fn named(headers: &[u8]) -> Option<Named> {
    let headers = String::from_utf8_lossy(headers);
    let disposition = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (kind, parameters) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let name = parameter(parameters, "name")?;
    let file = ["filename", "filename*"].into_iter().any(|name| parameter(parameters, name).is_some());
    Some(Named { name, file })
}

/// Value of a parameter in `a=b; c="d"`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                (value.trim().to_owned(), after)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// The text up to the closing quote, and what follows that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at.checked_add(1)?..)?)),
            // Only a quote and the backslash itself: browsers write paths of Windows as they are.
            '\\' => match chars.clone().next() {
                Some((_, escaped @ ('"' | '\\'))) => {
                    chars.next();
                    value.push(escaped);
                }
                _ => value.push(c),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        for (header, expected) in [
            ("multipart/form-data; boundary=abc", Some(Some("abc"))),
            ("Multipart/Form-Data;charset=utf-8; BOUNDARY=\"a b\\\"c\"", Some(Some("a b\"c"))),
            ("multipart/form-data; boundary=abc; charset=x", Some(Some("abc"))),
            ("multipart/form-data", Some(None)),
            ("multipart/form-data; boundary=", Some(None)),
            ("multipart/form-data; boundary=\"a", Some(None)),
            ("multipart/form-data; boundary=\u{e9}", Some(None)),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(boundary(header), expected.map(|text| text.map(str::to_owned)), "{header}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))), Some(None));
    }

    #[test]
    fn names_of_parts() {
        let of = |text: &str| named(text.as_bytes()).map(|named| (named.name, named.file));
        for (headers, expected) in [
            ("Content-Disposition: form-data; name=\"model\"", Some(("model", false))),
            ("content-type: text/plain\r\ncontent-disposition:form-data; name=model", Some(("model", false))),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"a;b.wav\"", Some(("file", true))),
            (
                "Content-Disposition: form-data; filename=\"C:\\\\x\\y\"; name=\"image[]\"",
                Some(("image[]", true)),
            ),
            ("Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''a", Some(("f", true))),
            ("Content-Disposition: form-data; name=\"a\\\"b\"", Some(("a\"b", false))),
            ("Content-Disposition: attachment; name=\"a\"", None),
            ("Content-Disposition: form-data", None),
            ("Content-Type: x", None),
            ("", None),
        ] {
            assert_eq!(of(headers), expected.map(|(name, file)| (name.to_owned(), file)), "{headers}");
        }
    }
}
