//! Arguments and answers of the scripts. What each script takes is said at its head.

use ::redis::{Cmd, RedisWrite};

use super::super::memory::Learnt;
use super::super::{
    Admission, Admitted, Circuit, Failure, Limited, MAX_AMOUNT, MORE_ROOM, Observation, Pick, Place, Sample,
    Seed, Settlement, Speed, StoreError, Transition, Trip,
};
use super::{broken_answer, millis, short_millis};

/// Largest integer that a Lua number holds exactly.
const MAX_LIMIT: u64 = 1 << 53;

/// `more`: ids of further reservations of the same charges.
pub(super) fn admission(command: &mut Cmd, ask: &Admission, more: &[String]) {
    let pick = match ask.pick {
        Pick::First => 0,
        Pick::Lowest(charge) => charge.saturating_add(1),
    };
    command.arg(&ask.id).arg(millis(ask.lease)).arg(pick).arg(ask.renew.as_deref().unwrap_or_default());
    let uses = u64::try_from(more.len()).unwrap_or(u64::MAX).saturating_add(1);
    command.arg(if more.is_empty() { 1 } else { uses.saturating_mul(MORE_ROOM) });
    command.arg(more.len()).arg(more);
    command.arg(ask.required.len());
    limits(command, &ask.required);
    command.arg(ask.candidates.len());
    for candidate in &ask.candidates {
        command.arg(candidate.tier).arg(candidate.probe.as_deref().unwrap_or_default());
        command.arg(candidate.charges.len());
        limits(command, &candidate.charges);
    }
}

fn limits(command: &mut Cmd, charges: &[Limited]) {
    for charge in charges {
        command.write_arg_fmt(format_args!("{}", charge.counter));
        // A number that Redis cannot add would stop the script halfway.
        command.arg(charge.amount.min(MAX_AMOUNT)).arg(millis(charge.ttl));
        match charge.limit {
            Some(limit) => command.arg(limit.min(MAX_LIMIT)),
            None => command.arg(""),
        };
        match (charge.shrink, charge.seed) {
            (false, Seed::Zero) => command.arg(""),
            (true, Seed::Zero) => command.arg("s"),
            (false, Seed::Ask) => command.arg("?"),
            (true, Seed::Ask) => command.arg("s?"),
            (false, Seed::Known(begin)) => command.arg(begin.min(MAX_LIMIT)),
            (true, Seed::Known(begin)) => command.arg(format!("s{}", begin.min(MAX_LIMIT))),
        };
    }
}

/// What the server answered to an admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Told {
    pub(in super::super) place: Place,
    /// Orders the answers; 0 where there are no values.
    pub(in super::super) moment: u64,
    /// What was charged on the limits that shrink, in order; empty when it was charged earlier.
    pub(in super::super) shrunk: Vec<u64>,
}

pub(super) fn place(answer: &[i64], ask: &Admission) -> Result<Told, StoreError> {
    let unsigned = |n: &i64| u64::try_from(*n).unwrap_or_default();
    let index = |n: &i64| usize::try_from(*n).unwrap_or_default();
    let told = |admitted, moment: &i64, values: &[i64], shrunk: &[i64]| Told {
        place: Place { admitted, values: values.iter().map(unsigned).collect() },
        moment: unsigned(moment),
        shrunk: shrunk.iter().map(unsigned).collect(),
    };
    Ok(match answer {
        [0 | 1, chosen, moment, values @ ..] => {
            let chosen = index(chosen);
            let charges = ask.candidates.get(chosen).map_or(0, |candidate| candidate.charges.len());
            let (values, shrunk) =
                values.split_at_checked(ask.required.len() + charges).unwrap_or((values, &[]));
            told(Admitted::Candidate(chosen), moment, values, shrunk)
        }
        [2, required, value, moment] => {
            let refused = Admitted::Refused { required: index(required), value: unsigned(value) };
            told(refused, moment, &[], &[])
        }
        [3, reasons @ ..] => {
            let reasons = reasons.iter().map(|n| usize::try_from(*n).ok()).collect();
            told(Admitted::Full(reasons), &0, &[], &[])
        }
        [4, missing @ ..] => told(Admitted::Unseeded(missing.iter().map(index).collect()), &0, &[], &[]),
        _ => return Err(broken_answer("admit")),
    })
}

