//! Envoy's own certificates: by their file names, which Envoy reads once, or as secrets in files of their own (SDS), for
//! which Envoy watches the folder of the certificate and takes a new one while it runs.
//!
//! Envoy looks when something is *moved* to its place in that folder, as Kubernetes, cert-manager, Vault's agent and
//! `mv` do it: a file that is written over may be seen half.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bootstrap::{BootstrapOptions, SidecarAddress};

/// Names of the secrets and, with `.yaml`, of their files.
pub(super) struct Names;

impl Names {
    pub(super) const PUBLIC: &str = "attache_public";
    pub(super) const CLIENTS: &str = "attache_clients";
    pub(super) const SIDECAR: &str = "attache_sidecar";
    pub(super) const SIDECAR_CA: &str = "attache_sidecar_ca";
}

/// Whose certificates a CA vouches for.
pub(super) enum Trust<'a> {
    Any,
    /// Those of this host alone.
    Host {
        /// Kind of the subject.
        kind: &'a str,
        host: &'a str,
    },
}

/// Lines of a `common_tls_context`.
pub(super) struct Certificates<'a> {
    pub(super) sds_dir: Option<&'a Path>,
}

impl Certificates<'_> {
    /// The certificate that is shown.
    pub(super) fn own(&self, name: &str, cert: &Path, key: &Path, indent: usize) -> Result<String> {
        Ok(match self.sds_dir {
            Some(dir) => line(indent, "tls_certificate_sds_secret_configs", &json!([by_file(name, dir)?])),
            None => line(indent, "tls_certificates", &json!([pair(cert, key)?])),
        })
    }

    /// What the other side must show.
    pub(super) fn trust(&self, name: &str, ca: &Path, whose: Trust<'_>, indent: usize) -> Result<String> {
        let names = match whose {
            Trust::Any => None,
            Trust::Host { kind, host } => Some(json!([{"san_type": kind, "matcher": {"exact": host}}])),
        };
        Ok(match (self.sds_dir, names) {
            (Some(dir), None) => line(indent, "validation_context_sds_secret_config", &by_file(name, dir)?),
            (Some(dir), Some(names)) => {
                let combined = json!({
                    "default_validation_context": {"match_typed_subject_alt_names": names},
                    "validation_context_sds_secret_config": by_file(name, dir)?,
                });
                line(indent, "combined_validation_context", &combined)
            }
            (None, names) => {
                let mut context = json!({"trusted_ca": file(ca)?});
                if let (Some(context), Some(names)) = (context.as_object_mut(), names) {
                    context.insert("match_typed_subject_alt_names".to_owned(), names);
                }
                line(indent, "validation_context", &context)
            }
        })
    }
}

/// JSON is YAML.
fn line(indent: usize, name: &str, value: &Value) -> String {
    format!("{}{name}: {value}", " ".repeat(indent))
}

fn by_file(name: &str, dir: &Path) -> Result<Value> {
    let source =
        json!({"path_config_source": {"path": text(&path(name, dir))?}, "resource_api_version": "V3"});
    Ok(json!({"name": name, "sds_config": source}))
}

fn path(name: &str, dir: &Path) -> PathBuf {
    dir.join(format!("{name}.yaml"))
}

fn pair(cert: &Path, key: &Path) -> Result<Value> {
    Ok(json!({"certificate_chain": file(cert)?, "private_key": file(key)?}))
}

fn file(path: &Path) -> Result<Value> {
    Ok(json!({"filename": text(path)?}))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The files of secrets that a bootstrap with `sds_dir` names, and their content; none without it.
///
/// # Errors
/// A path that is not UTF-8.
pub fn secret_files(options: &BootstrapOptions) -> Result<Vec<(PathBuf, String)>> {
    let Some(dir) = &options.sds_dir else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    let mut add = |name: &str, kind: &str, mut secret: Value, beside: &Path| -> Result<()> {
        // Key and certificate are read again together when something is moved into this folder.
        let folder = beside.parent().unwrap_or(Path::new("/"));
        if let Some(secret) = secret.as_object_mut() {
            secret.insert("watched_directory".to_owned(), json!({"path": text(folder)?}));
        }
        let kind = format!("{kind}: {secret}");
        files.push((path(name, dir), format!("{HEAD}  name: {name}\n  {kind}\n")));
        Ok(())
    };
    if let Some(tls) = &options.tls {
        add(Names::PUBLIC, "tls_certificate", pair(&tls.cert, &tls.key)?, &tls.cert)?;
        if let Some(ca) = &tls.client_ca {
            add(Names::CLIENTS, "validation_context", json!({"trusted_ca": file(ca)?}), ca)?;
        }
    }
    if let SidecarAddress::Tcp { ca, cert, key, .. } = &options.sidecar {
        add(Names::SIDECAR, "tls_certificate", pair(cert, key)?, cert)?;
        add(Names::SIDECAR_CA, "validation_context", json!({"trusted_ca": file(ca)?}), ca)?;
    }
    Ok(files)
}

const HEAD: &str = "\
# Made by `attache envoy`: where Envoy finds a certificate, and which folder it watches for a new one.
resources:
- \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
";

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
