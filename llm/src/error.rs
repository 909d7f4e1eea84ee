//! Errors with blame, retry flag, a client-safe message and an internal one.

mod mask;
mod shape;

use std::borrow::Cow;

pub use mask::mask_secrets;
pub use shape::{ErrorShape, anthropic_kind};

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Gateway,
    Upstream,
}

/// An error on its way to a client. Made where the fault is found, rendered once at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    /// OpenAI's `error.type`.
    pub kind: Cow<'static, str>,
    /// OpenAI's `error.code`; LiteLLM always puts the status here, as a string: `None` renders that.
    pub code: Option<Cow<'static, str>>,
    pub param: Option<Cow<'static, str>>,
    /// Safe to show to the client: no secret, no upstream address, no other tenant.
    pub message: String,
    /// For the log only.
    pub internal: Option<String>,
    pub blame: Blame,
    /// May the client try the same request again?
    pub retriable: bool,
    /// Seconds for `retry-after`.
    pub retry_after_s: Option<u64>,
    /// The limit that refused it: more fields of the error object.
    pub limit: Option<Box<LimitHit>>,
    /// Methods that the path takes, where another one was used.
    pub allow: &'static [&'static str],
}

/// A limit or budget without room, as it is told beside the message so that nobody has to read that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitHit {
    /// LiteLLM's word: `api_key`, `team`, `model_per_key`, ...
    pub entity_type: Cow<'static, str>,
    /// As clients may see it: keys by alias and `sk-...last4`.
    pub entity_id: String,
    pub model: Option<String>,
    /// The setting: `rpm_limit`, `max_budget`, ...
    pub limit_type: Cow<'static, str>,
    /// `minute`, `day`, `lifetime`, ...
    pub window: Cow<'static, str>,
    /// Requests, tokens or nano-dollars.
    pub limit: u64,
    /// What is on its counter, in the same unit.
    pub used: u64,
    /// `limit` and `used` are nano-dollars; they are shown as dollars.
    pub money: bool,
    /// `2026-11-25 04:35:00 UTC`.
    pub reset_at: Option<String>,
    /// Clients' own retries are no use: `x-should-retry: false`.
    pub no_retry: bool,
}

impl LimitHit {
    /// A number of the limit's unit in JSON: dollars for money.
    fn shown(&self, amount: u64) -> serde_json::Value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact up to nine million dollars, and only to be read"
        )]
        if self.money { (amount as f64 / 1e9).into() } else { amount.into() }
    }
}

