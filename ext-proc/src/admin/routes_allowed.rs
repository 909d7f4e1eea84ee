//! Groups of the admin API's routes, and the `allowed_routes` that a type of key stands for.

use crate::keys::RouteGroup;

impl RouteGroup {
    /// Of a route of the admin API, as the router writes it.
    pub(super) fn of(route: &str) -> Self {
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

    #[test]
    fn every_route_has_its_group() {
        for (route, group) in [
            ("/v1/models", RouteGroup::Llm),
            ("/models/{*id}", RouteGroup::Llm),
            ("/key/info", RouteGroup::Info),
            ("/v1/model/info", RouteGroup::Info),
            ("/key/generate", RouteGroup::Management),
            ("/team/new", RouteGroup::Management),
            ("/spend/logs", RouteGroup::Spend),
            ("/global/spend", RouteGroup::Spend),
            ("/health", RouteGroup::Other),
            ("/router/explain", RouteGroup::Other),
        ] {
            assert_eq!(RouteGroup::of(route), group, "{route}");
        }
    }
}
