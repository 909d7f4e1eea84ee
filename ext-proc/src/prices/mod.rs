//! What models cost. A table of LiteLLM's published facts is built in; `<data_dir>/model_prices.json` extends and
//! overrides it. Prices are read from decimal text, exactly, never through floating point.

mod capability;
mod fields;
mod import;
mod show;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anyhow::Context;
use attache_llm::price::Price;

pub(crate) use capability::{SUPPORTS, known as known_capability};
pub(crate) use fields::{Fields, is_charged, names as field_names};
pub use import::{Imported, import};
pub(crate) use show::per_million;
use table::parse;

/// The name of a table in the data directory.
const FILE_NAME: &str = "model_prices.json";
/// Suggestions given by [`PriceTable::search`].
const MAX_SUGGESTIONS: usize = 5;

/// Prefixes whose models the table may name without the prefix.
const BARE: [&str; 9] = [
    "cohere",
    "openai",
    "text-completion-openai",
    "azure",
    "azure_text",
    "custom_openai",
    "anthropic",
    "vertex_ai",
    "bedrock",
];
/// Marks of Bedrock's inference profiles that span regions.
const PROFILES: [&str; 8] = ["us", "eu", "apac", "jp", "au", "us-gov", "global", "ca"];

static EMBEDDED: LazyLock<PriceTable> = LazyLock::new(|| {
    parse(include_str!("../../data/model_prices.json"), "built in").expect("the built-in table is tested")
});

/// What is known of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPrice {
    /// `None`: limits are known, the price is not.
    pub price: Option<Price>,
    /// `chat`, `embedding`, `image_generation`, ...
    pub mode: Option<String>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// What it can do and what not, by LiteLLM's names without `supports_`; what is not named is not known.
    pub supports: BTreeMap<&'static str, bool>,
}

/// Models by LiteLLM's names. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    models: Arc<BTreeMap<String, ModelPrice>>,
    /// When the facts were gathered, and from where the table came.
    date: String,
    source: String,
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

    /// A provider's model: `<provider>/<model>`, and for those of whom the table speaks so the bare name too. Another
    /// provider's price for a model of the same name would be a guess.
    #[must_use]
    pub fn lookup_for(&self, provider: &str, model: &str) -> Option<&ModelPrice> {
        // The id at the end of an ARN.
        let model = model.strip_prefix("arn:").and_then(|arn| arn.rsplit('/').next()).unwrap_or(model);
        let bare = || if BARE.contains(&provider) { self.lookup(model) } else { None };
        let base = || {
            let (mark, base) = model.split_once('.').filter(|_| provider == "bedrock")?;
            PROFILES.contains(&mark).then(|| self.lookup(base))?
        };
        self.lookup(&format!("{provider}/{model}")).or_else(bare).or_else(base)
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

    #[must_use]
    pub fn len(&self) -> usize {
        self.models.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }
}
