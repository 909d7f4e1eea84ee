//! The file against the key table: unknown keys, wrong types, and text that stands for a number.

use serde_yaml_ng::{Mapping, Number, Value};

use super::files::key_text;
use super::issue::{Findings, Place, did_you_mean};
use super::keys;
use super::rates;
use super::schema::{Kind, Section};

/// Checks and normalises a map in place: what is left deserialises into the types.
pub(super) fn section(map: &mut Mapping, section: &Section, place: &Place, findings: &mut Findings) {
    let entries = std::mem::take(map);
    for (key, mut value) in entries {
        let name = key_text(&key);
        let here = place.key(&name);
        let Some(row) = section.key(&name) else {
            unknown(&name, section, &here, findings);
            continue;
        };
        if unset(&value, row.kind) {
            continue;
        }
        let checked = match row.kind {
            Kind::Rates => rates::price(&name, &value),
            kind => check(&mut value, kind, &here, findings),
        };
        match checked {
            Ok(()) => {
                map.insert(Value::String(name), value);
            }
            Err(message) => findings.error(&here, message),
        }
    }
    for key in section.keys.iter().filter(|key| key.required) {
        // A key that is there but wrong has its own error already.
        let reported = place.key(key.name);
        if !map.contains_key(key.name) && !findings.errors.iter().any(|(at, _)| *at == reported) {
            findings.error(place, format!("`{}` is missing", key.name));
        }
    }
}

/// Null, and empty text (a variable that is set to nothing), mean: not set.
fn unset(value: &Value, kind: Kind) -> bool {
    let container = matches!(
        kind,
        Kind::TextList
            | Kind::Choices(..)
            | Kind::TextMap
            | Kind::SecretMap
            | Kind::Fallbacks
            | Kind::Aliases
            | Kind::Discounts
            | Kind::Margins
    );
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !container,
        _ => false,
    }
}

fn unknown(name: &str, section: &Section, place: &Place, findings: &mut Findings) {
    if section.knows(name) {
        findings.warn(place, format!("LiteLLM knows `{name}`, Attaché does not act on it"));
        return;
    }
    let hint = match keys::elsewhere(name, section) {
        Some(other) => format!("; it belongs to {}", other.title),
        None => did_you_mean(name, section.names()),
    };
    findings.error(place, format!("unknown key `{name}`{hint}"));
}

fn check(value: &mut Value, kind: Kind, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let wrong = |value: &Value| Err(format!("found {}, expected {}", found(value), kind.name()));
    match kind {
        Kind::Text | Kind::Secret => match value {
            Value::String(_) => Ok(()),
            Value::Number(_) | Value::Bool(_) => {
                Err(format!("found {}, expected text: put it in quotes", found(value)))
            }
            _ => wrong(value),
        },
        Kind::Bool | Kind::Supports => put(value, boolean(value).map(Value::Bool), kind),
        Kind::SecretJson if value.is_string() => Ok(()),
        Kind::Count => put(value, whole(value, 0, u64::from(u32::MAX)), kind),
        Kind::Positive => put(value, whole(value, 1, u64::MAX >> 1), kind),
        Kind::Port => put(value, whole(value, 1, u64::from(u16::MAX)), kind),
        Kind::Seconds | Kind::Amount => put(value, real(value, f64::MIN_POSITIVE), kind),
        Kind::SecondsOrZero | Kind::Fraction | Kind::Price => put(value, real(value, 0.0), kind),
        Kind::TextList => texts(value, place, findings),
        Kind::Choice(names) => choice(value, names),
        Kind::Choices(names, others) => choices(value, names, others, place, findings),
        Kind::Period => period(value),
        Kind::PeriodOrOff if is_off(value) => put(value, Some(Value::Number(0.into())), kind),
        Kind::PeriodOrOff => {
            period(value).map_err(|_| format!("found {}, expected {}", found(value), kind.name()))
        }
        Kind::Duration => duration(value),
        Kind::TimeOfDay => match value.as_str().and_then(minute_of_day) {
            Some(_) => Ok(()),
            None => wrong(value),
        },
        Kind::Status(numbers) => {
            let among =
                |number: &Value| number.as_u64().is_some_and(|n| numbers.iter().any(|s| u64::from(*s) == n));
            let list: Vec<_> = numbers.iter().map(u16::to_string).collect();
            let message = format!("found {}, expected one of {}", found(value), list.join(", "));
            *value = whole(value, 0, u64::from(u16::MAX)).filter(among).ok_or(message)?;
            Ok(())
        }
        Kind::Json | Kind::SecretJson | Kind::Rates => json(value),
        Kind::Discounts => rates::discounts(value, place, findings),
        Kind::Margins => rates::margins(value, place, findings),
        Kind::TextMap | Kind::SecretMap => text_map(value, place, findings),
        Kind::Nodes => {
            let pairs = nodes(value).and_then(|nodes| serde_yaml_ng::to_value(nodes).ok());
            *value = pairs.ok_or_else(|| format!("expected {}, or `[host, port]`", kind.name()))?;
            Ok(())
        }
        Kind::Fallbacks => fallbacks(value, place, findings),
        Kind::Aliases => aliases(value, place, findings),
        Kind::Section(inner) => match value {
            Value::Mapping(map) => {
                section(map, inner, place, findings);
                Ok(())
            }
            _ => wrong(value),
        },
        Kind::SectionMap(inner) => match value {
            Value::Mapping(map) => {
                section_map(map, inner, place, findings);
                Ok(())
            }
            _ => wrong(value),
        },
        Kind::Sections(inner) => match value {
            Value::Sequence(items) => {
                entries(items, inner, place, findings);
                Ok(())
            }
            _ => wrong(value),
        },
    }
}

