//! Envoy's bootstrap: the commented template `envoy/bootstrap.yaml` with values put in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use attache_llm::contract::{
    Decisions, GateConfig, MAX_PASSES, METADATA_NAMESPACE, PLAN_HEADER, PLAN_KEY, REPLAN_CLUSTER,
    REPLY_HEADER, WAIT_HEADER,
};
use attache_llm::error::kind_of_status;
use attache_llm::path::ADMIN_PREFIXES;
use attache_llm::provider::ApiBase;

use super::certificates::{Certificates, Names, Trust};
use super::steps::{self, Named};
use super::yaml;

const TEMPLATE: &str = include_str!("../../../envoy/bootstrap.yaml");

/// Where Envoy finds the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SidecarAddress {
    /// Unix socket.
    Unix(PathBuf),
    /// TCP with mutual TLS: the sidecar's certificate is checked against `ca` and `host`.
    Tcp { host: String, port: u16, ca: PathBuf, cert: PathBuf, key: PathBuf },
}

/// TLS of the public listener; with `client_ca` certificates of clients are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    /// A client may show no certificate. One that is shown is verified all the same.
    pub client_optional: bool,
    /// HTTP/3 at the same UDP port too, offered to clients at this port: the one that they reach.
    pub http3: Option<u16>,
}

/// Tokens that Envoy verifies for callers without a key. Their claims go to the metadata key of the gate's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// `iss` of every token.
    pub issuer: String,
    /// A token must be for one of these; empty: for whomever.
    pub audiences: Vec<String>,
    pub jwks: Jwks,
}

/// Where the issuer's public keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    File(PathBuf),
    /// `http(s)://host[:port]/path`, fetched by Envoy every five minutes. `ca` signs the host's certificate.
    Url {
        url: String,
        ca: PathBuf,
    },
}

/// What the bootstrap depends on. Start from [`BootstrapOptions::new`].
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapOptions {
    /// Public listener.
    pub listen: SocketAddr,
    /// Envoy's admin interface. It has no authentication: keep it on loopback.
    pub admin: SocketAddr,
    pub sidecar: SidecarAddress,
    /// The filter; the same path as in [`super::ClusterOptions`], or gate and adapter get VMs of their own.
    pub wasm: PathBuf,
    pub gate: GateConfig,
    /// Shown in the sidecar's log when this Envoy refuses a configuration.
    pub node_id: String,
    /// Longest request, running stream included. Bounds what the sidecar sets per request.
    pub request_timeout: Duration,
    /// Longest silence of a provider, before the headers too: at least the longest wait for a first token.
    pub stall_timeout: Duration,
    /// Longest upload of a request body.
    pub upload_timeout: Duration,
    pub tls: Option<ListenerTls>,
    pub tokens: Option<Tokens>,
    /// One line of JSON per request on standard output.
    pub access_log: bool,
    /// Folder of the files that [`super::secret_files`] makes: with it Envoy takes new certificates while it runs. `None`:
    /// certificates are read once.
    pub sds_dir: Option<PathBuf>,
    pub plan_by: PlanBy,
    /// The deployments' clusters, in place of xDS.
    pub clusters: Option<Vec<serde_json::Value>>,
}

/// How Envoy's router finds the cluster of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanBy {
    /// In the plan itself: Envoy 1.40.
    Groups,
    /// By a matcher that knows these clusters: Envoy 1.39.
    Matcher(Vec<Named>),
}

impl BootstrapOptions {
    /// Options with defaults: port 4000, admin on 9901, requests up to an hour, silence up to ten minutes.
    #[must_use]
    pub fn new(sidecar: SidecarAddress, wasm: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 4000)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9901)),
            sidecar,
            wasm,
            gate: GateConfig::default(),
            node_id: "attache".to_owned(),
            request_timeout: Duration::from_secs(3600),
            stall_timeout: Duration::from_secs(600),
            upload_timeout: Duration::from_secs(300),
            tls: None,
            tokens: None,
            access_log: true,
            plan_by: PlanBy::Groups,
            clusters: None,
            sds_dir: None,
        }
    }

    /// How Envoy gets its certificates.
    pub(super) fn certificates(&self) -> Certificates<'_> {
        Certificates { sds_dir: self.sds_dir.as_deref() }
    }
}

