use serde::{Deserialize, Serialize};

/// A string that never shows itself: `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a plain value.
    #[must_use]
    pub fn new(plain: impl Into<String>) -> Self {
        Self(plain.into())
    }

    /// The plain value. Call it only where the secret goes on the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `sk-...last4`, or `***` when the value is so short that four characters would give it away.
    #[must_use]
    pub fn masked(&self) -> String {
        let length = self.0.chars().count();
        if length < 12 {
            return "***".to_owned();
        }
        let last: String = self.0.chars().skip(length - 4).collect();
        let prefix = if self.0.starts_with("sk-") { "sk-" } else { "" };
        format!("{prefix}...{last}")
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
