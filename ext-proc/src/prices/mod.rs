//! What models cost. A table of LiteLLM's published facts is built in; `<data_dir>/model_prices.json` extends and
//! overrides it. Prices are read from decimal text, exactly, never through floating point.

mod import;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, bail};
use attache_llm::price::{Price, femto_from_decimal};
use serde::Deserialize;
use serde_json::value::RawValue;

pub use import::import;

/// Version of the file format.
const VERSION: u32 = 1;
/// The name of a table in the data directory.
const FILE_NAME: &str = "model_prices.json";
/// Suggestions given by [`PriceTable::search`].
const MAX_SUGGESTIONS: usize = 5;

/// Prefixes whose models the table may name without the prefix.
const BARE: [&str; 5] = ["openai", "text-completion-openai", "azure", "azure_text", "custom_openai"];

static EMBEDDED: LazyLock<PriceTable> = LazyLock::new(|| {
    parse(include_str!("../../data/model_prices.json"), "built in").expect("the built-in table is tested")
});

/// What is known of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPrice {
    /// `None`: limits are known, the price per token is not.
    pub price: Option<Price>,
    /// `chat`, `embedding`, `completion`, `responses`.
    pub mode: Option<String>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// Models by LiteLLM's names. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    models: Arc<BTreeMap<String, ModelPrice>>,
    /// When the facts were gathered, and from where the table came.
    date: String,
    source: String,
}

#[derive(Deserialize)]
struct FileFormat<'a> {
    version: u32,
    #[serde(default)]
    date: String,
    #[serde(borrow)]
    models: BTreeMap<String, Row<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    mode: Option<String>,
    #[serde(borrow, rename = "in")]
    input: Option<&'a RawValue>,
    #[serde(borrow, rename = "out")]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write: Option<&'a RawValue>,
    max_in: Option<u64>,
    max_out: Option<u64>,
}

impl PriceTable {
    /// The built-in table.
    #[must_use]
    pub fn embedded() -> Self {
        EMBEDDED.clone()
    }

    /// The built-in table with `<dir>/model_prices.json` over it, if there is one.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn for_data_dir(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(Self::embedded());
        }
        let newer = Self::read(&path)?;
        let mut models = (*EMBEDDED.models).clone();
        models.extend(newer.models.iter().map(|(name, row)| (name.clone(), row.clone())));
        Ok(Self { models: Arc::new(models), ..newer })
    }

    /// One file.
    ///
    /// # Errors
    /// It cannot be read, or is not a price table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        parse(&text, &path.display().to_string()).with_context(|| format!("in {}", path.display()))
    }

    /// A model by its name in the table.
    #[must_use]
    pub fn lookup(&self, model: &str) -> Option<&ModelPrice> {
        self.models.get(model)
    }

    /// A provider's model: `<provider>/<model>`, and for OpenAI and Azure the bare name too. Another provider's
    /// price for a model of the same name would be a guess.
    #[must_use]
    pub fn lookup_for(&self, provider: &str, model: &str) -> Option<&ModelPrice> {
        let bare = || if BARE.contains(&provider) { self.lookup(model) } else { None };
        self.lookup(&format!("{provider}/{model}")).or_else(bare)
    }

    /// Names that resemble `model` or contain it, nearest first.
    #[must_use]
    pub fn search(&self, model: &str) -> Vec<&str> {
        let wanted = model.to_ascii_lowercase();
        let score = |name: &str| {
            let name = name.to_ascii_lowercase();
            let similar = strsim::normalized_damerau_levenshtein(&wanted, &name);
            if !wanted.is_empty() && name.contains(&wanted) { similar + 1.0 } else { similar }
        };
        let mut near: Vec<_> = self.models.keys().map(|name| (score(name), name.as_str())).collect();
        near.retain(|(score, _)| *score >= 0.6);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name).collect()
    }

    /// Prices and limits of one model, for people. `None` when the table does not have it.
    #[must_use]
    pub fn describe_model(&self, model: &str) -> Option<String> {
        let row = self.lookup(model)?;
        let mut text = format!("{model} ({})\n", row.mode.as_deref().unwrap_or("mode unknown"));
        let mut line = |name: &str, femto: Option<u64>, unknown: &str| {
            let shown = femto.map_or_else(|| unknown.to_owned(), |femto| format!("${}", per_million(femto)));
            let _ = writeln!(text, "  {name:<26}{shown}");
        };
        let price = row.price;
        line("input, per million", price.map(|p| p.input), "unknown");
        line("output, per million", price.map(|p| p.output), "unknown");
        line("cache read, per million", price.and_then(|p| p.cache_read), "as input");
        line("cache write, per million", price.and_then(|p| p.cache_creation), "as input");
        let limit = |limit: Option<u64>| limit.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let _ = write!(
            text,
            "  largest input {} tokens, largest output {} tokens",
            limit(row.max_input_tokens),
            limit(row.max_output_tokens)
        );
        Some(text)
    }

    /// Size, age and origin, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let priced = self.models.values().filter(|row| row.price.is_some()).count();
        format!("{} models, {priced} with a price per token, of {} ({})", self.len(), self.date, self.source)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.models.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The table as a file: one model a line, sorted, so that two versions can be compared.
    #[must_use]
    pub fn render(&self) -> String {
        let date = json(&self.date);
        let mut out = format!("{{\"version\":{VERSION},\"date\":{date},\"models\":{{\n");
        for (at, (name, row)) in self.models.iter().enumerate() {
            if at > 0 {
                out.push_str(",\n");
            }
            let _ = write!(out, "{}:{{{}}}", json(name), fields(row).join(","));
        }
        out.push_str("\n}}\n");
        out
    }
}

