//! `allowed_routes` of a key, and the groups of routes that it may name.

/// LiteLLM's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteGroup {
    /// Models are used, or listed.
    Llm,
    /// Something is described; management as well.
    Info,
    Management,
    Spend,
    Other,
}

impl RouteGroup {
    /// Of a route of the admin API, as the router writes it.
    pub(crate) fn of(route: &str) -> Self {
        const INFO: [&str; 16] = [
            "/key/info",
            "/v2/key/info",
            "/key/health",
            "/key/list",
            "/key/aliases",
            "/team/info",
            "/team/list",
            "/v2/team/list",
            "/team/available",
            "/user/info",
            "/v2/user/info",
            "/organization/list",
            "/organization/info",
            "/model/info",
            "/v2/model/info",
            "/model_group/info",
        ];
        match route {
            "/v1/models" | "/v1/models/{*id}" | "/models" | "/models/{*id}" => Self::Llm,
            "/v1/model/info" => Self::Info,
            _ if INFO.contains(&route) => Self::Info,
            _ if route.starts_with("/spend") || route.starts_with("/global") => Self::Spend,
            _ if route.starts_with("/health") || route.starts_with("/router") => Self::Other,
            _ => Self::Management,
        }
    }

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
pub(crate) fn allows(allowed: &[String], path: &str, group: RouteGroup) -> bool {
    let matches = |entry: &String| {
        group.is_named(entry)
            || entry == path
            || entry.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('/') && path.starts_with(prefix))
    };
    allowed.is_empty() || allowed.iter().any(matches)
}

/// `allowed_routes` that a `key_type` stands for; `None`: no such type.
pub(super) fn of_key_type(key_type: &str) -> Option<&'static [&'static str]> {
    match key_type {
        "llm_api" => Some(&["llm_api_routes"]),
        "management" => Some(&["management_routes"]),
        "read_only" => Some(&["info_routes"]),
        "default" => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str], path: &str) -> bool {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        allows(&entries, path, RouteGroup::of(path))
    }

    #[test]
    fn no_list_allows_everything() {
        assert!(allowed(&[], "/key/delete"));
    }

    #[test]
    fn groups_paths_and_prefixes() {
        assert!(allowed(&["llm_api_routes"], "/v1/models"));
        assert!(!allowed(&["llm_api_routes"], "/key/info"));
        assert!(allowed(&["info_routes"], "/key/info"));
        assert!(!allowed(&["info_routes"], "/key/generate"));
        assert!(allowed(&["management_routes"], "/key/info"));
        assert!(allowed(&["management_routes"], "/team/new"));
        assert!(!allowed(&["management_routes"], "/v1/models"));
        assert!(allowed(&["/key/info"], "/key/info"));
        assert!(!allowed(&["/key/info"], "/key/infos"));
        assert!(allowed(&["/key/*"], "/key/sk-1/regenerate"));
        assert!(!allowed(&["/key/*"], "/keys/x"));
        // A star alone, or in the middle of a word, is no pattern.
        assert!(!allowed(&["*"], "/key/info"));
        assert!(!allowed(&["/key*"], "/keys"));
    }
}
