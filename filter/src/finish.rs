//! The end of a request: its one usage record, and statistics.

use attache_llm::contract::{AttemptOutcome, Note};

use crate::host;
use crate::requests::{Ending, Request};
use crate::said::{Answered, Said};
use crate::vm::{self, Vm};

/// Writes a usage record that cannot be kept to Envoy's log, from where it can be put into the ledger by hand.
pub fn dump(record: &str) {
    host::warn(&format!("attache usage {record}"));
}

/// How Envoy says that the stream has ended.
pub fn ending() -> Ending {
    let ending = Ending {
        status: host::integer(&["response", "code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0),
        details: host::text(&["response", "code_details"]).unwrap_or_default(),
        flags: host::integer(&["response", "flags"]).unwrap_or(0),
        now_us: host::now_us(),
        sent: false,
    };
    // Envoy makes this anew for each attempt, and fills it in when there is a connection.
    let connected =
        || host::property(&["upstream", "local_address"]).is_some_and(|address| !address.is_empty());
    Ending { sent: ending.aborted() && connected(), ..ending }
}

/// The request is over: its one record, and statistics. Must the root be woken for it: is a whole batch waiting now, or does the
/// root rest?
pub fn close(mut request: Request, note: Option<&Note>, ending: &Ending, answered: Option<Answered>) -> bool {
    request.close(ending);
    let wanted = request.is_recorded(note, ending) && vm::with(|vm| vm.config.usage) == Some(true);
    let record = wanted.then(|| request.record(note, ending));
    let text = record.and_then(|record| serde_json::to_string(&record).ok());
    let said = request.asked.take().map(|asked| Said::new(asked, answered));
    let (dumped, full) = vm::with(|vm| {
        count(vm, &request, note, ending);
        vm.stats.count("prompts_left_out", u64::from(matches!(said, Some(None))));
        let dumped = text.and_then(|text| vm.usage.push(text, said.flatten()));
        vm.stats.count("usage_dumped", u64::from(dumped.is_some()));
        (dumped, vm.usage.is_full_batch() || vm.resting)
    })
    .unwrap_or_default();
    if let Some(oldest) = dumped {
        dump(&oldest);
    }
    full
}

/// Statistics of a finished request.
fn count(vm: &mut Vm, request: &Request, note: Option<&Note>, ending: &Ending) {
    let planned = request.planned(note);
    let group = planned.unwrap_or(request.model.as_str());
    let stats = &mut vm.stats;
    stats.request(group, request.outcome(note, ending));
    let (retries, fallbacks) = request.retries_and_fallbacks(planned);
    stats.count_group("retries", group, retries);
    stats.count_group("fallbacks", group, fallbacks);
    stats.observe_group("duration_ms", group, ending.now_us.saturating_sub(request.start_us) / 1_000);
    if let Some(first_us) = request.first_event_us {
        stats.observe_group("ttft_ms", group, first_us / 1_000);
    }
    for attempt in &request.attempts {
        let record = &attempt.record;
        let (group, deployment) = (record.group.as_str(), record.deployment.as_str());
        stats.attempt(group, deployment, record.outcome.name());
        if let Some(class) = record.class {
            stats.error_class(group, deployment, class.name());
        }
        if record.outcome == AttemptOutcome::FailedFirstEvent {
            stats.count_deployment("first_event_failovers", group, deployment, 1);
        }
        let Some(usage) = &record.usage else { continue };
        stats.count_deployment("tokens_input", group, deployment, usage.prompt);
        stats.count_deployment("tokens_output", group, deployment, usage.completion);
        stats.count_deployment("tokens_cached", group, deployment, usage.cached);
        if let Some(bill) = attempt.price.as_ref().and_then(|price| price.cover(usage)) {
            stats.count_deployment("spend_nanodollars", group, deployment, bill.nanos);
        }
    }
}
