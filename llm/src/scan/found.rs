//! What the lexer's findings mean in an LLM request.

use std::ops::Range;

use super::cuts::Cuts;
use super::field::Field;
use super::gateway::{Gateway, Shape};
use super::lexer::{Kind, Sink};
use super::needs::{self, Needs};
use crate::wishes::CONTROL;

use super::{ScanError, ScanLimits, Scanned, StreamOptionsAt};

/// Longest key that is told from others, bytes. No known one is longer than `mock_testing_content_policy_fallbacks`.
const MAX_KEY: usize = 40;
/// Longest number read as a count, bytes.
const MAX_NUMBER: usize = 64;

/// What the text of the string or number in progress is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Ignore,
    Key,
    Count,
    /// Keep up to so many bytes; more is an error.
    Keep(usize),
    /// An address: does it lead elsewhere, or is it the data itself?
    Address,
}

#[derive(Debug)]
pub(super) struct Found {
    limits: ScanLimits,
    pub(super) scanned: Scanned,
    max_completion_tokens: Option<u64>,
    /// For each open container: does its text count?
    counts: Vec<bool>,
    /// Top-level member in progress.
    field: Field,
    key: Vec<u8>,
    key_too_long: bool,
    /// Single members seen, to refuse a second.
    seen: Vec<Field>,
    gateway: Gateway,
    needs: Needs,
    cuts: Cuts,
    text: Vec<u8>,
    text_use: Use,
    start: usize,
    key_start: usize,
    /// Quote of the key of the top-level member in progress.
    member_start: usize,
}

impl Found {
    pub(super) fn new(limits: ScanLimits) -> Self {
        Self {
            limits,
            scanned: Scanned::default(),
            max_completion_tokens: None,
            counts: Vec::with_capacity(16),
            field: Field::Other,
            key: Vec::with_capacity(MAX_KEY),
            key_too_long: false,
            seen: Vec::with_capacity(4),
            gateway: Gateway::default(),
            needs: Needs::default(),
            cuts: Cuts::default(),
            text: Vec::new(),
            text_use: Use::Ignore,
            start: 0,
            key_start: 0,
            member_start: 0,
        }
    }

    pub(super) fn finish(mut self, len: usize) -> Scanned {
        self.scanned.len = len;
        self.scanned.empty = self.cuts.all_cut();
        self.scanned.cuts = self.cuts.finish();
        self.scanned.user = self.scanned.user.or_else(|| self.gateway.end_user());
        self.scanned.no_log = self.gateway.no_log();
        self.scanned.wishes = self.gateway.finish();
        self.scanned.max_tokens = self.max_completion_tokens.or(self.scanned.max_tokens);
        if self.max_completion_tokens.is_some() {
            self.scanned.max_tokens_key = None;
        }
        self.scanned.needs = self.needs.finish();
        self.scanned
    }

    fn depth(&self) -> usize {
        self.counts.len()
    }

    fn known_key(&self) -> &[u8] {
        if self.key_too_long { &[] } else { &self.key }
    }

    fn in_include_usage(&self) -> bool {
        self.depth() == 2 && self.field == Field::StreamOptions && self.known_key() == b"include_usage"
    }

    fn in_metadata(&self) -> bool {
        self.field == Field::Metadata && self.depth() == 2
    }

    /// A member of the body's object or of `metadata` ends: does it go to the provider?
    fn end_member(&mut self, end: usize) {
        let depth = self.depth();
        if depth == 1 && self.field == Field::Metadata {
            self.cuts.leave_metadata(end);
        } else {
            let cut = self.gateway.member_end(depth)
                || (self.limits.cut_model && depth == 1 && self.field == Field::Model);
            self.cuts.member(depth, cut, end);
        }
    }

