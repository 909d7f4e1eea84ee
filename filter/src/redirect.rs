//! How a request comes back to the gate for another pass: the location of the redirect that Envoy follows inside.
//!
//! Only the call id travels in it; path, authority and scheme of the client are put back from the shared record, so that
//! nothing that a client wrote has to survive Envoy's parser of locations.

use attache_llm::contract::REPLAN_PARAM;

/// Path of the location. It must match the route of LLM requests: the route that a stream begins with sets the bound
/// of its body. No endpoint has this path.
pub const PATH: &str = "/v1/attache-replan";

/// Response header of an attempt whose status was changed to make Envoy go on: the status for the client, should Envoy
/// not do so. The gate removes it.
pub const STATUS_HEADER: &str = "x-attache-status";

/// `location` for another pass of a request.
#[must_use]
pub fn location(call_id: &str) -> String {
    format!("http://attache{PATH}?{REPLAN_PARAM}={call_id}")
}

/// Takes the parameter out of a path. `None` when it is not there; else the path without it, and its (last) value.
#[must_use]
pub fn split(path: &str) -> Option<(String, String)> {
    let (before, query) = path.split_once('?')?;
    if !query.contains(REPLAN_PARAM) {
        return None;
    }
    let mut call_id = None;
    let mut rest = String::with_capacity(path.len());
    rest.push_str(before);
    let mut separator = '?';
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name == REPLAN_PARAM {
            call_id = Some(value.to_owned());
            continue;
        }
        rest.push(separator);
        rest.push_str(pair);
        separator = '&';
    }
    Some((rest, call_id?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_gives_its_call_back() {
        let location = location("abc-1");
        let path = location.strip_prefix("http://attache").unwrap();
        assert_eq!(split(path), Some((PATH.into(), "abc-1".into())));
        assert_eq!(attache_llm::path::Endpoint::parse(PATH), None);
        assert!(!attache_llm::path::is_admin(PATH));
    }

    #[test]
    fn the_parameter_goes_and_the_others_stay_as_they_are() {
        for (path, expected) in [
            ("/v1/chat/completions", None),
            ("/v1/chat/completions?a=1", None),
            ("/v1/chat/completions?my-attache-call=1", None),
            ("/p?attache-call=x", Some(("/p", "x"))),
            ("/p?attache-call", Some(("/p", ""))),
            ("/p?a=%2F&attache-call=x&b", Some(("/p?a=%2F&b", "x"))),
            ("/p?attache-call=x&attache-call=y&b=1", Some(("/p?b=1", "y"))),
        ] {
            let expected = expected.map(|(path, id): (&str, &str)| (path.to_owned(), id.to_owned()));
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
