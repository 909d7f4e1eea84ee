//! No key leaves in an error's text.

/// Replaces what looks like an API key (`sk-` and at least 8 more key characters) by `sk-...last4`, and the token of
/// `Bearer ...` and Google's keys likewise. Text without one is returned as it is.
#[must_use]
pub fn mask_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, mark, after)) = next_secret(rest) {
        let is_key =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '/' | '=');
        let length = after.find(|c| !is_key(c)).unwrap_or(after.len());
        // The full stop of a sentence is not part of the key.
        let length = after.get(..length).map_or(length, |token| token.trim_end_matches('.').len());
        let (token, tail) = after.split_at_checked(length).unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(mark);
        let in_word = before.ends_with(|c: char| c.is_ascii_alphanumeric());
        if is_secret(token, in_word || mark.ends_with(' ')) {
            out.push_str("...");
            out.push_str(token.get(token.len().saturating_sub(4)..).unwrap_or_default());
        } else {
            out.push_str(token);
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// `doubtful`: what stands before is also found in prose (`task-force`, `Bearer authentication`), so that only what
/// has a digit, or is very long, is a key.
fn is_secret(token: &str, doubtful: bool) -> bool {
    let digit = token.bytes().any(|byte| byte.is_ascii_digit());
    token.len() >= 8 && (!doubtful || digit || token.len() >= 24)
}

/// Text before the next mark of a secret, the mark itself, and what follows it.
fn next_secret(text: &str) -> Option<(&str, &str, &str)> {
    const MARKS: [&str; 4] = ["sk-", "Bearer ", "bearer ", "AIza"];
    let (at, mark) = MARKS.iter().filter_map(|mark| text.find(mark).map(|at| (at, *mark))).min()?;
    let before = text.get(..at)?;
    let end = at.checked_add(mark.len())?;
    Some((before, text.get(at..end)?, text.get(end..)?))
}