fn fields(row: &ModelPrice) -> Vec<String> {
    let mut fields = Vec::new();
    if let Some(mode) = row.mode.as_deref().filter(|mode| *mode != "chat") {
        fields.push(format!("\"mode\":{}", json(mode)));
    }
    if let Some(price) = row.price {
        fields.push(format!("\"in\":{}", decimal(price.input)));
        fields.push(format!("\"out\":{}", decimal(price.output)));
        fields.extend(price.cache_read.map(|femto| format!("\"cache_read\":{}", decimal(femto))));
        fields.extend(price.cache_creation.map(|femto| format!("\"cache_write\":{}", decimal(femto))));
    }
    fields.extend(row.max_input_tokens.map(|n| format!("\"max_in\":{n}")));
    fields.extend(row.max_output_tokens.map(|n| format!("\"max_out\":{n}")));
    fields
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn parse(text: &str, source: &str) -> anyhow::Result<PriceTable> {
    let file: FileFormat<'_> = serde_json::from_str(text).map_err(|error| {
        anyhow::anyhow!("not a price table ({error}); `attache prices import` makes one from LiteLLM's file")
    })?;
    if file.version != VERSION {
        bail!("price table of version {}, this program reads version {VERSION}", file.version);
    }
    let mut models = BTreeMap::new();
    for (name, row) in file.models {
        let price = price(row.input, row.output, row.cache_read, row.cache_write);
        let price = price.with_context(|| format!("model {name:?}"))?;
        let mode = Some(row.mode.unwrap_or_else(|| "chat".to_owned()));
        models.insert(
            name,
            ModelPrice { price, mode, max_input_tokens: row.max_in, max_output_tokens: row.max_out },
        );
    }
    Ok(PriceTable { models: Arc::new(models), date: file.date, source: source.to_owned() })
}

/// A model with one of the two prices costs nothing on the other side (embeddings have no output).
fn price(
    input: Option<&RawValue>,
    output: Option<&RawValue>,
    cache_read: Option<&RawValue>,
    cache_creation: Option<&RawValue>,
) -> anyhow::Result<Option<Price>> {
    if input.is_none() && output.is_none() {
        return Ok(None);
    }
    Ok(Some(Price {
        input: femto(input)?.unwrap_or(0),
        output: femto(output)?.unwrap_or(0),
        cache_read: femto(cache_read)?,
        cache_creation: femto(cache_creation)?,
    }))
}

fn femto(raw: Option<&RawValue>) -> anyhow::Result<Option<u64>> {
    let Some(text) = raw.map(RawValue::get) else { return Ok(None) };
    let text = text.trim_matches('"');
    Ok(Some(femto_from_decimal(text).with_context(|| format!("price {text}"))?))
}

/// Femto-dollars as the shortest exact decimal of dollars: `2.5e-6`.
fn decimal(femto: u64) -> String {
    let digits = femto.to_string();
    let exponent = i64::try_from(digits.len()).unwrap_or(0) - 1 - 15;
    let digits = digits.trim_end_matches('0');
    let Some((first, rest)) = digits.split_at_checked(1) else { return "0".to_owned() };
    let mantissa = if rest.is_empty() { first.to_owned() } else { format!("{first}.{rest}") };
    if exponent == 0 { mantissa } else { format!("{mantissa}e{exponent}") }
}

/// Dollars per million tokens: `2.50`, `0.075`.
pub(crate) fn per_million(femto: u64) -> String {
    // A femto-dollar per token is a nano-dollar per million tokens.
    let (dollars, nanos) = (femto / 1_000_000_000, femto % 1_000_000_000);
    let fraction = format!("{nanos:09}");
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{dollars}.{}", &fraction[..kept])
}
