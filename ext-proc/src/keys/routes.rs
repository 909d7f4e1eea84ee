//! `allowed_routes` of a key, and the groups of routes that it may name.

/// LiteLLM's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteGroup {
    /// Models are used, or listed.
    Llm,
    /// Something is described; management as well.
    Info,
    Management,
    Spend,
    Other,
}

impl RouteGroup {
    fn is_named(self, name: &str) -> bool {
        match name {
            "llm_api_routes" | "openai_routes" => self == Self::Llm,
            "info_routes" => self == Self::Info,
            "management_routes" => matches!(self, Self::Info | Self::Management),
            "spend_tracking_routes" => self == Self::Spend,
            _ => false,
        }
    }
}

/// May a key with these `allowed_routes` call `path` (without its query), which is of `group`? Empty: every path.
/// Entries are groups, exact paths, or `/path/*`.
#[must_use]
pub fn route_allowed(allowed: &[String], path: &str, group: RouteGroup) -> bool {
    let matches = |entry: &String| {
        group.is_named(entry)
            || entry == path
            || entry.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('/') && path.starts_with(prefix))
    };
    allowed.is_empty() || allowed.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str], path: &str, group: RouteGroup) -> bool {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        route_allowed(&entries, path, group)
    }

    #[test]
    fn no_list_allows_everything() {
        assert!(allowed(&[], "/key/delete", RouteGroup::Management));
    }

    #[test]
    fn groups_paths_and_prefixes() {
        use RouteGroup::{Info, Llm, Management, Other, Spend};
        assert!(allowed(&["llm_api_routes"], "/v1/models", Llm));
        assert!(allowed(&["openai_routes"], "/v1/chat/completions", Llm));
        assert!(!allowed(&["llm_api_routes"], "/key/info", Info));
        assert!(allowed(&["info_routes"], "/key/info", Info));
        assert!(!allowed(&["info_routes"], "/key/generate", Management));
        assert!(allowed(&["management_routes"], "/key/info", Info));
        assert!(allowed(&["management_routes"], "/team/new", Management));
        assert!(!allowed(&["management_routes"], "/v1/models", Llm));
        assert!(allowed(&["spend_tracking_routes"], "/spend/logs", Spend));
        assert!(!allowed(&["spend_tracking_routes"], "/health", Other));
        assert!(allowed(&["/key/info"], "/key/info", Info));
        assert!(!allowed(&["/key/info"], "/key/infos", Info));
        assert!(allowed(&["/key/*"], "/key/sk-1/regenerate", Management));
        assert!(!allowed(&["/key/*"], "/keys/x", Other));
        // A star alone, or in the middle of a word, is no pattern.
        assert!(!allowed(&["*"], "/key/info", Info));
        assert!(!allowed(&["/key*"], "/keys", Other));
    }
}
