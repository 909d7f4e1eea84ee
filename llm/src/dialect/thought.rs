//! Gemini's thought signatures on their way through clients that have no place for them.
//!
//! Gemini 3 refuses a replayed function call without the `thoughtSignature` that came with it. A client gives back the id
//! of a call in every dialect, and nothing else for sure: so the id carries the signature ([`join`], [`split`]), in letters
//! that every dialect allows in ids (`[a-zA-Z0-9_-]`). Signatures of text and thoughts travel where Anthropic's do, marked
//! ([`mark`], [`own`]), so that neither provider is sent the other's.

/// Between an id and the signature: LiteLLM's, so that its conversations go on here.
const MARK: &str = "__thought__";
/// The same, before a signature that is not plain base64: its bytes, in hexadecimal.
const HEX_MARK: &str = "__thoughtx__";
/// Before a signature of Gemini's in a thinking block.
const GEMINI: &str = "gemini#";

/// The id of a call with its signature in it. An id that carries one already stays as it is.
#[must_use]
pub fn join(id: &str, signature: Option<&str>) -> String {
    let carries = id.contains(MARK) || id.contains(HEX_MARK);
    let Some(signature) = signature.filter(|signature| !signature.is_empty() && !carries) else {
        return id.to_owned();
    };
    if is_base64(signature) {
        let letter = |c: char| match c {
            '+' => '-',
            '/' => '_',
            other => other,
        };
        let letters: String = signature.trim_end_matches('=').chars().map(letter).collect();
        return format!("{id}{MARK}{letters}");
    }
    let hex: String = signature.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{id}{HEX_MARK}{hex}")
}

/// The id of a call, and the signature that was in it.
#[must_use]
pub fn split(id: &str) -> (&str, Option<String>) {
    if let Some((id, letters)) = id.split_once(MARK) {
        let letter = |c: char| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        };
        let mut signature: String = letters.chars().map(letter).collect();
        while !signature.len().is_multiple_of(4) {
            signature.push('=');
        }
        return (id, Some(signature));
    }
    match id.split_once(HEX_MARK) {
        Some((id, hex)) => (id, unhex(hex)),
        None => (id, None),
    }
}

/// A signature of Gemini's, for a thinking block.
#[must_use]
pub fn mark(signature: &str) -> String {
    format!("{GEMINI}{signature}")
}

/// Gemini's own signature of a thinking block; `None` when it is another provider's.
#[must_use]
pub fn own(signature: &str) -> Option<&str> {
    signature.strip_prefix(GEMINI)
}

fn is_base64(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    let padding = text.len().saturating_sub(letters.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // A letter too many stands for no byte, and the padding must be what `split` adds.
    text.len().is_multiple_of(4) && padding < 3 && letters.bytes().all(plain)
}

fn unhex(hex: &str) -> Option<String> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    String::from_utf8(bytes.filter(|_| rest.is_empty())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back_and_forth(signature: &str) {
        let id = join("call_1", Some(signature));
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{id}");
        assert_eq!(split(&id), ("call_1", Some(signature.to_owned())), "{id}");
    }

    #[test]
    fn ids_carry_signatures_and_give_them_back() {
        for signature in ["Cg==", "Cgk=", "CgkA", "+/+/", "ab-_", "abc", "h\u{e9} \"x\"", "a===", "a=b="] {
            back_and_forth(signature);
        }
        assert_eq!(join("call_1", None), "call_1");
        assert_eq!(join("call_1", Some("")), "call_1");
        let once = join("call_1", Some("Cg=="));
        assert_eq!(join(&once, Some("Cg==")), once);
        assert_eq!(split("toolu_01"), ("toolu_01", None));
    }

    #[test]
    fn ids_of_litellm_are_understood() {
        assert_eq!(split("call_9__thought__a+b/cQ=="), ("call_9", Some("a+b/cQ==".to_owned())));
        assert_eq!(split("call_9__thoughtx__zz"), ("call_9", None));
    }

    #[test]
    fn thinking_blocks_are_told_apart() {
        assert_eq!(own(&mark("Cg==")), Some("Cg=="));
        assert_eq!(own("EqQBCkgIARABGAIiQ"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_signature(signature in "\\PC{1,40}") {
            back_and_forth(&signature);
        }
    }
}
