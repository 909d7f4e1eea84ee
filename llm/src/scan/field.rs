/// Top-level members that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    N,
    User,
    /// Text, images and audio for the model.
    Messages,
    /// Text or token ids.
    Prompt,
    /// Text without media: declarations of tools, schemas, suffix.
    Text,
    /// The client's labels, and some words to the gateway among them.
    Metadata,
    Other,
}

impl Field {
    pub(super) fn of(key: &[u8]) -> Self {
        match key {
            b"model" => Self::Model,
            b"stream" => Self::Stream,
            b"stream_options" => Self::StreamOptions,
            b"max_tokens" | b"max_output_tokens" => Self::MaxTokens,
            b"max_completion_tokens" => Self::MaxCompletionTokens,
            b"n" => Self::N,
            b"user" => Self::User,
            b"messages" => Self::Messages,
            b"prompt" | b"input" => Self::Prompt,
            b"tools" | b"functions" | b"response_format" | b"suffix" | b"instructions" | b"prediction"
            | b"system" | b"query" | b"documents" => Self::Text,
            b"metadata" => Self::Metadata,
            _ => Self::Other,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::N => "n",
            Self::User => "user",
            Self::Messages => "messages",
            Self::Prompt => "prompt",
            Self::Metadata => "metadata",
            Self::Text | Self::Other => "request_body",
        }
    }

    /// Members that the adapter edits or that decide how the answer is read: two of them would mean one thing to the
    /// gateway and another to the provider.
    pub(super) fn must_be_single(self) -> bool {
        matches!(self, Self::Model | Self::Stream | Self::StreamOptions)
    }
}
