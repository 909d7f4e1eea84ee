//! Which bucket, and whose account: from the environment, by the names that LiteLLM and the clouds use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, CredentialProvider, ObjectStore, RetryConfig};

use super::http::Connector;
use super::{Bucket, KEY, MAX_BYTES, NAME, TYPE, words};
use crate::config::Env;
use crate::credentials::aws_profile;
use crate::server::client::Client;

const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Beside the object, an answer may be an error's text.
const MAX_ANSWER: usize = MAX_BYTES + 64 * 1024;

impl Bucket {
    /// The bucket that the environment names; `None` if it names none.
    ///
    /// # Errors
    /// It is not said which object, or credentials cannot be used.
    pub fn from_env(env: &Env) -> Result<Option<Self>, String> {
        let Some((_, name)) = env.first(&[NAME]) else { return Ok(None) };
        let Some((_, key)) = env.first(&[KEY]) else {
            return Err(format!("{NAME} is {name} and {KEY} is not set: which object is the configuration?"));
        };
        let key = key.trim_start_matches('/');
        let kind = env.first(&[TYPE]).map_or("s3", |(_, kind)| kind);
        let made = match kind {
            "s3" => s3(name, env),
            "gcs" => gcs(name, env),
            other => return Err(format!("{TYPE} is {other}, expected s3 or gcs")),
        };
        let scheme = if kind == "gcs" { "gs" } else { "s3" };
        let store = made.map_err(|why| format!("{scheme}://{name}/{key} ({NAME}, {KEY}): {why}"))?;
        Ok(Some(Self::new(store, scheme, name, key)))
    }
}

/// Polled every few seconds: nothing is gained by trying for long.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(5),
    }
}

/// Verifies with the bundle of the first of these variables.
fn connector(env: &Env, own: &str, plain: bool) -> Result<Connector, String> {
    let file = env.first(&[own, "ATTACHE_CA_FILE"]).map_or(CA_FILE, |(_, file)| file);
    let client = match Client::new(Path::new(file)) {
        Ok(client) => client,
        Err(_) if plain => Client::without_tls(),
        Err(error) => return Err(format!("CA bundle: {error:#}")),
    };
    Ok(Connector { client, limit: MAX_ANSWER })
}

/// An address that the operator wrote without TLS is meant so (MinIO beside the gateway).
fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|url| url.starts_with("http://"))
}

fn s3(name: &str, env: &Env) -> Result<Arc<dyn ObjectStore>, String> {
    let endpoint =
        env.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]).map(|(_, url)| url);
    let mut builder = AmazonS3Builder::new();
    for (variable, value) in env.pairs().filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
    {
        if let Ok(key) = variable.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some((_, region)) = env.first(&["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_REGION_NAME"]) {
        builder = builder.with_region(region);
    }
    builder = builder
        .with_bucket_name(name)
        // A name with a dot is not one label below the certificate's wildcard.
        .with_virtual_hosted_style_request(endpoint.is_none() && !name.contains('.'))
        .with_http_connector(connector(env, "AWS_CA_BUNDLE", is_plain(endpoint))?)
        .with_retry(retry());
    if is_plain(endpoint) {
        builder = builder.with_allow_http(true);
    }
    if let Some(profile) = Profile::of(env) {
        builder = builder.with_credentials(Arc::new(profile));
    }
    Ok(Arc::new(builder.build().map_err(|error| words(&error))?))
}

fn gcs(name: &str, env: &Env) -> Result<Arc<dyn ObjectStore>, String> {
    let emulator = env.first(&["STORAGE_EMULATOR_HOST"]).map(|(_, host)| match host.contains("://") {
        true => host.to_owned(),
        false => format!("http://{host}"),
    });
    let own = env.first(&["GOOGLE_BASE_URL"]).map(|(_, url)| url.to_owned());
    let base = own.or_else(|| emulator.clone());
    let mut builder = GoogleCloudStorageBuilder::new();
    for (variable, value) in
        env.pairs().filter(|(name, value)| name.starts_with("GOOGLE_") && !value.is_empty())
    {
        if let Ok(key) = variable.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let account = env.first(&["GCS_PATH_SERVICE_ACCOUNT"]).map(|(_, path)| path);
    if let Some(path) = account {
        builder = builder.with_service_account_path(path);
    }
    if emulator.is_some() && env.first(&["GOOGLE_APPLICATION_CREDENTIALS"]).is_none() && account.is_none() {
        builder = builder.with_skip_signature(true);
    }
    builder = builder
        .with_bucket_name(name)
        .with_http_connector(connector(env, "SSL_CERT_FILE", is_plain(base.as_deref()))?)
        .with_retry(retry());
    if let Some(base) = &base {
        builder = builder.with_base_url(base.trim_end_matches('/'));
    }
    if is_plain(base.as_deref()) {
        let options = object_store::ClientOptions::new().with_allow_http(true);
        builder = builder.with_client_options(options);
    }
    Ok(Arc::new(builder.build().map_err(|error| words(&error))?))
}

/// A profile of the shared credentials file, which other programs change: read anew each time.
#[derive(Debug)]
struct Profile {
    file: PathBuf,
    name: String,
}

impl Profile {
    /// After static keys and web identity, and before what containers and machines have, as the SDKs do it.
    fn of(env: &Env) -> Option<Self> {
        let is_set = |name: &str| env.first(&[name]).is_some();
        if is_set("AWS_ACCESS_KEY_ID") || is_set("AWS_WEB_IDENTITY_TOKEN_FILE") {
            return None;
        }
        let file = env.first(&["AWS_SHARED_CREDENTIALS_FILE"]).map(|(_, file)| PathBuf::from(file));
        let home = || env.first(&["HOME"]).map(|(_, home)| Path::new(home).join(".aws/credentials"));
        let file = file.or_else(home)?;
        let name = env.first(&["AWS_PROFILE"]).map(|(_, name)| name.to_owned());
        let there = std::fs::read_to_string(&file).is_ok_and(|text| aws_profile(&text, "default").is_some());
        // A profile that is asked for must be there; the default one may.
        (name.is_some() || there).then(|| Self { file, name: name.unwrap_or_else(|| "default".to_owned()) })
    }
}

#[async_trait]
impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let keys = std::fs::read_to_string(&self.file).ok().and_then(|text| aws_profile(&text, &self.name));
        let keys = keys.ok_or_else(|| object_store::Error::Generic {
            store: "S3",
            source: format!("{} has no keys of profile {}", self.file.display(), self.name).into(),
        })?;
        Ok(Arc::new(AwsCredential {
            key_id: keys.id,
            secret_key: keys.secret.expose().to_owned(),
            token: keys.session.map(|session| session.expose().to_owned()),
        }))
    }
}
