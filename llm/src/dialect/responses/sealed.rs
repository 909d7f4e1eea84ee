//! What a provider signed or hid of its reasoning, in `encrypted_content`: clients keep that with a reasoning item and
//! send both back. OpenAI's own `encrypted_content` means nothing to others, so that ours has a mark.

const SIGNATURE: &str = "attache:signature:";
const REDACTED: &str = "attache:redacted:";

/// What came in an `encrypted_content`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sealed<'a> {
    /// Proof of the reasoning in the item.
    Signature(&'a str),
    /// Reasoning that only its provider can read.
    Redacted(&'a str),
}

pub(super) fn signature(signature: &str) -> String {
    format!("{SIGNATURE}{signature}")
}

pub(super) fn redacted(data: &str) -> String {
    format!("{REDACTED}{data}")
}

/// `None`: it is not ours.
pub(super) fn open(content: &str) -> Option<Sealed<'_>> {
    let signature = content.strip_prefix(SIGNATURE).map(Sealed::Signature);
    signature.or_else(|| content.strip_prefix(REDACTED).map(Sealed::Redacted))
}