    /// A value at the top level: is it of the kind its member must have?
    fn top_level(&mut self, kind: Kind, start: usize) -> Result<(), ScanError> {
        let field = self.field;
        if self.needs.value(if self.key_too_long { &[] } else { &self.key }, kind) {
            self.text_use = Use::Keep(MAX_NUMBER);
        }
        let expected = match (field, kind) {
            (_, Kind::Null) => None,
            (Field::Model, Kind::String) => {
                self.text_use = Use::Keep(self.limits.max_model_bytes);
                None
            }
            (Field::User, Kind::String) => {
                self.text_use = Use::Keep(self.limits.max_user_bytes);
                None
            }
            (Field::MaxTokens | Field::MaxCompletionTokens | Field::N, Kind::Number) => {
                self.text_use = Use::Keep(MAX_NUMBER);
                None
            }
            (Field::Stream, Kind::True | Kind::False) => None,
            (Field::StreamOptions, Kind::Object) => {
                self.scanned.stream_options = Some(StreamOptionsAt {
                    range: start..start,
                    object_start: Some(start.saturating_add(1)),
                    empty: true,
                    include_usage: None,
                });
                None
            }
            (Field::Model, _) => Some("a string"),
            (Field::Stream, _) => Some("a boolean"),
            (Field::StreamOptions, _) => Some("an object"),
            (Field::MaxTokens | Field::MaxCompletionTokens | Field::N, _) => Some("an integer"),
            _ => None,
        };
        match expected {
            Some(expected) => {
                let message = format!("Invalid type for '{}': expected {expected}.", field.name());
                Err(refused(field, start, message))
            }
            None => Ok(()),
        }
    }

    fn top_level_end(&mut self, kind: Kind, end: usize) -> Result<(), ScanError> {
        let range = self.start..end;
        if kind == Kind::Number {
            self.needs.number(std::str::from_utf8(&self.text).unwrap_or_default());
        }
        match self.field {
            Field::Model => {
                self.scanned.model = if kind == Kind::String { Some(self.name()?) } else { None };
                self.scanned.model_range = Some(range);
            }
            Field::User => {
                let user = if kind == Kind::String { Some(self.name()?) } else { None };
                self.scanned.user = user.filter(|user| !user.is_empty());
            }
            Field::Stream => {
                self.scanned.stream = kind == Kind::True;
                self.scanned.stream_range = Some(range);
            }
            Field::StreamOptions => self.end_stream_options(kind, range),
            Field::MaxTokens => {
                if kind == Kind::Number && self.known_key() == b"max_tokens" {
                    self.scanned.max_tokens_key = Some(self.member_start..self.start);
                }
                self.scanned.max_tokens = self.integer(kind)?;
            }
            Field::MaxCompletionTokens => self.max_completion_tokens = self.integer(kind)?,
            Field::N => self.scanned.n = self.integer(kind)?,
            Field::Messages => self.scanned.prompt_range = Some(range),
            Field::Prompt => {
                self.scanned.prompt_range.get_or_insert(range);
            }
            Field::Text | Field::Metadata | Field::Other => {}
        }
        Ok(())
    }

    fn end_stream_options(&mut self, kind: Kind, range: Range<usize>) {
        match &mut self.scanned.stream_options {
            Some(options) if kind == Kind::Object => options.range.end = range.end,
            _ => {
                self.scanned.stream_options =
                    Some(StreamOptionsAt { range, object_start: None, empty: true, include_usage: None });
            }
        }
    }

