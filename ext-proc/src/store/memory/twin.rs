//! What the counters of this process follow of the shared ones, to go on from there when those go away.

use std::time::{Duration, Instant};

use super::super::{Admission, Admitted, Counter};
use super::Counts;

/// How long a value that was only read, never charged here, is kept. Longer than the longest common window.
pub(in super::super) const LEARNT_TTL: Duration = Duration::from_secs(120);

impl Counts {
    /// Enters what the shared backend admitted, without asking again, and the values that it tells: of the required
    /// counters, then of the candidate's; and what it charged on the limits that shrink.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        ask: &Admission,
        index: usize,
        (values, moment): (&[u64], u64),
        shrunk: &[u64],
    ) {
        self.sweep(now);
        self.expire(now, &ask.id);
        if !self.leases.contains_key(ask.id.as_str()) {
            self.charge(now, ask, index, None, Some(shrunk));
        }
        self.prolong(now, ask);
        let charges = ask.candidates.get(index).map_or(&[][..], |candidate| &candidate.charges);
        for (limited, value) in ask.required.iter().chain(charges).zip(values) {
            self.learn(now, &limited.counter, *value, moment, LEARNT_TTL);
        }
    }

    /// Enters what the shared backend refused. What is in flight is left out: it changes too fast to be remembered.
    pub(crate) fn enter_refusal(&mut self, now: Instant, ask: &Admission, admitted: &Admitted, moment: u64) {
        match admitted {
            Admitted::Candidate(_) | Admitted::Unseeded(_) => {}
            Admitted::Refused { required, value } => {
                if let Some(limited) = ask.required.get(*required) {
                    self.learn(now, &limited.counter, *value, moment, LEARNT_TTL);
                }
            }
            Admitted::Full(reasons) => {
                for (candidate, reason) in ask.candidates.iter().zip(reasons) {
                    let Some(limited) = reason.and_then(|charge| candidate.charges.get(charge)) else {
                        continue;
                    };
                    let Some(limit) = limited.limit.filter(|_| limited.counter.window > 0) else { continue };
                    // The least that leaves no room for this amount.
                    let least = limit.saturating_sub(limited.amount).saturating_add(1).min(limit);
                    if self.value(now, &limited.counter) < least {
                        self.learn(now, &limited.counter, least, 0, LEARNT_TTL);
                    }
                }
            }
        }
    }

    /// Takes over what the shared backend said at this moment. Answers overtake each other: an earlier one only ever
    /// raises. `ttl` is for a counter that is new here.
    pub(crate) fn learn(&mut self, now: Instant, counter: &Counter, value: u64, moment: u64, ttl: Duration) {
        if !self.counters.contains_key(counter) {
            if value == 0 {
                return;
            }
            self.add(now, counter, 0, ttl);
        }
        let Some(known) = self.counters.get_mut(counter) else { return };
        if moment >= known.moment {
            (known.value, known.shared, known.moment) = (value, value, moment);
        } else {
            known.value = known.value.max(value);
            known.shared = known.shared.max(value);
        }
    }
}
