//! Server-sent events split at any byte.

/// Largest event that is looked into, bytes. Larger ones pass through unparsed.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
