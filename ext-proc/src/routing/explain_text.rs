//! An explanation for the command line.

use std::fmt;

use attache_llm::contract::{After, MAX_PASSES};

use super::explain::{ExplainedBreaker, ExplainedGroup, ExplainedStep, Explanation, Gauge};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model       {}", self.model)?;
        writeln!(f, "group       {} ({})", self.group, self.strategy)?;
        writeln!(f, "generation  {}", self.generation)?;
        writeln!(f, "estimate    {} tokens", self.estimated_tokens)?;
        if !self.counters {
            writeln!(f, "counters    away: usage unknown")?;
        }
        if !self.limits.is_empty() {
            writeln!(f, "\nlimits")?;
        }
        for limit in &self.limits {
            writeln!(f, "  {limit}")?;
        }
        for group in &self.groups {
            writeln!(f, "\n{} ({})", group.group, group.strategy)?;
            table(f, group)?;
        }
        match &self.refusal {
            Some(refusal) => {
                write!(f, "\nrefused     {} {}", refusal.status, refusal.message)?;
                writeln!(f)
            }
            None => steps(f, &self.plan),
        }
    }
}

fn table(f: &mut fmt::Formatter<'_>, group: &ExplainedGroup) -> fmt::Result {
    let mut rows =
        vec![["rank", "deployment", "model", "order", "usage", "breaker", "excluded"].map(str::to_owned)];
    for d in &group.deployments {
        let number = |n: Option<String>| n.unwrap_or_else(|| "-".to_owned());
        rows.push([
            number(d.rank.map(|rank| rank.to_string())),
            d.deployment.clone(),
            format!("{}/{}", d.provider, d.model),
            number(d.order.map(|order| order.to_string())),
            usage(&d.usage),
            breaker_text(&d.breaker),
            number(d.excluded.clone()),
        ]);
    }
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(f, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    if group.not_shown > 0 {
        writeln!(f, "  ... and {} more", group.not_shown)?;
    }
    Ok(())
}

fn usage(gauges: &[Gauge]) -> String {
    let text = |gauge: &Gauge| {
        let used = gauge.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
        let limit = gauge.limit.filter(|_| gauge.enforced).map(|limit| format!("/{limit}"));
        format!("{} {used}{}", gauge.what, limit.unwrap_or_default())
    };
    gauges.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn breaker_text(breaker: &ExplainedBreaker) -> String {
    let left = breaker.seconds_left.map(|left| format!(" {left} s")).unwrap_or_default();
    let reason = breaker.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{}{left}{reason}", breaker.state)
}

fn steps(f: &mut fmt::Formatter<'_>, plan: &[ExplainedStep]) -> fmt::Result {
    writeln!(f, "\nplan")?;
    for (index, step) in plan.iter().enumerate() {
        let name = match step.deployment.as_str() {
            "" => format!("another plan (at most {MAX_PASSES} in all)"),
            deployment => format!("{deployment} ({})", step.group),
        };
        let model = step.model.as_ref().map(|model| format!(" as {model}")).unwrap_or_default();
        let after = |(class, after): &(&str, After)| {
            let to = match after {
                After::Next => "next",
                After::Replan => "another plan",
                After::Stop => "the client",
            };
            format!("{class} -> {to}")
        };
        let rules = step.after.iter().map(after).collect::<Vec<_>>().join(", ");
        let rules = if rules.is_empty() { rules } else { format!("  [{rules}]") };
        writeln!(f, "  {}. {name}{model}{rules}", index + 1)?;
    }
    Ok(())
}