/// `unknown`: the server may never have heard of the id, and counts it all the same.
pub(super) fn settlement(command: &mut Cmd, settlement: &Settlement, unknown: bool) {
    command.arg(&settlement.id).arg(u8::from(unknown)).arg(u8::from(settlement.stays));
    command.arg(settlement.actual.len());
    for charge in &settlement.actual {
        command.write_arg_fmt(format_args!("{}", charge.counter));
        command.arg(charge.amount.min(MAX_AMOUNT)).arg(millis(charge.ttl));
    }
}

/// What became of settlements.
#[derive(Debug, Default)]
pub(in super::super) struct Settled {
    /// Per settlement, as in [`super::super::Counters::settle_all`].
    pub(in super::super) ended: Vec<bool>,
    /// The counters that were named, as they are now.
    pub(in super::super) counters: Vec<Learnt>,
    /// Latest moment.
    pub(in super::super) moment: u64,
}

pub(super) fn settled(answer: &[i64], asked: &[Settlement], into: &mut Settled) -> Result<(), StoreError> {
    let (moment, rest) = answer.split_first().ok_or_else(|| broken_answer("settle"))?;
    let (ended, values) = rest.split_at_checked(asked.len()).ok_or_else(|| broken_answer("settle"))?;
    let moment = u64::try_from(*moment).unwrap_or_default();
    into.moment = moment;
    into.ended.extend(ended.iter().map(|ended| *ended == 1));
    for (charge, value) in asked.iter().flat_map(|settlement| &settlement.actual).zip(values) {
        if let Ok(value) = u64::try_from(*value) {
            into.counters.push(Learnt { counter: charge.counter.clone(), value, moment, ttl: charge.ttl });
        }
    }
    Ok(())
}

pub(super) fn observation(command: &mut Cmd, observation: &Observation) {
    command.arg(&observation.deployment).arg(observation.successes).arg(observation.failures.len());
    for Failure { reason, cooldown, trip } in &observation.failures {
        command.arg(reason).arg(short_millis(*cooldown));
        match trip {
            Trip::Never => command.arg("never"),
            Trip::Now => command.arg("now"),
            Trip::Count { kind, allowed, window } => {
                command.arg("count").arg(kind).arg(*allowed).arg(short_millis(*window))
            }
            Trip::Share { percent, min } => command.arg("share").arg(*percent).arg(*min),
        };
    }
}

/// A circuit breaker that is open already.
pub(super) fn entry(command: &mut Cmd, circuit: &Circuit, now_ms: u64) {
    let left = i128::from(circuit.until_ms) - i128::from(now_ms);
    command.arg(&circuit.deployment).arg(0).arg(1).arg(&circuit.reason);
    command.arg(i64::try_from(left).unwrap_or(i64::MAX)).arg("enter");
}

/// Deployment, deadline (0: closed) and reason.
pub(super) type CircuitAnswer = (String, u64, String);

pub(super) fn circuit((deployment, until_ms, reason): CircuitAnswer) -> Circuit {
    Circuit { deployment, until_ms, reason }
}

pub(super) fn transition(answer: CircuitAnswer) -> Transition {
    match answer.1 {
        0 => Transition::Closed(answer.0),
        _ => Transition::Opened(circuit(answer)),
    }
}

const fn letter(speed: Speed) -> char {
    match speed {
        Speed::FirstEvent => 'f',
        Speed::PerToken => 't',
    }
}

pub(super) fn samples(command: &mut Cmd, samples: &[Sample]) {
    for sample in samples {
        command.write_arg_fmt(format_args!("{}:{}", letter(sample.speed), sample.deployment));
        command.arg(sample.micros);
    }
}

/// Reads one field of the samples' hash; `None` if it is over (or not ours).
pub(super) fn kept<'a>(
    name: &'a str,
    value: &'a str,
    now_ms: u64,
) -> Option<(Speed, &'a str, impl Iterator<Item = u64> + 'a)> {
    let (kind, deployment) = name.split_once(':')?;
    let speed = [Speed::FirstEvent, Speed::PerToken].into_iter().find(|s| kind.chars().eq([letter(*s)]))?;
    let mut numbers = value.split(' ').map(str::parse::<u64>);
    let expiry = numbers.next()?.ok()?;
    (expiry > now_ms).then(|| (speed, deployment, numbers.flatten()))
}