/// Renders the bootstrap, comments included.
///
/// # Errors
///
/// A path that is not UTF-8, a body limit over 4 GiB (Envoy's field has 32 bits), a stall timeout of zero, a JWKS URL that
/// is none.
pub fn render(options: &BootstrapOptions) -> Result<String> {
    if options.stall_timeout.is_zero() || options.request_timeout.is_zero() {
        bail!("timeouts of zero would mean no timeout at all to Envoy");
    }
    let mut template = Template::default();
    template.addresses(options)?;
    template.timeouts(options);
    template.sidecar(options)?;
    template.tls(options)?;
    template.tokens(options)?;
    // The gate reads the header under the same condition.
    template.string("xfcc", if options.gate.trust_xfcc { "ALWAYS_FORWARD_ONLY" } else { "SANITIZE" });
    let body = u32::try_from(options.gate.max_body_bytes).context("max_body_bytes must be below 4 GiB")?;
    template.number("max_body_bytes", body.into());
    template.string("gate_config", &serde_json::to_string(&options.gate)?);
    template.path("wasm", &options.wasm)?;
    template.decisions(options.gate.decisions);
    template.plan(options);
    template.number("max_redirects", u64::from(MAX_PASSES).saturating_sub(1));
    template.string("replan_cluster", REPLAN_CLUSTER);
    template.string("wait_header", WAIT_HEADER);
    template.flag("access_log", options.access_log);
    template.block("local_replies", local_replies());
    template.block("access_logs", access_logs());
    template.block("admin_routes", admin_routes(options.gate.decisions));
    template.fill(TEMPLATE)
}

/// Values of the placeholders, and the blocks to keep.
#[derive(Default)]
struct Template {
    values: BTreeMap<&'static str, String>,
    blocks: BTreeSet<&'static str>,
}

