//! Which clusters Envoy has, where it got them from `attache render`.

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::Any;

use super::State;

impl State {
    /// Nobody says which clusters an Envoy has that got them from `attache render`: those that there were at the start.
    pub(super) fn fix(&mut self, encoded: &BTreeMap<String, Any>) {
        let fixed = self.fixed.get_or_insert_with(|| encoded.clone());
        for (cluster, body) in encoded {
            match fixed.get(cluster) {
                Some(then) if then == body => {}
                Some(_) => tracing::warn!(
                    cluster,
                    "changed since the start; Envoy has it as it was: render its configuration again, then restart both"
                ),
                None => tracing::warn!(
                    cluster,
                    "not in use: Envoy does not have it. Render its configuration again, then restart both"
                ),
            }
        }
    }
}
