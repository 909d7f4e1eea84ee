//! Credentials that are made and renewed, as Prometheus text.

use super::metrics::{escaped, head, line};
use crate::credentials::{Keyring, Standing};

pub(super) fn render(out: &mut String, keyring: &Keyring) {
    let standings = keyring.standings();
    let labels =
        |standing: &Standing| format!("kind=\"{}\",name=\"{}\"", standing.kind, escaped(&standing.name));
    head(out, "credential_refresh_total", "counter", "Tokens and keys asked for, by result.");
    for standing in &standings {
        let labels = labels(standing);
        for (result, count) in [("ok", standing.successes), ("error", standing.failures)] {
            line(out, &format!("credential_refresh_total{{{labels},result=\"{result}\"}}"), count);
        }
    }
    let help = "Until what is held expires; 0 when nothing is held. Keys that do not expire have none.";
    head(out, "credential_expires_seconds", "gauge", help);
    for standing in &standings {
        if let Some(seconds) = standing.expires_in {
            line(out, &format!("credential_expires_seconds{{{}}}", labels(standing)), seconds);
        }
    }
}
