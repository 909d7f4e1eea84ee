//! Error classes: what a failed attempt means for retries, fallbacks and cooldowns.

use serde::{Deserialize, Serialize};

/// Class of a failure. `retry_policy` and `allowed_fails_policy` speak of these (LiteLLM's names in brackets).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// 400, 413, 422: the request itself is wrong (`BadRequestError`).
    BadRequest,
    /// 401, 403: the gateway's own credential or access (`AuthenticationError`).
    Authentication,
    /// 404: the provider does not know the model or deployment (`NotFoundError`).
    NotFound,
    /// 408, 504, or no answer within the limit of an attempt (`TimeoutError`).
    Timeout,
    /// 425, 429 (`RateLimitError`).
    RateLimit,
    /// The prompt is too long for the model (`ContextWindowExceededError`).
    ContextWindow,
    /// The provider refused what was asked (`ContentPolicyViolationError`).
    ContentPolicy,
    /// 424 (Bedrock: the model failed), 500, and every other 5xx (`InternalServerError`).
    InternalServer,
    /// 502, 503, 529, refused and reset connections, empty answers (`ServiceUnavailableError`).
    ServiceUnavailable,
}

impl ErrorClass {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::Authentication,
        Self::NotFound,
        Self::Timeout,
        Self::RateLimit,
        Self::ContextWindow,
        Self::ContentPolicy,
        Self::InternalServer,
        Self::ServiceUnavailable,
    ];

    /// By status alone.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Authentication,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            425 | 429 => Self::RateLimit,
            502 | 503 | 529 => Self::ServiceUnavailable,
            0 | 424 | 500..=599 => Self::InternalServer,
            _ => Self::BadRequest,
        }
    }

    /// Would another deployment do better? The others are the request's own fault: only a list made for them
    /// (`context_window_fallbacks`, `content_policy_fallbacks`) or a `retry_policy` helps.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        !matches!(self, Self::BadRequest | Self::ContextWindow | Self::ContentPolicy)
    }

    /// Snake-case name, for statistics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Authentication => "authentication",
            Self::NotFound => "not_found",
            Self::Timeout => "timeout",
            Self::RateLimit => "rate_limit",
            Self::ContextWindow => "context_window",
            Self::ContentPolicy => "content_policy",
            Self::InternalServer => "internal_server",
            Self::ServiceUnavailable => "service_unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire() {
        for class in ErrorClass::ALL {
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{}\"", class.name()));
        }
    }

    #[test]
    fn only_what_another_deployment_could_do_better_is_retriable() {
        let retriable = |status| ErrorClass::of_status(status).is_retriable();
        assert!([401, 403, 404, 408, 424, 425, 429, 500, 502, 503, 504, 529].into_iter().all(retriable));
        assert!(![400, 405, 409, 413, 415, 422].into_iter().any(retriable));
    }
}
