//! Reservations on the minute counters of a deployment.

use std::time::Duration;

use attache_llm::contract::Ask;

use crate::store::{Charge, Counter};

/// How long a minute counter is kept: its own minute and the one in which late answers settle.
const COUNTER_TTL: Duration = Duration::from_secs(120);
/// Completion tokens assumed when the client names no limit.
const DEFAULT_COMPLETION: u64 = 256;

/// What a reservation is on. Its id tells all of this, so that any replica can settle it from the usage record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    /// Unix minute.
    pub(super) minute: u64,
    pub(super) call_id: &'a str,
    pub(super) deployment: &'a str,
}

impl<'a> Slot<'a> {
    pub(super) fn at(now_ms: u64, call_id: &'a str, deployment: &'a str) -> Self {
        Self { minute: now_ms / 60_000, call_id, deployment }
    }

    pub(super) fn id(&self) -> String {
        format!("{}/{}/{}", self.minute, self.call_id, self.deployment)
    }

    /// Reads an id back; `None` if it is not one of this call's.
    pub(super) fn parse(id: &'a str, call_id: &'a str) -> Option<Self> {
        let (minute, rest) = id.split_once('/')?;
        let deployment = rest.strip_prefix(call_id)?.strip_prefix('/')?;
        Some(Self { minute: minute.parse().ok()?, call_id, deployment })
    }

    pub(super) fn charges(&self, requests: u64, tokens: u64) -> Vec<Charge> {
        let charge = |what: &str, amount| Charge {
            counter: Counter::new(format!("dep:{}:{what}", self.deployment), self.minute),
            amount,
            ttl: COUNTER_TTL,
        };
        vec![charge("rpm", requests), charge("tpm", tokens)]
    }
}

/// Tokens that a request will probably use: the prompt's estimate and every completion at its limit.
pub(super) fn estimate(ask: &Ask) -> u64 {
    let completion = match ask.endpoint {
        attache_llm::path::Endpoint::Embeddings => 0,
        _ => ask.max_tokens.unwrap_or(DEFAULT_COMPLETION).saturating_mul(ask.n.unwrap_or(1)),
    };
    // A client may name any number; a counter must not overflow by it.
    ask.input_tokens.saturating_add(completion).min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_whatever_the_deployment_is_called() {
        for deployment in ["d1", "a/b:c", ""] {
            let slot = Slot { minute: 29_384_756, call_id: "call-1", deployment };
            assert_eq!(Slot::parse(&slot.id(), "call-1"), Some(slot.clone()));
        }
        assert_eq!(Slot::parse("1/call-2/d", "call-1"), None);
        assert_eq!(Slot::parse("x/call-1/d", "call-1"), None);
        assert_eq!(Slot::parse("call-1", "call-1"), None);
    }

    #[test]
    fn charges_name_deployment_and_minute() {
        let slot = Slot::at(120_999, "c", "d");
        let charges = slot.charges(1, 70);
        assert_eq!(charges[0].counter, Counter::new("dep:d:rpm", 2));
        assert_eq!((&charges[1].counter, charges[1].amount), (&Counter::new("dep:d:tpm", 2), 70));
    }
}