impl ApiError {
    /// An error of the client's making that another try will not cure.
    fn client(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: Cow::Borrowed(kind),
            code: None,
            param: None,
            message: message.into(),
            internal: None,
            blame: Blame::Client,
            retriable: false,
            retry_after_s: None,
            limit: None,
            allow: &[],
        }
    }

    fn gateway(status: u16, message: impl Into<String>) -> Self {
        Self {
            blame: Blame::Gateway,
            retriable: true,
            ..Self::client(status, "internal_server_error", message)
        }
    }

    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(Cow::Borrowed(code));
        self
    }

    /// Sets the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Adds what only the log may say.
    #[must_use]
    pub fn with_internal(mut self, internal: impl Into<String>) -> Self {
        self.internal = Some(internal.into());
        self
    }

    /// Sets `retry-after`, seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// 400: the request itself is wrong.
    #[must_use]
    pub fn invalid_request(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { param: param.map(Cow::Borrowed), ..Self::client(400, "invalid_request_error", message) }
    }

    /// 401: no key at all.
    #[must_use]
    pub fn missing_key() -> Self {
        Self::client(401, "auth_error", "Authentication Error, No api key passed in.")
            .with_code("invalid_api_key")
    }

    /// 401: no key, and nobody knows what Envoy verified of the caller. `who` may be shown: it is the caller's own.
    #[must_use]
    pub fn unknown_identity(who: &str) -> Self {
        let message = format!(
            "Authentication Error, No api key passed in, and the verified identity '{}' of the caller is not known \
             here.",
            shown(who)
        );
        Self::client(401, "auth_error", message).with_code("invalid_api_key")
    }

    /// 401: a key header that holds no key.
    #[must_use]
    pub fn malformed_key() -> Self {
        let message = "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix and starts with 'sk-'.";
        Self::client(401, "auth_error", message).with_code("invalid_api_key")
    }

    /// 401: nobody knows this key.
    #[must_use]
    pub fn unknown_key() -> Self {
        Self::client(401, "token_not_found_in_db", "Authentication Error, Invalid API key provided.")
            .with_param("key")
            .with_code("invalid_api_key")
    }

    /// 401: the key's time is over. `name` is its shown form (`sk-...abcd`).
    #[must_use]
    pub fn expired_key(name: &str) -> Self {
        Self::client(401, "expired_key", "Authentication Error - Expired Key.")
            .with_param(mask_secrets(name))
            .with_code("invalid_api_key")
    }

    /// 401: the key is blocked.
    #[must_use]
    pub fn blocked_key() -> Self {
        let message = "Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin.";
        Self::client(401, "auth_error", message).with_code("invalid_api_key")
    }

    /// 401: `what` (`Team`, `User`, ...) named `id`, in whose name the request is made, is blocked.
    #[must_use]
    pub fn blocked_entity(what: &str, id: &str) -> Self {
        let message =
            format!("Authentication Error, {what}={} is blocked. Ask an admin to unblock it.", shown(id));
        Self::client(401, "auth_error", message).with_code("blocked")
    }

    /// 400: the request must name its end user (`enforce_user_param`).
    #[must_use]
    pub fn user_required() -> Self {
        Self::invalid_request("The request must name its end user in `user`.", Some("user"))
    }

    /// 403: this key may not use this model (or it does not exist: a key learns no more than that).
    #[must_use]
    pub fn model_access_denied(model: &str) -> Self {
        let message = format!(
            "The requested model '{}' is not available for this API key, or the model name is invalid. Check the \
             models available to you and try again.",
            shown(model)
        );
        Self::client(403, "key_model_access_denied", message).with_param("model")
    }

    /// 403: an admin route asked for by a key that is no admin's.
    #[must_use]
    pub fn admin_only(route: &str) -> Self {
        let message = format!("Only the master key may use {}.", shown(route));
        Self::client(403, "permission_error", message)
    }

    /// 404: no such model group.
    #[must_use]
    pub fn model_not_found(model: &str) -> Self {
        let message = format!(
            "The model `{}` does not exist or you do not have access to it. Call `/v1/models` to view available \
             models for your key.",
            shown(model)
        );
        Self::client(404, "invalid_request_error", message).with_param("model").with_code("model_not_found")
    }

    /// 404: no such route.
    #[must_use]
    pub fn unknown_route(method: &str, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let message = format!("Invalid URL ({} {})", shown(method), shown(path));
        Self::client(404, "invalid_request_error", message).with_code("unknown_url")
    }

    /// 405: the route exists, for another method.
    #[must_use]
    pub fn method_not_allowed(method: &str, allow: &'static [&'static str]) -> Self {
        let message = format!("Not allowed to {} this endpoint. Use {}.", shown(method), allow.join(" or "));
        Self { allow, ..Self::client(405, "invalid_request_error", message) }.with_code("method_not_allowed")
    }

    /// 413: the body is larger than `limit` bytes.
    #[must_use]
    pub fn body_too_large(limit: u64) -> Self {
        let message = format!("Request body is larger than the limit of {limit} bytes.");
        Self::client(413, "invalid_request_error", message).with_code("request_too_large")
    }

    /// 429: a limit is used up.
    #[must_use]
    pub fn rate_limited(message: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retriable: true, ..Self::client(429, "throttling_error", message) }
            .with_retry_after(retry_after_s)
    }

    /// 429: a limit of the caller has no room.
    #[must_use]
    pub fn limit_reached(message: impl Into<String>, retry_after_s: u64, hit: LimitHit) -> Self {
        let retriable = !hit.no_retry;
        Self { limit: Some(Box::new(hit)), retriable, ..Self::rate_limited(message, retry_after_s) }
    }

    /// A budget of the caller is used up: 400, 422 or 429 as configured; `retry_after_s`: seconds until its window ends, if
    /// it does.
    #[must_use]
    pub fn budget_exceeded(
        status: u16,
        message: impl Into<String>,
        retry_after_s: Option<u64>,
        hit: LimitHit,
    ) -> Self {
        Self { limit: Some(Box::new(hit)), retry_after_s, ..Self::client(status, "budget_exceeded", message) }
    }

    /// 429: every deployment of the model rests after failures (LiteLLM's status for it).
    #[must_use]
    pub fn all_in_cooldown(model: &str, retry_after_s: u64) -> Self {
        let message = format!(
            "No deployments available for selected model, Try again in {retry_after_s} seconds. All deployments for \
             selected model are in cooldown. Passed model={}.",
            shown(model)
        );
        Self {
            retriable: true,
            blame: Blame::Upstream,
            ..Self::client(429, "all_deployments_in_cooldown", message)
        }
        .with_retry_after(retry_after_s)
    }

    /// 400: no deployment of the model takes a prompt so long. `tokens`: the estimate; `limit`: the largest context
    /// window among the deployments that the key may use, tokens.
    #[must_use]
    pub fn context_window_exceeded(model: &str, tokens: u64, limit: u64) -> Self {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your messages resulted in about \
             {tokens} tokens. Please reduce the length of the messages. Passed model={}.",
            shown(model)
        );
        Self::invalid_request(message, Some("messages")).with_code("context_length_exceeded")
    }

    /// 429: every usable deployment of the group is at its rpm, tpm or parallel limit; `seconds` until the first has
    /// room. Says nothing of which deployments there are (LiteLLM lists them all, with their use).
    #[must_use]
    pub fn no_room(group: &str, seconds: u64) -> Self {
        let message = format!(
            "No deployments available for selected model, Try again in {seconds} seconds. All deployments for \
             selected model are at their limits. Passed model={}.",
            shown(group)
        );
        Self::rate_limited(message, seconds).with_code("all_deployments_at_limit")
    }

    /// 429: the budget of every usable deployment (its own or its provider's) is used up; `what` is the group as the
    /// client named it, `seconds` those until the first window ends. Whose budget it was is for
    /// [`Self::with_internal`]: it is the operator's affair.
    #[must_use]
    pub fn budget_exhausted(what: &str, seconds: u64) -> Self {
        let message = format!(
            "No deployments available for selected model, Try again in {seconds} seconds. Crossed budget. Passed \
             model={}.",
            shown(what)
        );
        Self { retriable: true, ..Self::client(429, "rate_limit_error", message) }
            .with_code("budget_exhausted")
            .with_retry_after(seconds)
    }

    /// 400: nobody knows what the model costs, and the operator serves only what is priced.
    #[must_use]
    pub fn model_without_pricing(model: &str) -> Self {
        let message = format!(
            "The model '{}' has no price, and this gateway serves only models whose price is known. Ask its operator.",
            shown(model)
        );
        Self::client(400, "invalid_request_error", message)
            .with_param("model")
            .with_code("model_without_pricing")
    }

    /// 401 (LiteLLM's status and words): no deployment of the model serves the request's tags, and none is the
    /// default. `tags` are the request's own.
    #[must_use]
    pub fn no_tag_match(model: &str, tags: &[String]) -> Self {
        let message = format!(
            "Not allowed to access model due to tags configuration. Passed model={} and tags=[{}].",
            shown(model),
            shown(&tags.join(", "))
        );
        Self::client(401, "authentication_error", message).with_param("tags").with_code("no_tag_match")
    }

    /// 403: `x-attache-route: explain` with a key that is no admin's: the answer names every deployment.
    #[must_use]
    pub fn explain_forbidden() -> Self {
        let message = "Only the master key may ask for an explanation of the route.";
        Self::client(403, "permission_error", message).with_param("x-attache-route")
    }

    /// 503: the plans that one request may have are used up, and none of their deployments answered.
    #[must_use]
    pub fn too_many_passes(model: &str, passes: u32) -> Self {
        Self::no_upstream(model).with_internal(format!("no answer after {passes} plans"))
    }

    /// 503: the sidecar does not answer, so nobody can say whether the request may pass.
    #[must_use]
    pub fn sidecar_unavailable() -> Self {
        Self::gateway(503, "The gateway cannot decide on requests right now. Try again shortly.")
            .with_retry_after(1)
    }

    /// 503: key lookups are impossible and this key is not cached.
    #[must_use]
    pub fn auth_unavailable() -> Self {
        Self::gateway(503, "API keys cannot be verified right now. Try again shortly.").with_retry_after(1)
    }

    /// 503: nobody decides, or too many wait for it. In the words of the bootstrap's local_reply_config.
    #[must_use]
    pub fn decisions_unavailable() -> Self {
        Self::gateway(503, "The gateway cannot decide on requests right now. Try again shortly.")
            .with_retry_after(1)
    }

    /// 403: the key's `allowed_routes` do not name this one.
    #[must_use]
    pub fn route_not_allowed(path: &str) -> Self {
        Self::client(403, "permission_error", format!("This key may not call {path} (`allowed_routes`)."))
            .with_code("route_not_allowed")
    }

    /// 503: limits are enforced or nothing goes, and the counters do not answer.
    #[must_use]
    pub fn limits_unavailable() -> Self {
        Self::gateway(503, "Limits cannot be checked right now. Try again shortly.").with_retry_after(1)
    }

    /// 503: filter and sidecar speak different versions of their contract.
    #[must_use]
    pub fn version_mismatch(ours: u32, theirs: u32) -> Self {
        Self::gateway(503, "The gateway is being upgraded. Try again shortly.")
            .with_retry_after(1)
            .with_internal(format!("contract version {theirs} met, {ours} expected"))
    }

    /// 503: no upstream can take the request.
    #[must_use]
    pub fn no_upstream(model: &str) -> Self {
        let message = format!("No healthy deployment available for model '{}'.", shown(model));
        Self { blame: Blame::Upstream, ..Self::gateway(503, message) }.with_retry_after(1)
    }

    /// 500: a fault of the gateway's own.
    #[must_use]
    pub fn internal(internal: impl Into<String>) -> Self {
        Self::gateway(500, "The gateway failed to handle the request.").with_internal(internal)
    }

    /// OpenAI's envelope: `{"error":{"message","type","param","code"}}`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let code = match &self.code {
            Some(code) => code.to_string(),
            None => self.status.to_string(),
        };
        let Some(hit) = &self.limit else {
            return envelope(&self.message, &self.kind, self.param.as_deref(), Some(&code));
        };
        let (limit, used) = (hit.shown(hit.limit), hit.shown(hit.used));
        let remaining = hit.shown(hit.limit.saturating_sub(hit.used));
        let used_name = if hit.money { "spend" } else { "used" };
        let body = serde_json::json!({"error": {
            "message": mask_secrets(&self.message), "type": self.kind, "param": self.param, "code": code,
            "entity_type": hit.entity_type, "entity_id": mask_secrets(&hit.entity_id), "model": hit.model,
            "limit_type": hit.limit_type, "window": hit.window, "limit": limit, used_name: used,
            "remaining": remaining, "reset_at": hit.reset_at,
        }});
        body.to_string().into_bytes()
    }

    /// Response headers: content type, `retry-after` where it helps, and `x-should-retry: false` (OpenAI's libraries heed
    /// it) where trying again does not.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if let Some(seconds) = self.retry_after_s {
            headers.push(("retry-after", seconds.to_string()));
        }
        if !self.allow.is_empty() {
            headers.push(("allow", self.allow.join(", ")));
        }
        if self.limit.as_ref().is_some_and(|hit| hit.no_retry) {
            headers.push(("x-should-retry", "false".to_owned()));
        }
        headers
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status, self.kind, self.message)?;
        match &self.internal {
            Some(internal) => write!(f, " ({internal})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

/// OpenAI's error envelope as JSON. Secrets in the message are masked.
#[must_use]
pub fn envelope(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Vec<u8> {
    let body = serde_json::json!({
        "error": {"message": mask_secrets(message), "type": kind, "param": param, "code": code}
    });
    body.to_string().into_bytes()
}

/// OpenAI's `error.type` for a status without one of its own.
#[must_use]
pub fn kind_of_status(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "internal_server_error",
    }
}

/// A client's own word on its way back into an error text: bounded, and no key shown whole.
fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let mut out: String = text.chars().take(MAX_CHARS).collect();
    if out.len() < text.len() {
        out.push_str("...");
    }
    mask_secrets(&out)
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