impl Template {
    fn string(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, serde_json::Value::from(value).to_string());
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.values.insert(name, value.to_string());
    }

    fn path(&mut self, name: &'static str, path: &Path) -> Result<()> {
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        self.string(name, text);
        Ok(())
    }

    /// Whole lines of YAML, already indented.
    fn block(&mut self, name: &'static str, yaml: String) {
        self.values.insert(name, yaml.trim_end().to_owned());
    }

    fn flag(&mut self, name: &'static str, on: bool) {
        if on {
            self.blocks.insert(name);
        }
    }

    fn addresses(&mut self, options: &BootstrapOptions) -> Result<()> {
        self.string("node_id", &options.node_id);
        self.string("listen_host", &options.listen.ip().to_string());
        self.number("listen_port", options.listen.port().into());
        self.string("admin_host", &options.admin.ip().to_string());
        self.number("admin_port", options.admin.port().into());
        Ok(())
    }

    fn decisions(&mut self, decisions: Decisions) {
        self.flag("ext_proc", decisions == Decisions::ExtProc);
        self.string("plan_header", PLAN_HEADER);
        self.string("plan_namespace", METADATA_NAMESPACE);
        self.string("plan_key", PLAN_KEY);
    }

    fn plan(&mut self, options: &BootstrapOptions) {
        let matcher = match &options.plan_by {
            PlanBy::Groups => None,
            PlanBy::Matcher(clusters) => Some(clusters),
        };
        let batched = options.gate.decisions == Decisions::Batched;
        self.flag("xds", options.clusters.is_none());
        self.flag("groups", matcher.is_none());
        self.flag("groups_batched", matcher.is_none() && batched);
        self.flag("matcher", matcher.is_some());
        self.flag("reroute", matcher.is_some() || batched);
        let kept = if matcher.is_some() { steps::kept() } else { serde_json::json!([]) };
        self.block("kept", yaml::emit(&kept, 16));
        let specifier = matcher.map(|clusters| steps::specifier(clusters));
        self.block("matcher", yaml::emit(&specifier.unwrap_or_default(), 22));
        let clusters = options.clusters.clone().unwrap_or_default();
        self.flag("clusters", !clusters.is_empty());
        self.block("clusters", yaml::emit(&clusters.into(), 2));
    }

    fn timeouts(&mut self, options: &BootstrapOptions) {
        let margin = Duration::from_secs(10);
        self.string("request_timeout", &duration(options.request_timeout));
        self.string("stall_timeout", &duration(options.stall_timeout));
        self.string("idle_timeout", &duration(options.stall_timeout.saturating_add(margin)));
        self.string("upload_timeout", &duration(options.upload_timeout));
    }

    fn sidecar(&mut self, options: &BootstrapOptions) -> Result<()> {
        match &options.sidecar {
            SidecarAddress::Unix(path) => {
                self.flag("sidecar_unix", true);
                self.path("sidecar_path", path)
            }
            SidecarAddress::Tcp { host, port, ca, cert, key } => {
                self.flag("sidecar_tcp", true);
                self.string("sidecar_host", host);
                self.number("sidecar_port", (*port).into());
                // An address is no server name (RFC 6066), and is another kind of subject in the certificate.
                let is_ip = host.parse::<IpAddr>().is_ok();
                self.string("sidecar_sni", if is_ip { "" } else { host });
                let certificates = options.certificates();
                let own = certificates.own(Names::SIDECAR, cert, key, 10)?;
                let kind = if is_ip { "IP_ADDRESS" } else { "DNS" };
                let trust = certificates.trust(Names::SIDECAR_CA, ca, Trust::Host { kind, host }, 10)?;
                self.block("sidecar_certificate", own);
                self.block("sidecar_trust", trust);
                Ok(())
            }
        }
    }

    fn tls(&mut self, options: &BootstrapOptions) -> Result<()> {
        let Some(tls) = &options.tls else { return Ok(()) };
        let certificates = options.certificates();
        self.flag("tls", true);
        self.block("tls_certificate", certificates.own(Names::PUBLIC, &tls.cert, &tls.key, 12)?);
        if let Some(ca) = &tls.client_ca {
            self.flag("tls_client_ca", true);
            self.flag("tls_client_required", !tls.client_optional);
            self.block("tls_client_ca", certificates.trust(Names::CLIENTS, ca, Trust::Any, 12)?);
        }
        let Some(port) = tls.http3 else { return Ok(()) };
        self.flag("http3", true);
        self.flag("http3_access_log", options.access_log);
        self.string("alt_svc", &format!("h3=\":{port}\"; ma=86400"));
        self.block("http3_certificate", certificates.own(Names::PUBLIC, &tls.cert, &tls.key, 14)?);
        if let Some(ca) = &tls.client_ca {
            self.flag("http3_client_ca", true);
            self.flag("http3_client_required", !tls.client_optional);
            self.block("http3_client_ca", certificates.trust(Names::CLIENTS, ca, Trust::Any, 14)?);
        }
        Ok(())
    }

    fn tokens(&mut self, options: &BootstrapOptions) -> Result<()> {
        let Some(tokens) = &options.tokens else { return Ok(()) };
        self.flag("jwt", true);
        self.string("jwt_issuer", &tokens.issuer);
        self.values.insert("jwt_audiences", serde_json::to_string(&tokens.audiences)?);
        self.string("jwt_metadata", &options.gate.jwt_metadata);
        match &tokens.jwks {
            Jwks::File(path) => {
                self.flag("jwks_file", true);
                self.path("jwks_file", path)
            }
            Jwks::Url { url, ca } => {
                let base = ApiBase::parse(url)
                    .with_context(|| format!("{url:?} is no http(s)://host[:port]/path for the JWKS"))?;
                self.flag("jwks_url", true);
                self.flag("jwks_tls", base.tls);
                self.string("jwks_url", url);
                self.string("jwks_host", &base.host);
                self.number("jwks_port", base.port.into());
                self.path("jwks_ca", ca)
            }
        }
    }

    /// The text with blocks kept or dropped and placeholders replaced. A placeholder without a value is an error.
    fn fill(&self, text: &str) -> Result<String> {
        let mut out = String::with_capacity(text.len() * 2);
        let mut keep = true;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("#[[") {
                keep = self.blocks.contains(name);
            } else if line == "#]]" {
                keep = true;
            } else if keep {
                self.fill_line(line, &mut out)?;
                out.push('\n');
            }
        }
        Ok(out)
    }

    fn fill_line(&self, mut line: &str, out: &mut String) -> Result<()> {
        // Comments may speak of the syntax.
        if line.trim_start().starts_with('#') {
            out.push_str(line);
            return Ok(());
        }
        while let Some((before, rest)) = line.split_once("{{") {
            // `{{{name}}}` cannot occur: the template writes a space or a colon before each placeholder.
            let (name, after) =
                rest.split_once("}}").with_context(|| format!("unclosed placeholder: {line}"))?;
            let value = self.values.get(name).with_context(|| format!("no value for {{{{{name}}}}}"))?;
            out.push_str(before);
            out.push_str(value);
            line = after;
        }
        out.push_str(line);
        Ok(())
    }
}

