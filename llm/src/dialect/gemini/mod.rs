//! Google generateContent and streamGenerateContent, of the Gemini API and of Vertex AI (their REST references:
//! `GenerateContentRequest`, `Content`, `GenerationConfig`, `GenerateContentResponse`).
//!
//! | module | |
//! |---|---|
//! | `write` | the body of a request |
//! | `content` | its contents |
//! | `tools` | its tools, and the way to structured output |
//! | `config` | its `generationConfig` |
//! | `read` | answers |
//! | `sources` | what they say of where they have it from |
//! | `usage` | and of what they used |

mod config;
mod content;
mod read;
mod sources;
mod tools;
mod usage;
mod write;

pub use read::Reader;
pub use write::write_request;

/// What a model is, by its name (`gemini-2.5-flash-lite`, `gemini-3-pro-preview`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    /// Tens: 25 for 2.5, 30 for 3. What has no number is the newest (`gemini-flash-latest`).
    generation: u32,
    size: Size,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Pro,
    Flash,
    Lite,
}

/// What models without a number in their names are taken for.
const NEWEST: u32 = 30;

impl Model {
    fn of(name: &str) -> Self {
        let name = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let size = match name.as_str() {
            name if name.contains("lite") => Size::Lite,
            name if name.contains("flash") => Size::Flash,
            _ => Size::Pro,
        };
        let version = name.strip_prefix("gemini-").unwrap_or("0");
        let version = version.split('-').next().unwrap_or_default();
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        let number = |text: &str| text.parse::<u32>().ok();
        let generation = match (number(major), number(minor)) {
            (Some(major), Some(minor)) => major.saturating_mul(10).saturating_add(minor.min(9)),
            _ => NEWEST,
        };
        Self { generation, size }
    }

    /// Gemini 3 and newer: thinking levels, ids of calls, signatures that must come back.
    fn is_third(self) -> bool {
        self.generation >= 30
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_by_name() {
        for (name, generation, size) in [
            ("gemini-2.5-flash-lite-preview-09-2025", 25, Size::Lite),
            ("publishers/google/models/gemini-3-pro-preview", 30, Size::Pro),
            ("gemini-3.1-flash", 31, Size::Flash),
            ("gemini-2.0-flash-001", 20, Size::Flash),
            ("gemini-flash-latest", 30, Size::Flash),
            ("gemma-3-27b-it", 0, Size::Pro),
        ] {
            assert_eq!(Model::of(name), Model { generation, size }, "{name}");
        }
    }
}