fn entries(items: &mut [Value], inner: &Section, place: &Place, findings: &mut Findings) {
    for (at, item) in items.iter_mut().enumerate() {
        let here = place.index(at);
        match item {
            Value::Mapping(map) => section(map, inner, &here, findings),
            other => {
                let first = inner.keys.first().map_or("", |key| key.name);
                let message = format!("found {}, expected an entry such as `{first}: ...`", found(other));
                findings.error(&here, message);
            }
        }
    }
}

fn section_map(map: &mut Mapping, inner: &Section, place: &Place, findings: &mut Findings) {
    for (key, value) in map.iter_mut() {
        let here = place.key(&key_text(key));
        match value {
            Value::Mapping(map) => section(map, inner, &here, findings),
            other => findings.error(&here, format!("found {}, expected a section of keys", found(other))),
        }
    }
    stringify_keys(map);
}

/// Names that look like numbers (`4: ...`) are names.
fn stringify_keys(map: &mut Mapping) {
    let entries = std::mem::take(map);
    map.extend(entries.into_iter().map(|(key, value)| (Value::String(key_text(&key)), value)));
}

fn choice(value: &Value, names: &[&str]) -> Result<(), String> {
    match value {
        Value::String(text) if names.contains(&text.as_str()) => Ok(()),
        Value::String(text) => Err(not_among(text, names)),
        other => Err(format!("found {}, expected one of {}", found(other), names.join(", "))),
    }
}

fn not_among(text: &str, names: &[&str]) -> String {
    let near = did_you_mean(text, names.iter().copied());
    format!("unknown name; expected one of {}{near}", names.join(", "))
}

/// What is left are names that are acted on.
fn choices(
    value: &mut Value,
    names: &[&str],
    others: &[&str],
    place: &Place,
    findings: &mut Findings,
) -> Result<(), String> {
    let Value::Sequence(items) = value else {
        return Err(format!("found {}, expected a list of {}", found(value), names.join(", ")));
    };
    for (at, item) in items.iter().enumerate() {
        let here = place.index(at);
        if let Some(name) = item.as_str().filter(|name| others.contains(name)) {
            findings.warn(&here, format!("LiteLLM knows `{name}`, Attaché does not act on it"));
        } else if let Err(message) = choice(item, names) {
            findings.error(&here, message);
        }
    }
    items.retain(|item| item.as_str().is_none_or(|name| !others.contains(&name)));
    Ok(())
}

/// Durations of budgets become whole seconds.
fn period(value: &mut Value) -> Result<(), String> {
    let wrong = |value: &Value| format!("found {}, expected {}", found(value), Kind::Period.name());
    let Value::String(text) = value else { return Err(wrong(value)) };
    let seconds = period_seconds(text.trim()).ok_or_else(|| wrong(value))?;
    *value = Value::Number(Number::from(seconds));
    Ok(())
}

/// `off` is false in older YAML.
fn is_off(value: &Value) -> bool {
    matches!(value, Value::Bool(false)) || value.as_str().is_some_and(|text| text.trim() == "off")
}

fn period_seconds(text: &str) -> Option<u64> {
    const DAY: u64 = 24 * 60 * 60;
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => DAY,
        "w" => 7 * DAY,
        "mo" => 30 * DAY,
        _ => return None,
    };
    // Ten years: longer windows are slips of the keyboard.
    number.checked_mul(unit).filter(|seconds| (1..=3_660 * DAY).contains(seconds))
}

/// Durations that stay text. Only one month is a window of the calendar.
fn duration(value: &mut Value) -> Result<(), String> {
    let wrong = |value: &Value| format!("found {}, expected {}", found(value), Kind::Duration.name());
    let Value::String(text) = value else { return Err(wrong(value)) };
    *text = text.trim().to_owned();
    match period_seconds(text) {
        None => Err(wrong(value)),
        Some(_) if text.ends_with("mo") && text != "1mo" => {
            Err("no budget is for several months: expected `1mo`, or days".to_owned())
        }
        Some(_) => Ok(()),
    }
}

