use crate::scan::ScanLimits;

/// Longest short field, bytes.
const SHORT: usize = 256;

/// Fields of a form that matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    /// LiteLLM's `target_model_names`: whom an uploaded file is for.
    TargetModels,
    Stream,
    N,
    User,
    ResponseFormat,
    /// Text for the model.
    Text,
    File,
    /// Words to the gateway.
    Gateway,
    #[default]
    Other,
}

impl Field {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"model" => Self::Model,
            b"target_model_names" => Self::TargetModels,
            b"stream" => Self::Stream,
            b"n" => Self::N,
            b"user" => Self::User,
            b"response_format" => Self::ResponseFormat,
            b"prompt" => Self::Text,
            b"custom_llm_provider" | b"litellm_metadata" | b"target_storage" => Self::Gateway,
            _ => Self::Other,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::TargetModels => "target_model_names",
            Self::Stream => "stream",
            Self::N => "n",
            Self::User => "user",
            Self::ResponseFormat => "response_format",
            Self::Text => "prompt",
            Self::File => "file",
            Self::Gateway | Self::Other => "request_body",
        }
    }

    /// Two of them would mean one thing to the gateway and another to the provider.
    pub(super) fn must_be_single(self) -> bool {
        matches!(self, Self::Model | Self::TargetModels | Self::Stream | Self::ResponseFormat)
    }

    /// No provider knows it.
    pub(super) fn is_for_gateway(self) -> bool {
        matches!(self, Self::TargetModels | Self::Gateway)
    }

    pub(super) fn longest(self, limits: &ScanLimits) -> usize {
        match self {
            Self::Model | Self::TargetModels => limits.max_model_bytes,
            Self::User => limits.max_user_bytes,
            _ => SHORT,
        }
    }
}
