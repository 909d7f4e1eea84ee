//! Flags that keys, teams and users share: what they may use and how much of it.

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Number, Value};

/// Limits and budget.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct LimitFlags {
    /// Dollars, for ever (`20`) or per window: `20/month`, `5/day`, `100/week`, `3/12h`.
    #[arg(long, value_parser = budget, value_name = "DOLLARS[/WINDOW]")]
    budget: Option<Budget>,
    /// Dollars from which a warning is due.
    #[arg(long, value_parser = dollars, value_name = "DOLLARS")]
    soft_budget: Option<Number>,
    /// Counts what the budget would refuse instead of refusing it.
    #[arg(long)]
    budget_audit: bool,
    /// Shared budget, by its id.
    #[arg(long, value_name = "ID")]
    budget_id: Option<String>,
    /// Models, patterns and access groups, comma separated.
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    models: Option<Vec<String>>,
    /// Requests per minute.
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,
    /// Tokens per minute.
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,
    /// Requests per day (UTC).
    #[arg(long, value_name = "N")]
    rpd: Option<u64>,
    /// Tokens per day (UTC).
    #[arg(long, value_name = "N")]
    tpd: Option<u64>,
    /// Requests at the same time.
    #[arg(long, value_name = "N")]
    parallel: Option<u64>,
    /// Requests per minute of one model: `gpt-4o=10`. May be repeated.
    #[arg(long, value_parser = of_model, value_name = "MODEL=N")]
    model_rpm: Vec<(String, u64)>,
    /// Tokens per minute of one model. May be repeated.
    #[arg(long, value_parser = of_model, value_name = "MODEL=N")]
    model_tpm: Vec<(String, u64)>,
    /// Tags, comma separated.
    #[arg(long, value_delimiter = ',', value_name = "TAGS")]
    tags: Option<Vec<String>>,
    /// A JSON object of your own.
    #[arg(long, value_parser = object, value_name = "JSON")]
    metadata: Option<Value>,
}

/// `20/month`.
#[derive(Debug, Clone, PartialEq)]
struct Budget {
    dollars: Number,
    duration: Option<String>,
}

impl LimitFlags {
    /// Puts what is given under LiteLLM's names.
    pub(super) fn put(&self, body: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("max_budget", self.budget.as_ref().map(|budget| Value::Number(budget.dollars.clone())));
        put("budget_duration", self.budget.as_ref().map(|budget| budget.duration.clone().into()));
        put("soft_budget", self.soft_budget.clone().map(Value::Number));
        put("budget_mode", self.budget_audit.then(|| "audit".into()));
        put("budget_id", self.budget_id.clone().map(Value::from));
        let list = |list: &Option<Vec<String>>| {
            let names = list.as_ref()?.iter().filter(|name| !name.is_empty()).cloned();
            Some(names.collect::<Value>())
        };
        put("models", list(&self.models));
        put("tags", list(&self.tags));
        put("rpm_limit", self.rpm.map(Value::from));
        put("tpm_limit", self.tpm.map(Value::from));
        put("rpd_limit", self.rpd.map(Value::from));
        put("tpd_limit", self.tpd.map(Value::from));
        put("max_parallel_requests", self.parallel.map(Value::from));
        let map = |pairs: &[(String, u64)]| {
            let map: Map<String, Value> =
                pairs.iter().map(|(model, limit)| (model.clone(), Value::from(*limit))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        };
        put("model_rpm_limit", map(&self.model_rpm));
        put("model_tpm_limit", map(&self.model_tpm));
        put("metadata", self.metadata.clone());
    }
}

/// An update that changes nothing is a mistake.
pub(super) fn require_change(body: &Map<String, Value>, identity: &str) -> anyhow::Result<()> {
    if body.keys().all(|name| name == identity) {
        bail!("nothing to change is given");
    }
    Ok(())
}

fn budget(text: &str) -> Result<Budget, String> {
    let (amount, window) = match text.split_once('/') {
        Some((amount, window)) => (amount, Some(window.trim())),
        None => (text, None),
    };
    let duration = match window {
        None => None,
        Some("hour" | "hourly") => Some("1h"),
        Some("day" | "daily") => Some("1d"),
        Some("week" | "weekly") => Some("1w"),
        Some("month" | "monthly") => Some("1mo"),
        Some(other) if is_duration(other) => Some(other),
        Some(other) => {
            return Err(format!(
                "{other:?} is no window: hour, day, week, month, or a duration like 12h or 30d"
            ));
        }
    };
    Ok(Budget { dollars: dollars(amount)?, duration: duration.map(str::to_owned) })
}

fn is_duration(text: &str) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    number.parse::<u32>().is_ok_and(|number| number > 0) && ["s", "m", "h", "d", "w", "mo"].contains(&unit)
}

