//! Names that a key may take, and what the file calls the error classes.

use attache_llm::class::ErrorClass;

use crate::routing::{LatencyArgs, Strategy};

pub(super) const LATENCY: &str = "latency-based-routing";

/// `routing_strategy`.
pub(super) const STRATEGIES: &[&str] = &[
    "simple-shuffle",
    "usage-based-routing-v2",
    "usage-based-routing",
    "least-busy",
    LATENCY,
    "cost-based-routing",
    "provider-budget-routing",
];

/// The strategy of a name that [`STRATEGIES`] has.
pub(super) fn strategy(name: &str, args: LatencyArgs) -> Strategy {
    match name {
        "usage-based-routing-v2" | "usage-based-routing" => Strategy::UsageBased,
        "least-busy" => Strategy::LeastBusy,
        LATENCY => Strategy::Latency(args),
        "cost-based-routing" => Strategy::Cost,
        // LiteLLM's `provider-budget-routing` too: budgets hold under every strategy.
        _ => Strategy::SimpleShuffle,
    }
}

pub(super) const ENFORCE_LIMITS: &str = "enforce_model_rate_limits";
pub(super) const SESSION_AFFINITY: &str = "session_affinity";
pub(super) const DEPLOYMENT_AFFINITY: &str = "deployment_affinity";
pub(super) const PROMPT_CACHING: &str = "prompt_caching";

/// `optional_pre_call_checks`. `router_budget_limiting` changes nothing: budgets always hold.
pub(super) const PRE_CALL_CHECKS: &[&str] =
    &[ENFORCE_LIMITS, SESSION_AFFINITY, DEPLOYMENT_AFFINITY, PROMPT_CACHING, "router_budget_limiting"];
/// Checks of LiteLLM's that are not acted on.
pub(super) const OTHER_CHECKS: &[&str] = &[
    "responses_api_deployment_check",
    "forward_client_headers_by_model_group",
    "encrypted_content_affinity",
];

/// `readiness_requires`.
pub(super) const READINESS: &[&str] = &["envoy", "database", "redis", "deployments"];

/// LiteLLM's error types with their classes; the keys of policies are these with an ending.
const CLASSES: [(&str, ErrorClass); 8] = [
    ("BadRequestError", ErrorClass::BadRequest),
    ("AuthenticationError", ErrorClass::Authentication),
    ("NotFoundError", ErrorClass::NotFound),
    ("TimeoutError", ErrorClass::Timeout),
    ("RateLimitError", ErrorClass::RateLimit),
    ("ContentPolicyViolationError", ErrorClass::ContentPolicy),
    ("InternalServerError", ErrorClass::InternalServer),
    ("ServiceUnavailableError", ErrorClass::ServiceUnavailable),
];

/// Ending of the keys of a retry policy.
pub(super) const RETRIES: &str = "Retries";
/// Ending of the keys of an allowed-fails policy.
pub(super) const ALLOWED_FAILS: &str = "AllowedFails";

/// The class that a policy's key speaks of; `None` for `DefaultRetries`.
pub(super) fn class_of(key: &str, ending: &str) -> Option<ErrorClass> {
    let name = key.strip_suffix(ending)?;
    CLASSES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
}

/// `token_rate_limit_type`.
pub(super) const TOKENS: &[&str] = &["total", "input", "output"];

/// `budget_exceeded_status_code`.
pub(super) const BUDGET_STATUS: &[u16] = &[400, 422, 429];

/// `budget_mode`.
pub(super) const BUDGET_MODES: &[&str] = &["enforce", "audit"];

/// `user_header_mappings[].litellm_user_role`.
pub(super) const USER_HEADER_ROLES: &[&str] = &["customer", "internal_user"];
