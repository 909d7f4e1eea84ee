//! Bedrock's requests are signed by Envoy. The filter takes its keys from a file, because nothing of AWS comes by SDS:
//! a new file is used from the next request on, and neither the cluster nor `/config_dump` has a key in it
//! (docs/providers.md, "How keys reach Envoy").

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use envoy_types::pb::envoy::config::core::v3::{DataSource, WatchedDirectory, data_source::Specifier};
use envoy_types::pb::envoy::extensions::common::aws::v3::{
    AwsCredentialProvider, CredentialsFileCredentialProvider,
};
use envoy_types::pb::envoy::extensions::filters::http::aws_request_signing::v3::AwsRequestSigning;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use sha2::{Digest, Sha256};

use super::clusters::{ClusterOptions, secret_name};
use crate::credentials::AwsKeys;

/// Bedrock's name in a signature, for its runtime endpoint too.
pub(super) const SERVICE: &str = "bedrock";

/// The filter of a cluster. Without keys of its own it signs with what Envoy's environment has.
pub(super) fn filter(
    cluster: &str,
    region: &str,
    own_keys: bool,
    options: &ClusterOptions,
) -> Result<AwsRequestSigning> {
    let provider = if own_keys { Some(provider(cluster, options)?) } else { None };
    Ok(AwsRequestSigning {
        service_name: SERVICE.to_owned(),
        region: region.to_owned(),
        credential_provider: provider,
        // `host` and what the filter adds are signed in any case. Nothing else: proxies on the way may change it.
        match_included_headers: vec![StringMatcher {
            match_pattern: Some(MatchPattern::Exact("content-type".to_owned())),
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn provider(cluster: &str, options: &ClusterOptions) -> Result<AwsCredentialProvider> {
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
    };
    let source = DataSource {
        specifier: Some(Specifier::Filename(text(&file(cluster, options))?)),
        watched_directory: Some(WatchedDirectory { path: text(&options.keys_dir)?, ..Default::default() }),
    };
    Ok(AwsCredentialProvider {
        credentials_file_provider: Some(CredentialsFileCredentialProvider {
            credentials_data_source: Some(source),
            ..Default::default()
        }),
        custom_credential_provider_chain: true,
        ..Default::default()
    })
}

/// The file with a cluster's keys. Its name says nothing, and stays when the keys change.
pub(super) fn file(cluster: &str, options: &ClusterOptions) -> PathBuf {
    let mut name = hex::encode(Sha256::digest(cluster.as_bytes()));
    name.truncate(32);
    options.keys_dir.join(name)
}

/// Has a cluster its keys?
pub(super) fn is_there(cluster: &str, options: &ClusterOptions) -> bool {
    file(cluster, options).exists()
}

/// Writes a cluster's keys, if they are others than before. Envoy looks when a file is moved to its place.
///
/// # Errors
/// The folder or the file cannot be written.
pub(super) fn write(cluster: &str, keys: &AwsKeys, options: &ClusterOptions) -> Result<()> {
    let text = keys.file().context("the keys hold characters that no key has")?;
    put(&file(cluster, options), &text, options)
}

/// The file with a cluster's credential as Envoy's file-based SDS reads it.
pub(super) fn secret_file(cluster: &str, options: &ClusterOptions) -> PathBuf {
    file(cluster, options).with_extension("json")
}

/// Writes a cluster's credential, if it is another than before. Envoy looks when a file is moved to its place.
///
/// # Errors
/// The folder or the file cannot be written.
pub(super) fn write_secret(cluster: &str, value: &str, options: &ClusterOptions) -> Result<()> {
    let secret = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": secret_name(cluster),
        "generic_secret": {"secret": {"inline_string": value}},
    });
    let text = serde_json::json!({"resources": [secret]}).to_string();
    put(&secret_file(cluster, options), &text, options)
}

fn put(path: &Path, text: &str, options: &ClusterOptions) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let dir = &options.keys_dir;
    let searchable = options.keys_mode | ((options.keys_mode & 0o444) >> 2);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(searchable)
        .create(dir)
        .with_context(|| format!("cannot create {}", dir.display()))?;
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let failed = || format!("cannot write {}", partial.display());
    // Closed to others from its first moment.
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    let mut opened = opened.with_context(failed)?;
    opened.write_all(text.as_bytes()).with_context(failed)?;
    opened.set_permissions(fs::Permissions::from_mode(options.keys_mode)).with_context(failed)?;
    fs::rename(&partial, path).with_context(failed)
}

/// Removes the keys of clusters that Envoy no longer has. Envoy keeps what it has read.
pub(super) fn sweep<'a>(clusters: impl Iterator<Item = &'a String>, options: &ClusterOptions) {
    let both = |cluster: &String| [file(cluster, options), secret_file(cluster, options)];
    let kept: Vec<PathBuf> = clusters.flat_map(both).collect();
    let Ok(entries) = fs::read_dir(&options.keys_dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