fn dollars(text: &str) -> Result<Number, String> {
    let amount = text.trim().trim_start_matches('$');
    let amount: f64 = amount.parse().map_err(|_| format!("{text:?} is no amount of dollars"))?;
    if amount < 0.0 {
        return Err("dollars cannot be less than 0".to_owned());
    }
    Number::from_f64(amount).ok_or_else(|| format!("{text:?} is no amount of dollars"))
}

fn of_model(text: &str) -> Result<(String, u64), String> {
    let (model, limit) = text.rsplit_once('=').filter(|(model, _)| !model.is_empty()).ok_or("not MODEL=N")?;
    let limit = limit.parse().map_err(|_| format!("{limit:?} is no whole number"))?;
    Ok((model.to_owned(), limit))
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: LimitFlags,
    }

    fn body(arguments: &[&str]) -> Result<Value, clap::Error> {
        let line = Line::try_parse_from(["x"].iter().chain(arguments))?;
        let mut body = Map::new();
        line.flags.put(&mut body);
        Ok(Value::Object(body))
    }

    #[test]
    fn flags_become_litellms_fields() {
        let all = body(&[
            "--budget",
            "20/month",
            "--models",
            "gpt-4o,gpt-4o-mini",
            "--rpm",
            "100",
            "--tpm",
            "100000",
            "--parallel",
            "5",
            "--model-rpm",
            "gpt-4o=3",
            "--tags",
            "a,b",
            "--metadata",
            "{\"k\": 1}",
            "--soft-budget",
            "$1.5",
        ])
        .unwrap();
        assert_eq!(
            all,
            json!({
                "max_budget": 20.0, "budget_duration": "1mo", "soft_budget": 1.5, "models": ["gpt-4o", "gpt-4o-mini"],
                "rpm_limit": 100, "tpm_limit": 100_000, "max_parallel_requests": 5, "model_rpm_limit": {"gpt-4o": 3},
                "tags": ["a", "b"], "metadata": {"k": 1}
            })
        );
        assert_eq!(body(&[]).unwrap(), json!({}));
        assert_eq!(body(&["--models", ""]).unwrap(), json!({"models": []}), "all models again");
    }

    #[test]
    fn budgets_have_windows_that_people_say() {
        for (text, window) in
            [("5/day", "1d"), ("5/week", "1w"), ("5/12h", "12h"), ("$5/30d", "30d"), ("5/hour", "1h")]
        {
            assert_eq!(budget(text).unwrap().duration.as_deref(), Some(window), "{text}");
        }
        // A budget without a window takes away the window there was.
        assert_eq!(body(&["--budget", "5"]).unwrap(), json!({"max_budget": 5.0, "budget_duration": null}));
        for text in ["x", "5/", "5/year", "5/0d", "-1", "5/d", "NaN", "inf", "5/month/day"] {
            assert!(budget(text).is_err(), "{text}");
        }
        assert!(body(&["--model-rpm", "gpt-4o"]).is_err() && body(&["--metadata", "[1]"]).is_err());
    }
}
