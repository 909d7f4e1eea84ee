//! Arguments and answers of the scripts. What each script takes is said at its head.

use ::redis::{Cmd, RedisWrite};

use super::super::{
    Admission, Admitted, Charge, Circuit, Failure, Limited, MAX_AMOUNT, Observation, Pick, Sample, Speed,
    StoreError, Transition, Trip,
};
use super::{broken_answer, millis, short_millis};

/// Largest integer that a Lua number holds exactly.
const MAX_LIMIT: u64 = 1 << 53;

/// What [`Admitted`] tells, and the values of the charged counters after it (required ones first).
pub(in super::super) struct Place {
    pub(in super::super) admitted: Admitted,
    pub(in super::super) values: Vec<u64>,
}

pub(super) fn admission(command: &mut Cmd, ask: &Admission) {
    let pick = match ask.pick {
        Pick::First => 0,
        Pick::Lowest(charge) => charge.saturating_add(1),
    };
    command.arg(&ask.id).arg(millis(ask.lease)).arg(pick).arg(ask.required.len());
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
    }
}

pub(super) fn place(answer: &[i64]) -> Result<Place, StoreError> {
    let unsigned = |n: &i64| u64::try_from(*n).unwrap_or_default();
    let index = |n: &i64| usize::try_from(*n).unwrap_or_default();
    let admitted = match answer {
        [0 | 1, chosen, ..] => Admitted::Candidate(index(chosen)),
        [2, required, value] => Admitted::Refused { required: index(required), value: unsigned(value) },
        [3, reasons @ ..] => Admitted::Full(reasons.iter().map(|n| usize::try_from(*n).ok()).collect()),
        _ => return Err(broken_answer("admit")),
    };
    let values = match answer {
        [1, _, values @ ..] => values.iter().map(unsigned).collect(),
        _ => Vec::new(),
    };
    Ok(Place { admitted, values })
}

/// `unknown`: the server may never have heard of the id, and counts it all the same.
pub(super) fn settlement(command: &mut Cmd, id: &str, unknown: bool, actual: &[Charge]) {
    command.arg(id).arg(u8::from(unknown)).arg(actual.len());
    for charge in actual {
        command.write_arg_fmt(format_args!("{}", charge.counter));
        command.arg(charge.amount.min(MAX_AMOUNT)).arg(millis(charge.ttl));
    }
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