    fn take_text(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.text)).unwrap_or_default()
    }

    /// The text in progress as a name that databases and logs can carry.
    fn name(&mut self) -> Result<String, ScanError> {
        let text = self.take_text();
        match text.chars().any(char::is_control) {
            true => Err(invalid(self.field.name(), self.start, CONTROL)),
            false => Ok(text),
        }
    }

    /// The number in progress as a count; `None` for null.
    fn integer(&mut self, kind: Kind) -> Result<Option<u64>, ScanError> {
        if kind != Kind::Number {
            return Ok(None);
        }
        let text = self.take_text();
        integer(&text).map(Some).map_err(|what| invalid(self.field.name(), self.start, what))
    }

    /// Does text under this key of this container count as prompt?
    fn member_counts(&mut self, kind: Kind) -> bool {
        let inherited = self.counts.last().copied().unwrap_or(false);
        if !inherited || self.field == Field::Text {
            return inherited;
        }
        match self.known_key() {
            // A picture or a sound has its own price in tokens, whatever the length of its base64.
            b"image_url" | b"input_audio" | b"file" => {
                if kind != Kind::Null {
                    if self.known_key() == b"input_audio" {
                        self.needs.add(needs::AUDIO);
                    }
                    self.scanned.media = self.scanned.media.saturating_add(1);
                }
                false
            }
            b"type" | b"id" | b"tool_call_id" | b"signature" | b"encrypted_content" => false,
            _ => true,
        }
    }

    /// Does the text of the value that begins now count? Decided by the key in objects, inherited in arrays.
    fn value_counts(&mut self, kind: Kind) -> bool {
        match self.depth() {
            0 => false,
            1 => matches!(self.field, Field::Messages | Field::Prompt | Field::Text),
            _ if self.key_fresh() => self.member_counts(kind),
            _ => self.counts.last().copied().unwrap_or(false),
        }
    }

    /// Is the string that begins now the address of some content? Its file id is a need in itself.
    fn is_address(&mut self) -> bool {
        if self.depth() < 2 || !matches!(self.field, Field::Messages | Field::Prompt) || !self.key_fresh() {
            return false;
        }
        match self.known_key() {
            b"url" | b"image_url" | b"file_url" => true,
            b"file_id" => {
                self.needs.add(needs::FILE_ID);
                false
            }
            _ => false,
        }
    }

    /// Is the value that begins now a member's (and not an array's element)? The key is cleared when it is used.
    fn key_fresh(&self) -> bool {
        self.key_too_long || !self.key.is_empty()
    }

    fn clear_key(&mut self) {
        self.key.clear();
        self.key_too_long = false;
    }
}

impl Sink for Found {
    fn key(&mut self, start: usize) {
        self.key_start = start;
        if self.depth() == 1 || self.in_metadata() {
            self.cuts.key(self.counts.len(), start);
        }
        self.clear_key();
        self.text_use = Use::Key;
    }

