//! Where tokens and keys come from. Equal sources share what they make.

use std::path::PathBuf;

use crate::config::Secret;

/// Something that makes credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    Entra(Entra),
    Google(GoogleSource),
    Aws(AwsSource),
}

/// Microsoft Entra, client credentials grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entra {
    /// `https://login.microsoftonline.com`.
    pub authority: String,
    pub tenant: String,
    pub client: String,
    pub scope: String,
    pub proof: EntraProof,
}

/// How the application shows who it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntraProof {
    Secret(Secret),
    /// Workload identity: a file with a token of the cluster, read anew each time.
    TokenFile(PathBuf),
}

/// A Google account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GoogleSource {
    /// The JSON of a service account's key or of an authorized user.
    Json(Secret),
    /// A file with such JSON, read anew each time.
    File(PathBuf),
    /// The account of the machine, by its metadata server at this `host[:port]`.
    Metadata(String),
}

/// AWS keys, or a way to them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AwsSource {
    Keys(AwsKeys),
    /// A profile of a shared credentials file, read anew each time.
    Profile {
        file: PathBuf,
        name: String,
    },
    /// STS `AssumeRole`, asked with the keys of another source.
    Role {
        role: String,
        session: String,
        external_id: Option<String>,
        sts: Sts,
        with: Box<AwsSource>,
    },
    /// STS `AssumeRoleWithWebIdentity`.
    WebIdentity {
        role: String,
        session: String,
        token: WebIdentity,
        sts: Sts,
    },
}

/// Where STS is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sts {
    pub region: String,
    /// `https://sts.<region>.amazonaws.com`, or `aws_sts_endpoint`.
    pub url: String,
}

/// Keys that Envoy signs with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsKeys {
    /// Not secret: it is sent with every request.
    pub id: String,
    pub secret: Secret,
    pub session: Option<Secret>,
}

/// A token of an identity provider that AWS trusts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WebIdentity {
    Token(Secret),
    /// Read anew each time.
    File(PathBuf),
}
