//! Credentials of providers: what a deployment is called with, and what must be made and renewed for that.
//!
//! | credential | how it reaches the provider |
//! |---|---|
//! | [`Credential::Header`] | Envoy's credential injector, value over SDS |
//! | [`Credential::Token`] | the same; the token is made by the sidecar and pushed anew before it expires |
//! | [`Credential::Signed`] | Envoy's `aws_request_signing`; the keys are in a file that Envoy watches |

mod aws;
mod google;
mod keyring;
mod make;
mod source;

use std::sync::Arc;

pub(crate) use aws::{element as xml_element, profile as aws_profile};
pub(crate) use google::account as google_account;
pub use keyring::{Issued, Keyring, Standing};
pub use source::{AwsKeys, AwsSource, Entra, EntraProof, GoogleSource, Source, Sts, WebIdentity};

use crate::config::Secret;

/// What a deployment is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A header and its whole value.
    Header(String, Secret),
    /// `authorization: Bearer` with a token of this source.
    Token(Arc<Source>),
    /// Signed by Envoy, for this region, with keys of this source; `None`: those of Envoy's own environment.
    Signed { region: String, source: Option<Arc<Source>> },
}

impl Credential {
    /// What must be made and renewed.
    #[must_use]
    pub fn source(&self) -> Option<&Arc<Source>> {
        match self {
            Self::Header(..) => None,
            Self::Token(source) => Some(source),
            Self::Signed { source, .. } => source.as_ref(),
        }
    }

    /// Header and value, where the configuration has both.
    #[must_use]
    pub fn configured(&self) -> Option<(&str, &str)> {
        match self {
            Self::Header(name, value) => Some((name, value.expose())),
            Self::Token(_) | Self::Signed { .. } => None,
        }
    }

    /// The header that carries it, where one does.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Header(name, _) => Some(name),
            Self::Token(_) => Some("authorization"),
            Self::Signed { .. } => None,
        }
    }
}