    fn key_end(&mut self) -> Result<(), ScanError> {
        self.text_use = Use::Ignore;
        if self.gateway.is_reading() {
            let key = if self.key_too_long { &[] } else { self.key.as_slice() };
            return self.gateway.nested_key(key, self.key_start);
        }
        if self.depth() == 1 {
            self.member_start = self.key_start;
            self.field = Field::of(self.known_key());
            if self.field.must_be_single() {
                if self.seen.contains(&self.field) {
                    return Err(duplicate(self.field, self.start));
                }
                self.seen.push(self.field);
            }
        } else if self.depth() == 2
            && self.field == Field::StreamOptions
            && let Some(options) = &mut self.scanned.stream_options
        {
            options.empty = false;
        }
        if self.depth() == 1 || self.in_metadata() {
            let key = if self.key_too_long { &[] } else { self.key.as_slice() };
            self.gateway.key(self.counts.len(), key, self.key_start)?;
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind, start: usize) -> Result<(), ScanError> {
        self.text_use = Use::Ignore;
        self.text.clear();
        let address = kind == Kind::String && self.is_address();
        let counts = self.value_counts(kind);
        match self.depth() {
            0 if kind != Kind::Object => {
                let message = "Invalid JSON payload: the body must be a JSON object".to_owned();
                return Err(ScanError { param: Some("request_body"), offset: start, message });
            }
            0 => self.scanned.object_start = start.saturating_add(1),
            _ if self.gateway.is_reading() => {
                self.start = start;
                match self.gateway.value(self.depth(), kind, start)? {
                    Shape::Text => self.text_use = Use::Keep(crate::wishes::MAX_TEXT),
                    Shape::User => self.text_use = Use::Keep(self.limits.max_user_bytes),
                    Shape::Number => self.text_use = Use::Keep(MAX_NUMBER),
                    Shape::Other => {}
                }
            }
            1 => {
                self.start = start;
                if self.field == Field::Metadata {
                    self.cuts.enter_metadata();
                }
                self.top_level(kind, start)?;
            }
            2 if self.in_include_usage() => {
                if !matches!(kind, Kind::True | Kind::False | Kind::Null) {
                    let message =
                        "Invalid type for 'stream_options.include_usage': expected a boolean.".to_owned();
                    return Err(refused(Field::StreamOptions, start, message));
                }
                if let Some(options) = &mut self.scanned.stream_options {
                    if options.include_usage.is_some() {
                        return Err(duplicate(Field::StreamOptions, start));
                    }
                    options.include_usage = Some(start..start);
                }
            }
            _ => {}
        }
        match kind {
            Kind::Object | Kind::Array => {
                self.counts.push(counts);
                self.clear_key();
            }
            Kind::String if address && self.text_use == Use::Ignore => self.text_use = Use::Address,
            Kind::String if counts && self.text_use == Use::Ignore => self.text_use = Use::Count,
            Kind::Number if counts && self.field == Field::Prompt => {
                self.scanned.token_ids = self.scanned.token_ids.saturating_add(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        match self.text_use {
            Use::Ignore => {}
            Use::Address => {
                // `http` or `data`: the first byte tells. (An address is short, its text in a tool's words too.)
                if matches!(bytes.first(), Some(b'h' | b'H')) {
                    self.needs.add(needs::REMOTE);
                }
                self.text_use = Use::Ignore;
            }
            Use::Count => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.scanned.text_bytes = self.scanned.text_bytes.saturating_add(length);
                if self.field == Field::Prompt {
                    // Every character has one byte that does not go on with another.
                    let begins = bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
                    let chars = u64::try_from(begins).unwrap_or(u64::MAX);
                    self.scanned.prompt_chars = self.scanned.prompt_chars.saturating_add(chars);
                }
            }
            Use::Key => {
                if self.key.len().saturating_add(bytes.len()) > MAX_KEY {
                    self.key_too_long = true;
                } else {
                    self.key.extend_from_slice(bytes);
                }
            }
            Use::Keep(max) => {
                if self.text.len().saturating_add(bytes.len()) > max {
                    let name = self.gateway.name().unwrap_or_else(|| self.field.name());
                    return Err(invalid(name, self.start, &format!("longer than {max} bytes")));
                }
                self.text.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn value_end(&mut self, kind: Kind, end: usize) -> Result<(), ScanError> {
        self.text_use = Use::Ignore;
        if matches!(kind, Kind::Object | Kind::Array) {
            self.counts.pop();
        }
        if self.gateway.is_reading() {
            let text = self.take_text();
            self.gateway.value_end(self.counts.len(), kind, text, self.start)?;
        } else if self.depth() == 1 {
            self.top_level_end(kind, end)?;
        } else if self.in_include_usage() {
            self.scanned.include_usage = kind == Kind::True;
            if let Some(range) =
                self.scanned.stream_options.as_mut().and_then(|options| options.include_usage.as_mut())
            {
                range.end = end;
            }
        }
        if self.depth() == 1 || self.in_metadata() {
            self.end_member(end);
        }
        self.clear_key();
        Ok(())
    }
}

/// A number as a count.
pub(super) fn integer(text: &str) -> Result<u64, &'static str> {
    /// Largest number up to which a double is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if text.starts_with('-') && text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        return Err("must not be negative");
    }
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number.fract() != 0.0 => Err("must be an integer"),
        Ok(number) if number <= EXACT => format!("{:.0}", number.abs()).parse().map_err(|_| "too large"),
        _ => Err("too large"),
    }
}

/// A value of the right kind that cannot be meant.
pub(super) fn invalid(name: &'static str, offset: usize, what: &str) -> ScanError {
    let message = format!("Invalid value for '{name}': {what}.");
    ScanError { param: Some(name), offset, message }
}

fn refused(field: Field, offset: usize, message: String) -> ScanError {
    ScanError { param: Some(field.name()), offset, message }
}

fn duplicate(field: Field, offset: usize) -> ScanError {
    refused(field, offset, format!("Duplicate member '{}' in the request body.", field.name()))
}
