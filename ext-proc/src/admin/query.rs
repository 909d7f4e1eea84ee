//! Query strings, parameter by parameter.

use attache_llm::error::ApiError;
use attache_llm::path::percent_decode;

use super::body::refused;

/// Parameters of a query string; each is taken once.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode(&text.replace('+', " ")).unwrap_or_default();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// A parameter; empty is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter, empty ones left out.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        std::iter::from_fn(|| {
            let at = self.0.iter().position(|(key, _)| key == name)?;
            Some(self.0.remove(at).1)
        })
        .filter(|value| !value.is_empty())
        .collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| key == name && !value.is_empty())
    }

    /// A whole number from 0.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.take(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| refused(name, "must be a whole number"))
    }

    /// `true` or `false`, in any case (Python writes `True`), or 1 and 0; absent is false.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.take(name).map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(refused(name, "must be true or false")),
        }
    }

    /// A filter that is not understood must not look as if it had worked.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let message = format!("The query parameter `{name}` is not supported here.");
                Err(ApiError::invalid_request(message, None).with_param(name))
            }
        }
    }
}
