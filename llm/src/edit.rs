//! Splicing a request body in place, slice by slice, without holding it.

use std::ops::Range;

use crate::contract::DeploymentMeta;
use crate::dialect::support::ParamRules;
use crate::json::{self, Member};
use crate::path::Endpoint;
use crate::provider;
use crate::scan::{Form, Multipart, Scanned};

/// Replacement of a byte range of the original body. An empty range is an insertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub range: Range<usize>,
    pub bytes: Vec<u8>,
}

/// Edits in order of their place, without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyEdits {
    edits: Vec<Edit>,
    old_len: usize,
    injected_usage: bool,
}

impl BodyEdits {
    /// What must change so that this deployment understands the body: the provider's name `model` (the deployment's
    /// own, or for a wildcard what its pattern stands for), `stream_options.include_usage` for streams where the
    /// client did not ask and the upstream can, `max_completion_tokens` where OpenAI's newer models insist on that name, and
    /// no members that only the gateway understands.
    #[must_use]
    pub fn plan(scanned: &Scanned, meta: &DeploymentMeta, model: &str, endpoint: Endpoint) -> Self {
        match &scanned.form {
            // The provider knows files and their like by the account.
            _ if endpoint.is_stored() => return Self::cuts(scanned),
            Form::Json => {}
            Form::Multipart(form) => return Self::of_form(scanned, form, model),
            Form::Opaque => return Self::cuts(scanned),
        }
        let mut edits = Vec::new();
        if let Some(range) = scanned.model_range.clone() {
            if scanned.model.as_deref() != Some(model) {
                edits.push(Edit { range, bytes: serde_json::to_vec(model).unwrap_or_default() });
            }
        } else {
            let model = serde_json::to_vec(model).unwrap_or_default();
            edits.push(insertion(scanned.object_start, scanned.empty, b"\"model\":", &model));
        }
        if let Some(range) = scanned.max_tokens_key.clone()
            && endpoint == Endpoint::ChatCompletions
            && provider::wants_max_completion_tokens(meta)
        {
            edits.push(Edit { range, bytes: b"\"max_completion_tokens\":".to_vec() });
        }
        let streams_usage = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let injected_usage = streams_usage && scanned.stream && meta.stream_options && !scanned.include_usage;
        if injected_usage {
            let inserted_model = scanned.model_range.is_none();
            edits.push(usage_edit(scanned, scanned.empty && !inserted_model));
        }
        edits.extend(scanned.cuts.iter().map(|range| Edit { range: range.clone(), bytes: Vec::new() }));
        // Stable: where a cut begins at the brace, insertions stay before it.
        edits.sort_by_key(|edit| edit.range.start);
        Self { edits, old_len: scanned.len, injected_usage }
    }

    /// The model's name in its field, or in a field put before the others.
    fn of_form(scanned: &Scanned, form: &Multipart, model: &str) -> Self {
        let edit = match scanned.model_range.clone() {
            Some(range) => Edit { range, bytes: model.as_bytes().to_vec() },
            None => {
                let boundary = &form.boundary;
                let part = format!(
                    "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n"
                );
                Edit { range: form.first..form.first, bytes: part.into_bytes() }
            }
        };
        let Self { mut edits, old_len, .. } = Self::cuts(scanned);
        if scanned.model_range.is_none() || scanned.model.as_deref() != Some(model) {
            edits.push(edit);
            edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        }
        Self { edits, old_len, injected_usage: false }
    }

