//! The ledger's way to the database as Prometheus text.

use std::fmt::Write;

use super::metrics::{counter, gauge, head, line, seconds};
use crate::ledger::{Books, Buffer};

pub(super) fn render(out: &mut String, books: &Books) {
    let (status, figures) = (books.status(), books.figures());
    let help = "Rows that wait for the database; those in Redis are of all replicas.";
    gauge(out, "ledger_queue_rows", help, status.pending);
    let age = status.oldest_age.unwrap_or_default().as_secs();
    gauge(out, "ledger_oldest_seconds", "Age of the oldest of them.", age);
    counter(out, "ledger_rows_written_total", "Rows that this process wrote.", figures.rows_written());
    let help = "Rows that the database had already: each counts once.";
    counter(out, "ledger_duplicates_total", help, figures.duplicates());
    let help = "Rows that were acknowledged and are gone. Must stay 0.";
    counter(out, "ledger_dropped_total", help, figures.dropped());
    let help = "Rows that the database refuses or that cannot be read, in files beside the spool.";
    counter(out, "ledger_set_aside_total", help, figures.rows_set_aside());
    head(
        out,
        "ledger_buffer",
        "gauge",
        "1 for where rows wait now; reason: why not in Redis, as configured.",
    );
    let (redis, reason) = match status.buffer {
        Buffer::Redis => (1, ""),
        Buffer::Spool => (0, ""),
        Buffer::Instead(reason) => (0, reason.label()),
    };
    line(out, "ledger_buffer{kind=\"redis\",reason=\"\"}", redis);
    line(out, &format!("ledger_buffer{{kind=\"spool\",reason=\"{reason}\"}}"), 1 - redis);
    head(out, "ledger_write_seconds", "histogram", "Time of a transaction of the ledger.");
    let (buckets, count, sum_us) = figures.writes.read();
    for (bound, below) in buckets {
        line(out, &format!("ledger_write_seconds_bucket{{le=\"{}\"}}", seconds(bound)), below);
    }
    line(out, "ledger_write_seconds_bucket{le=\"+Inf\"}", count);
    let _ = writeln!(out, "attache_ledger_write_seconds_sum {}", seconds(sum_us));
    line(out, "ledger_write_seconds_count", count);
}
