//! Model patterns: `openai/*` serves every name that begins so, and `*` in the deployment's model takes what it stood for.

/// Is this name a pattern?
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// What each `*` of `pattern` stands for in `name`; `None` when it does not match. Each `*` takes at least one
/// character and as few as possible, the last one the rest.
#[must_use]
pub fn captures<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split('*');
    let mut rest = name.strip_prefix(parts.next()?)?;
    let mut found = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() {
            rest.len().checked_sub(part.len()).filter(|_| rest.ends_with(part))?
        } else {
            // At least one character for the star itself.
            let first = rest.chars().next()?.len_utf8();
            first.checked_add(rest.get(first..)?.find(part)?)?
        };
        let taken = rest.get(..end).filter(|taken| !taken.is_empty())?;
        found.push(taken);
        rest = rest.get(end.checked_add(part.len())?..)?;
    }
    rest.is_empty().then_some(found)
}

/// Does `pattern` match `name`?
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    captures(pattern, name).is_some()
}

/// The deployment's model for a request for `name`: each `*` of `template` becomes what the star of `pattern` stood for.
/// A template with more stars than the pattern gets the whole name (LiteLLM's rule).
#[must_use]
pub fn substitute(template: &str, pattern: &str, name: &str) -> Option<String> {
    let found = captures(pattern, name)?;
    let stars = template.matches('*').count();
    if stars > found.len() {
        return Some(name.to_owned());
    }
    let mut found = found.into_iter();
    let mut out = String::with_capacity(template.len().saturating_add(name.len()));
    for (index, part) in template.split('*').enumerate() {
        if index > 0 {
            out.push_str(found.next().unwrap_or_default());
        }
        out.push_str(part);
    }
    Some(out)
}

/// Order of patterns: the more they say, the earlier they are tried. Longer text first, then fewer stars.
#[must_use]
pub fn specificity(pattern: &str) -> (usize, std::cmp::Reverse<usize>) {
    let stars = pattern.matches('*').count();
    (pattern.len().saturating_sub(stars), std::cmp::Reverse(stars))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_something() {
        assert_eq!(captures("openai/*", "openai/gpt-4o"), Some(vec!["gpt-4o"]));
        assert_eq!(captures("openai/*", "openai/"), None);
        assert_eq!(captures("*", "anything/at-all"), Some(vec!["anything/at-all"]));
        assert_eq!(captures("a-*-z", "a-b-c-z"), Some(vec!["b-c"]));
        assert_eq!(captures("*/*", "x/y/z"), Some(vec!["x", "y/z"]));
        assert_eq!(captures("plain", "plain"), Some(vec![]));
        assert_eq!(captures("plain", "plainer"), None);
        assert_eq!(captures("é*é", "ééé"), Some(vec!["é"]));
    }

    #[test]
    fn the_template_takes_what_the_star_stood_for() {
        let sub = |template, pattern, name| substitute(template, pattern, name);
        assert_eq!(sub("*", "openai/*", "openai/gpt-4o").as_deref(), Some("gpt-4o"));
        assert_eq!(sub("ft:*:acme", "mine/*", "mine/x").as_deref(), Some("ft:x:acme"));
        assert_eq!(sub("gpt-4o", "any-*", "any-thing").as_deref(), Some("gpt-4o"));
        assert_eq!(sub("*-*", "a/*", "a/b").as_deref(), Some("a/b"));
        assert_eq!(sub("*", "openai/*", "azure/x"), None);
    }

    #[test]
    fn the_longer_pattern_is_more_specific() {
        let mut patterns = ["*", "openai/*", "openai/gpt-*", "*/gpt-*"];
        patterns.sort_by_key(|pattern| std::cmp::Reverse(specificity(pattern)));
        assert_eq!(patterns, ["openai/gpt-*", "openai/*", "*/gpt-*", "*"]);
    }
}