/// Protobuf's JSON form of a duration.
fn duration(value: Duration) -> String {
    format!("{}.{:03}s", value.as_secs(), value.subsec_millis())
}

/// One of Envoy's own replies in the caller's words.
struct LocalReply {
    /// Access log filter that recognises it.
    filter: String,
    status: u16,
    message: &'static str,
    /// Seconds for `retry-after`.
    retry_after: Option<u32>,
}

fn status_filter(op: &str, status: u16) -> String {
    format!(
        "status_code_filter: {{comparison: {{op: {op}, value: {{default_value: {status}, runtime_key: attache.unused}}}}}}"
    )
}

fn flags_filter(flags: &str) -> String {
    format!("response_flag_filter: {{flags: [{flags}]}}")
}

/// Envoy's own replies, most specific first: the first mapper that matches wins.
fn local_reply_table() -> Vec<LocalReply> {
    let reply = |filter, status, message| LocalReply { filter, status, message, retry_after: None };
    let later = |filter, status, message| LocalReply { filter, status, message, retry_after: Some(1) };
    vec![
        reply(status_filter("EQ", 400), 400, "The request is not valid HTTP."),
        // The gate and the sidecar have their own words: these are tokens that Envoy did not accept.
        reply(status_filter("EQ", 401), 401, "The token is not valid."),
        reply(status_filter("EQ", 403), 403, "The token is not for this gateway."),
        reply(status_filter("EQ", 404), 404, "There is no such path here."),
        reply(status_filter("EQ", 408), 408, "The request did not arrive in time."),
        reply(status_filter("EQ", 413), 413, "The request body is too large."),
        later(status_filter("EQ", 429), 429, "Too many requests. Try again shortly."),
        reply(status_filter("EQ", 431), 431, "The request headers are too large."),
        later(status_filter("EQ", 502), 502, "The model's provider broke its answer off. Try again shortly."),
        later(
            flags_filter("UF, UC, UR, LR, UPE"),
            503,
            "The model's provider could not be reached. Try again shortly.",
        ),
        later(
            flags_filter("UH, NC, NR, UO"),
            503,
            "The gateway cannot serve this request right now. Try again shortly.",
        ),
        reply(status_filter("EQ", 504), 504, "The request timed out before an answer came."),
        later(
            status_filter("EQ", 503),
            503,
            "The gateway cannot decide on requests right now. Try again shortly.",
        ),
        reply(status_filter("GE", 500), 500, "The gateway failed to handle the request."),
    ]
}

