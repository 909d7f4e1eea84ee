//! Which models a key may use, from its `models` list (LiteLLM's semantics).

/// May a key with this list use `model`? An empty list allows everything; an entry is a model group, a wildcard
/// (`openai/*`), or one of LiteLLM's special names.
///
/// `all-team-models` means every model until teams carry a list of their own.
#[must_use]
pub fn allows(models: &[String], model: &str) -> bool {
    models.is_empty() || models.iter().any(|entry| entry_allows(entry, model))
}

fn entry_allows(entry: &str, model: &str) -> bool {
    match entry {
        "*" | "all-proxy-models" | "all-team-models" => true,
        "no-default-models" => false,
        _ => match entry.split_once('*') {
            None => entry == model,
            Some((prefix, suffix)) => {
                model.len() >= prefix.len() + suffix.len()
                    && model.starts_with(prefix)
                    && model.ends_with(suffix)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::allows;

    #[test]
    fn lists_wildcards_and_special_names() {
        let list = |entries: &[&str]| entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>();
        assert!(allows(&[], "gpt-4o"));
        assert!(allows(&list(&["gpt-4o"]), "gpt-4o"));
        assert!(!allows(&list(&["gpt-4o"]), "gpt-4o-mini"));
        assert!(allows(&list(&["x", "openai/*"]), "openai/gpt-4o"));
        assert!(!allows(&list(&["openai/*"]), "azure/gpt-4o"));
        assert!(allows(&list(&["all-proxy-models"]), "anything"));
        assert!(!allows(&list(&["no-default-models"]), "gpt-4o"));
        assert!(!allows(&list(&["ab*ba"]), "aba"), "prefix and suffix may not overlap");
    }
}