    /// The gateway's own members taken out, and nothing else changed: what a translation begins with.
    #[must_use]
    pub fn cuts(scanned: &Scanned) -> Self {
        let cut = |range: &Range<usize>| Edit { range: range.clone(), bytes: Vec::new() };
        Self { edits: scanned.cuts.iter().map(cut).collect(), old_len: scanned.len, injected_usage: false }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Is usage asked for on the gateway's own account? Then the answer's extra usage chunk must be dropped.
    #[must_use]
    pub fn injected_usage(&self) -> bool {
        self.injected_usage
    }

    /// Length of the original body, bytes.
    #[must_use]
    pub fn old_len(&self) -> usize {
        self.old_len
    }

    /// Length of the edited body, bytes: the new `content-length`.
    #[must_use]
    pub fn new_len(&self) -> usize {
        self.edits.iter().fold(self.old_len, |len, edit| {
            len.saturating_add(edit.bytes.len()).saturating_sub(edit.range.len())
        })
    }

    /// Length of the smallest prefix of the original that holds all edits: a host that can only replace a prefix
    /// (Envoy's `set_http_request_body` with start 0) need touch no more. 0 without edits.
    #[must_use]
    pub fn prefix_len(&self) -> usize {
        self.edits
            .iter()
            .map(|edit| edit.range.end.max(edit.range.start.saturating_add(1)))
            .max()
            .unwrap_or(0)
    }

    /// Appends the edited form of the slice that begins at `offset` of the original. Slices must follow each other
    /// without gaps for the whole to be right; each call is independent.
    pub fn apply(&self, offset: usize, slice: &[u8], out: &mut Vec<u8>) {
        let end = offset.saturating_add(slice.len());
        let mut at = offset;
        for edit in &self.edits {
            if edit.range.start >= end {
                break;
            }
            if edit.range.start >= offset {
                copy(offset, slice, at..edit.range.start, out);
                out.extend_from_slice(&edit.bytes);
            }
            at = at.max(edit.range.end);
        }
        copy(offset, slice, at..end, out);
    }
}

/// A JSON object with a deployment's parameters left out and added. Values that stay keep their bytes. What is no object
/// passes as it is.
#[must_use]
pub fn with_params(body: &[u8], rules: &ParamRules) -> Vec<u8> {
    let Some(members) = json::members(body) else { return body.to_vec() };
    let dropped =
        |key: &str| rules.also_drop.iter().any(|name| name == key) || rules.extra_body.contains_key(key);
    let mut out = Vec::with_capacity(body.len().saturating_add(64));
    out.push(b'{');
    let mut add = |key: &str, value: &[u8]| {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&serde_json::to_vec(key).unwrap_or_default());
        out.push(b':');
        out.extend_from_slice(value);
    };
    for Member { key, value } in members.iter().filter(|member| !dropped(&member.key)) {
        add(key, body.get(value.clone()).unwrap_or_default());
    }
    for (key, value) in &rules.extra_body {
        add(key, &serde_json::to_vec(value).unwrap_or_default());
    }
    out.push(b'}');
    out
}

fn copy(offset: usize, slice: &[u8], range: Range<usize>, out: &mut Vec<u8>) {
    let range = range.start.saturating_sub(offset)..range.end.saturating_sub(offset);
    out.extend_from_slice(slice.get(range).unwrap_or_default());
}

fn insertion(at: usize, empty: bool, name: &[u8], value: &[u8]) -> Edit {
    let mut bytes = Vec::with_capacity(name.len().saturating_add(value.len()).saturating_add(1));
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value);
    if !empty {
        bytes.push(b',');
    }
    Edit { range: at..at, bytes }
}

fn usage_edit(scanned: &Scanned, empty: bool) -> Edit {
    let Some(options) = &scanned.stream_options else {
        return insertion(scanned.object_start, empty, b"\"stream_options\":", b"{\"include_usage\":true}");
    };
    match (&options.include_usage, options.object_start) {
        (Some(range), _) => Edit { range: range.clone(), bytes: b"true".to_vec() },
        (None, Some(at)) => insertion(at, options.empty, b"\"include_usage\":", b"true"),
        (None, None) => Edit { range: options.range.clone(), bytes: b"{\"include_usage\":true}".to_vec() },
    }
}

#[cfg(test)]
#[path = "edit_cuts_tests.rs"]
mod cuts_tests;
#[cfg(test)]
#[path = "edit_tests.rs"]
pub(crate) mod tests;
