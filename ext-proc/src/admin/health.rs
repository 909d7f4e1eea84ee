//! `/health`: which deployments are in service, from what is known already. Nobody is called for it.

use std::collections::HashMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json as object};

use super::Admin;
use super::access::Actor;
use super::models::{api_base, provider_name};
use super::reply::{Failure, private_json};
use crate::routing::{Breaker, Breakers, Deployment, Probes, Snapshot, now_ms};
use crate::server::RouterState;

/// What is known of the deployments.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    snapshot: &'a Snapshot,
    breakers: &'a Breakers,
    probes: &'a Probes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// Only this model group.
    model: Option<String>,
}

pub(super) async fn health(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
    _: Actor,
) -> Result<Response, Failure> {
    let snapshot = admin.state.snapshot.load_full();
    Ok(private_json(&Known::of(&snapshot, &admin.state.routing).report(wanted.model.as_deref())))
}

/// The counts alone, for those who hold no key.
pub(crate) fn counts(known: Known<'_>) -> Response {
    let healthy = known.healthy();
    let unhealthy = known.snapshot.deployments.len().saturating_sub(healthy);
    super::reply::json(StatusCode::OK, &object!({"healthy_count": healthy, "unhealthy_count": unhealthy}))
}

/// Health of one deployment.
struct Standing {
    breaker: &'static str,
    /// Why it is not healthy.
    error: Option<String>,
}

impl<'a> Known<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, routing: &'a RouterState) -> Self {
        Self { snapshot, breakers: &routing.breakers, probes: &routing.probes }
    }

    /// Deployments in service.
    pub(crate) fn healthy(self) -> usize {
        let all = self.snapshot.deployments.values();
        all.filter(|deployment| self.standing(deployment).error.is_none()).count()
    }

    /// LiteLLM's shape.
    fn report(self, model: Option<&str>) -> Value {
        let reasons: HashMap<String, String> =
            self.breakers.list().into_iter().map(|circuit| (circuit.deployment, circuit.reason)).collect();
        let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
        for deployment in self.deployments(model) {
            let state = self.standing(deployment);
            let mut entry = self.describe(deployment, &state);
            if let Some(error) = state.error {
                let reason = reasons.get(&deployment.meta.id).filter(|_| state.breaker != "closed");
                let error = reason.map_or_else(|| error.clone(), |reason| format!("{error}: {reason}"));
                entry.insert("error".to_owned(), error.into());
                unhealthy.push(entry);
            } else {
                healthy.push(entry);
            }
        }
        let refused = self.breakers.credential_failures().into_iter();
        let refused = refused.map(|(id, count)| object!({"model_id": id, "failures": count}));
        object!({
            "healthy_count": healthy.len(),
            "unhealthy_count": unhealthy.len(),
            "healthy_endpoints": healthy,
            "unhealthy_endpoints": unhealthy,
            "credential_failures": refused.collect::<Vec<_>>(),
        })
    }

    /// Deployments, of one group if it is named, sorted.
    fn deployments(self, model: Option<&str>) -> impl Iterator<Item = &'a Deployment> {
        let model = model.map(|model| self.snapshot.aliases.get(model).map_or(model, String::as_str));
        let all = self.snapshot.deployments.values().map(|deployment| &**deployment);
        let mut all: Vec<_> = all.filter(|d| model.is_none_or(|model| d.meta.group == model)).collect();
        all.sort_by(|a, b| (&a.meta.group, &a.meta.id).cmp(&(&b.meta.group, &b.meta.id)));
        all.into_iter()
    }

    fn standing(self, deployment: &Deployment) -> Standing {
        let probe = self.probes.get(&deployment.meta.id);
        let failed = probe.filter(|probe| !probe.healthy).map(|probe| probe.detail);
        let now = now_ms();
        match self.breakers.state(&deployment.meta.id, now) {
            Breaker::Closed => Standing { breaker: "closed", error: failed },
            Breaker::HalfOpen => Standing { breaker: "half_open", error: Some("on probation".to_owned()) },
            Breaker::Open { until_ms } => {
                let seconds = until_ms.saturating_sub(now).div_ceil(1_000);
                Standing { breaker: "open", error: Some(format!("out of service for {seconds} s")) }
            }
        }
    }

    fn describe(self, deployment: &Deployment, state: &Standing) -> Map<String, Value> {
        let meta = &deployment.meta;
        let probe = self.probes.get(&meta.id).map(
            |probe| object!({"healthy": probe.healthy, "checked_ms": probe.checked_ms, "detail": probe.detail}),
        );
        let entry = object!({
            "model": format!("{}/{}", provider_name(deployment), meta.model),
            "model_id": meta.id,
            "model_name": meta.group,
            "api_base": api_base(deployment),
            "circuit_breaker": state.breaker,
            "probe": probe,
        });
        match entry {
            Value::Object(entry) => entry,
            _ => Map::new(),
        }
    }
}
