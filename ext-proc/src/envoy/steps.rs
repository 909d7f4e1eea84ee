//! Which cluster an attempt goes to, for an Envoy before 1.40.
//!
//! Its router cannot read a plan from metadata. But since 1.39 it chooses the cluster anew before each attempt, also by a
//! matcher: of the number of the attempt before (`x-envoy-attempt-count`, which the router sets), and of the plan's step
//! of that number, which the sidecar told in a header and `set_filter_state` keeps where no later filter takes it off.

use attache_llm::contract::{ATTEMPT_HEADER, STEP_HEADERS};
use serde_json::{Map, Value, json};

use super::inline::typed;

/// Where a request without a plan goes, and one whose plan names what is not known.
const NOWHERE: &str = "attache_no_plan";

/// A cluster as plans name it, and as Envoy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub plan: String,
    pub envoy: String,
}

/// What `set_filter_state` is to keep.
pub(super) fn kept() -> Value {
    let keep = |header: &str| {
        json!({
            "object_key": header,
            "factory_key": "envoy.string",
            "skip_if_empty": true,
            "format_string": {
                "omit_empty_values": true, "text_format_source": {"inline_string": format!("%REQ({header})%")},
            },
        })
    };
    STEP_HEADERS.iter().map(|header| keep(header)).collect()
}

/// The cluster specifier.
pub(super) fn specifier(clusters: &[Named]) -> Value {
    let map: Map<String, Value> =
        clusters.iter().map(|named| (named.plan.clone(), action(&named.envoy))).collect();
    let step = |header: &str| {
        let input = typed(
            "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
            json!({"key": header}),
        );
        json!({
            "matcher_tree": {
                "input": {"name": header, "typed_config": input},
                "exact_match_map": {"map": map},
            },
            "on_no_match": action(NOWHERE),
        })
    };
    let mut headers = STEP_HEADERS.iter();
    let first = headers.next().map(|header| step(header));
    let later: Map<String, Value> = (1_u32..)
        .zip(headers)
        .map(|(attempt, header)| (attempt.to_string(), json!({"matcher": step(header)})))
        .collect();
    let input =
        typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", json!({"header_name": ATTEMPT_HEADER}));
    let matcher = json!({
        "matcher_tree": {
            "input": {"name": ATTEMPT_HEADER, "typed_config": input},
            "exact_match_map": {"map": later},
        },
        // Before the first attempt the header is not there.
        "on_no_match": {"matcher": first},
    });
    json!({
        "name": "envoy.router.cluster_specifier_plugin.matcher",
        "typed_config": typed(
            "envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier",
            json!({"cluster_matcher": matcher}),
        ),
    })
}

fn action(cluster: &str) -> Value {
    let name = "envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction";
    json!({"action": {"name": "cluster", "typed_config": typed(name, json!({"cluster": cluster}))}})
}