/// Minutes after midnight of `HH:MM`.
pub(super) fn minute_of_day(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str, below: u32| {
        let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| plain && *number < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

/// Anything that JSON can say; keys that look like numbers become text, at every depth.
fn json(value: &mut Value) -> Result<(), String> {
    if !value.is_mapping() {
        return Err(format!("found {}, expected a map", found(value)));
    }
    let plain = serde_json::to_value(&*value).ok().and_then(|json| serde_yaml_ng::to_value(json).ok());
    *value = plain.ok_or("holds something that JSON cannot say, such as a tag")?;
    Ok(())
}

/// Replaces a value by its normal form; without one, it is of the wrong type.
fn put(value: &mut Value, normal: Option<Value>, kind: Kind) -> Result<(), String> {
    *value = normal.ok_or_else(|| format!("found {}, expected {}", found(value), kind.name()))?;
    Ok(())
}

pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A whole number, or text that is one (placeholders always give text).
fn whole(value: &Value, min: u64, max: u64) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.as_u64().or_else(|| integral(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }?;
    (min..=max).contains(&number).then(|| Value::Number(Number::from(number)))
}

/// `1e6` and `60.0` are whole numbers to a person.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: whole, and below 2^53")]
fn integral(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
}

pub(super) fn real(value: &Value, min: f64) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }?;
    // A billion seconds or dollars per token is a slip of the keyboard.
    (min..=1e9).contains(&number).then(|| Value::Number(Number::from(number)))
}

fn texts(value: &mut Value, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let Value::Sequence(items) = value else {
        return Err(format!("found {}, expected a list of text", found(value)));
    };
    for (at, item) in items.iter().enumerate() {
        if !item.is_string() {
            findings.error(&place.index(at), format!("found {}, expected text", found(item)));
        }
    }
    Ok(())
}

fn text_map(value: &mut Value, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let Value::Mapping(map) = value else {
        return Err(format!("found {}, expected a map of text", found(value)));
    };
    for (key, item) in map.iter_mut() {
        match item {
            Value::String(_) => {}
            Value::Number(number) => *item = Value::String(number.to_string()),
            Value::Bool(flag) => *item = Value::String(flag.to_string()),
            other => {
                findings.error(&place.key(&key_text(key)), format!("found {}, expected text", found(other)));
            }
        }
    }
    Ok(())
}

/// Hosts and ports in each of the forms that LiteLLM's users write.
pub(super) fn nodes(value: &Value) -> Option<Vec<(String, u16)>> {
    match value {
        Value::String(json) => nodes(&serde_json::from_str(json).ok()?),
        Value::Sequence(items) if !items.is_empty() => items.iter().map(node).collect(),
        _ => None,
    }
}

fn node(value: &Value) -> Option<(String, u16)> {
    let (host, port) = match value {
        Value::String(text) => {
            let (host, port) = text.rsplit_once(':')?;
            (host, Value::from(port))
        }
        Value::Sequence(pair) => match pair.as_slice() {
            [host, port] => (host.as_str()?, port.clone()),
            _ => return None,
        },
        Value::Mapping(map) => (map.get("host")?.as_str()?, map.get("port")?.clone()),
        _ => return None,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = whole(&port, 1, u64::from(u16::MAX))?.as_u64()?;
    (!host.is_empty() && !host.contains(['/', '@', ' ']))
        .then_some((host.to_owned(), u16::try_from(port).ok()?))
}

fn fallbacks(value: &mut Value, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let Value::Sequence(items) = value else {
        return Err(format!("found {}, expected {}", found(value), Kind::Fallbacks.name()));
    };
    for (at, item) in items.iter_mut().enumerate() {
        let here = place.index(at);
        let Value::Mapping(map) = item else {
            findings.error(&here, format!("found {}, expected `group: [group, ...]`", found(item)));
            continue;
        };
        for (key, targets) in map.iter_mut() {
            let inner = here.key(&key_text(key));
            if let Err(message) = texts(targets, &inner, findings) {
                findings.error(&inner, message);
            }
        }
    }
    Ok(())
}

/// Both spellings become `{alias: {model, hidden}}`.
fn aliases(value: &mut Value, place: &Place, findings: &mut Findings) -> Result<(), String> {
    let Value::Mapping(map) = value else {
        return Err(format!("found {}, expected {}", found(value), Kind::Aliases.name()));
    };
    for (key, target) in map.iter_mut() {
        let here = place.key(&key_text(key));
        match target {
            Value::String(_) => {
                let model = std::mem::take(target);
                *target = Value::Mapping(Mapping::from_iter([(Value::from("model"), model)]));
            }
            Value::Mapping(inner) => section(inner, &keys::ALIAS, &here, findings),
            other => findings.error(&here, format!("found {}, expected a group's name", found(other))),
        }
    }
    Ok(())
}

/// What a value is, never what it says: it may be a secret.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) if number.is_f64() => "a number with a fraction".to_owned(),
        Value::Number(number) if number.as_u64().is_some() => "a number".to_owned(),
        Value::Number(_) => "a negative number".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a map".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}
