//! How the gate and the adapter render an error of their own.

use attache_llm::error::ApiError;

/// Headers of an error reply.
#[must_use]
pub fn headers(error: &ApiError, call_id: &str) -> Vec<(&'static str, String)> {
    let mut headers = error.headers();
    if !call_id.is_empty() {
        headers.push(("x-litellm-call-id", call_id.to_owned()));
    }
    if error.status == 401 {
        headers.push(("www-authenticate", "Bearer".to_owned()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_says_what_http_asks_for() {
        assert!(headers(&ApiError::missing_key(), "id-1").contains(&("x-litellm-call-id", "id-1".into())));
        assert!(headers(&ApiError::missing_key(), "").contains(&("www-authenticate", "Bearer".into())));
        let refused = ApiError::method_not_allowed("PUT", &["GET", "POST"]);
        assert!(headers(&refused, "").contains(&("allow", "GET, POST".into())));
        assert!(headers(&ApiError::auth_unavailable(), "").contains(&("retry-after", "1".into())));
    }
}