fn local_replies() -> String {
    let indent = " ".repeat(12);
    let mut yaml = format!(
        "{indent}- filter:\n{indent}    or_filter:\n{indent}      filters:\n\
         {indent}      - header_filter: {{header: {{name: {REPLY_HEADER}, present_match: true}}}}\n"
    );
    for expression in
        ["response.code_details.startsWith('attache_')", "response.headers['x-litellm-call-id'] != ''"]
    {
        yaml.push_str(&format!(
            "{indent}      - extension_filter:\n\
             {indent}          name: envoy.access_loggers.extension_filters.cel\n\
             {indent}          typed_config:\n\
             {indent}            \"@type\": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter\n\
             {indent}            expression: \"{expression}\"\n"
        ));
    }
    for reply in local_reply_table() {
        let kind = kind_of_status(reply.status);
        yaml.push_str(&format!("{indent}- filter: {{{}}}\n", reply.filter));
        if let Some(seconds) = reply.retry_after {
            yaml.push_str(&format!(
                "{indent}  headers_to_add: [{{header: {{key: retry-after, value: \"{seconds}\"}}, append_action: ADD_IF_ABSENT}}]\n"
            ));
        }
        yaml.push_str(&format!(
            "{indent}  body_format_override: {{json_format: {{error: {{message: \"{} (request id: %REQ(X-REQUEST-ID)%)\", \
             type: {kind}, param: null, code: \"{}\"}}}}}}\n",
            reply.message, reply.status
        ));
    }
    yaml
}

fn admin_routes(decisions: Decisions) -> String {
    let indent = " ".repeat(14);
    let mut yaml = format!("{indent}# The sidecar's admin API: it authenticates its callers itself.\n");
    // Whole segments, the gate's own rule: what one lets pass the other must route.
    for prefix in ADMIN_PREFIXES {
        yaml.push_str(&format!(
            "{indent}- name: admin\n\
             {indent}  match: {{path_separated_prefix: {prefix}}}\n\
             {indent}  route: {{cluster: attache_sidecar, timeout: 60s, retry_policy: {{retry_on: refused-stream, num_retries: 1}}}}\n"
        ));
        if decisions == Decisions::ExtProc {
            yaml.push_str(&format!(
                "{indent}  typed_per_filter_config: \n\
                 {indent}    envoy.filters.http.ext_proc: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute, disabled: true}}\n"
            ));
        }
    }
    yaml
}

fn access_logs() -> String {
    let indent = " ".repeat(10);
    let entry = |filter: &str, path: &str| {
        // A pass that was planned anew ends with a 307 that no client sees: one line for the request, not for each.
        let last_pass = status_filter("NE", 307);
        format!(
            "{indent}- name: envoy.access_loggers.stdout\n\
             {indent}  filter:\n\
             {indent}    and_filter:\n\
             {indent}      filters:\n\
             {indent}      - {last_pass}\n\
             {indent}      - header_filter: {{header: {{name: \":path\", string_match: {{prefix: /key/}}, invert_match: {filter}}}}}\n\
             {indent}  typed_config:\n\
             {indent}    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n\
             {indent}    log_format:\n\
             {indent}      json_format:\n{}",
            ACCESS_LOG_FIELDS
                .iter()
                .map(|(name, value)| {
                    let value = if *name == "path" { path } else { value };
                    format!("{indent}        {name}: \"{value}\"\n")
                })
                .collect::<String>()
        )
    };
    entry("true", "%PATH(NQ)%") + &entry("false", "/key/")
}

const ACCESS_LOG_FIELDS: [(&str, &str); 18] = [
    ("time", "%START_TIME%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("call_id", "%RESP(X-LITELLM-CALL-ID)%"),
    ("route", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", ""),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("group", "%RESP(X-LITELLM-MODEL-GROUP)%"),
    ("deployment", "%RESP(X-LITELLM-MODEL-ID)%"),
    ("cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("duration_ms", "%DURATION%"),
    ("first_byte_ms", "%RESPONSE_DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
];

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
