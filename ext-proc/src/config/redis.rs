//! The Redis of the counters, wherever LiteLLM's users name it.

use serde::Deserialize;
use serde_yaml_ng::Value;

use super::issue::{Findings, Place};
use super::{Config, Env, RouterSettings, Secret, walk};
use crate::store::{RedisNodes, RedisServers};

const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];

/// Host and port of a node.
pub(super) type Node = (String, u16);

/// `general_settings.coordination_redis`, `litellm_settings.cache_params`, and `redis_*` of the router.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RedisSettings {
    /// Of `cache_params`: what is cached in. Other kinds than Redis name none.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub url: Option<Secret>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub db: Option<u32>,
    pub ssl: Option<bool>,
    pub ssl_ca_certs: Option<String>,
    /// Of a cluster.
    #[serde(alias = "redis_startup_nodes")]
    pub startup_nodes: Vec<Node>,
    pub sentinel_nodes: Vec<Node>,
    pub service_name: Option<String>,
    pub sentinel_password: Option<Secret>,
}

impl RedisSettings {
    fn of_router(router: &RouterSettings) -> Self {
        let router = router.clone();
        Self {
            kind: None,
            url: router.redis_url,
            host: router.redis_host,
            port: router.redis_port,
            username: router.redis_username,
            password: router.redis_password,
            db: router.redis_db,
            ssl: router.redis_ssl,
            ssl_ca_certs: router.redis_ssl_ca_certs,
            startup_nodes: router.redis_startup_nodes,
            sentinel_nodes: router.redis_sentinel_nodes,
            service_name: router.redis_service_name,
            sentinel_password: router.redis_sentinel_password,
        }
    }

    /// LiteLLM's variables.
    fn of_environment(env: &Env, findings: &mut Findings) -> Self {
        let text = |name: &str| env.first(&[name]).map(|(_, value)| value.to_owned());
        let mut wrong = |name: &str, expected: &str| {
            let message = format!("environment variable {name}: expected {expected}");
            findings.error(&Place::default(), message);
        };
        let mut number = |name: &str, expected: &str| -> Option<u32> {
            // Kubernetes sets `REDIS_PORT=tcp://...` where a service is called `redis`.
            let value = text(name).filter(|value| !value.contains("://"))?;
            let number = value.trim().parse().ok();
            number.is_none().then(|| wrong(name, expected));
            number
        };
        let port = number("REDIS_PORT", "a port number").and_then(|port| u16::try_from(port).ok());
        let db = number("REDIS_DB", "a whole number");
        let mut nodes = |name: &str| -> Vec<Node> {
            let Some(value) = text(name) else { return Vec::new() };
            let read = walk::nodes(&Value::String(value));
            if read.is_none() {
                wrong(name, "a JSON list such as `[{\"host\": \"a\", \"port\": 6379}]`");
            }
            read.unwrap_or_default()
        };
        Self {
            kind: None,
            url: text("REDIS_URL").map(Secret::new),
            host: text("REDIS_HOST"),
            port,
            username: text("REDIS_USERNAME"),
            password: text("REDIS_PASSWORD").map(Secret::new),
            db,
            ssl: text("REDIS_SSL").and_then(|value| walk::boolean(&Value::String(value))),
            ssl_ca_certs: text("REDIS_SSL_CA_CERTS"),
            startup_nodes: nodes("REDIS_CLUSTER_NODES"),
            sentinel_nodes: nodes("REDIS_SENTINEL_NODES"),
            service_name: text("REDIS_SERVICE_NAME"),
            sentinel_password: text("REDIS_SENTINEL_PASSWORD").map(Secret::new),
        }
    }

    /// Does it name a server?
    fn is_complete(&self) -> bool {
        self.url.is_some()
            || self.host.is_some()
            || !self.startup_nodes.is_empty()
            || !self.sentinel_nodes.is_empty()
    }

    /// What it does not say of its servers, another source says, if that matters to them. A URL says everything.
    fn or(mut self, other: &Self) -> Self {
        if self.url.is_none() {
            self.port = self.port.or(other.port);
            self.username = self.username.or_else(|| other.username.clone());
            self.password = self.password.or_else(|| other.password.clone());
            self.ssl = self.ssl.or(other.ssl);
            if self.startup_nodes.is_empty() {
                self.db = self.db.or(other.db);
            }
        }
        if !self.sentinel_nodes.is_empty() {
            self.service_name = self.service_name.or_else(|| other.service_name.clone());
            self.sentinel_password = self.sentinel_password.or_else(|| other.sentinel_password.clone());
        }
        if self.is_tls() {
            self.ssl_ca_certs = self.ssl_ca_certs.or_else(|| other.ssl_ca_certs.clone());
        }
        self
    }

    fn is_tls(&self) -> bool {
        self.ssl == Some(true) || self.url.as_ref().is_some_and(|url| url.expose().starts_with("rediss://"))
    }
}

/// Where settings stand, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Coordination,
    Router,
    Cache,
    Environment,
}

impl Source {
    fn place(self, field: &str) -> Place {
        match self {
            Self::Coordination => Place::at("general_settings.coordination_redis").key(field),
            Self::Router => Place::at("router_settings").key(&format!("redis_{field}")),
            Self::Cache => Place::at("litellm_settings.cache_params").key(field),
            Self::Environment => Place::default(),
        }
    }

    fn name(self, field: &str) -> String {
        match self {
            Self::Router => format!("redis_{field}"),
            Self::Environment if field == "startup_nodes" => "REDIS_CLUSTER_NODES".to_owned(),
            Self::Environment => format!("REDIS_{}", field.to_ascii_uppercase()),
            Self::Coordination | Self::Cache => field.to_owned(),
        }
    }
}

/// The servers, if any are named: the first source that does so counts, and the environment says what that leaves out.
pub(super) fn servers(config: &Config, env: &Env, findings: &mut Findings) -> Option<RedisServers> {
    let router = RedisSettings::of_router(&config.router_settings);
    let coordination = config.general_settings.coordination_redis.clone();
    let cache = config.litellm_settings.cache_params.clone();
    let is_redis = cache.kind.as_deref().is_none_or(|kind| kind.starts_with("redis"));
    let environment = RedisSettings::of_environment(env, findings);
    let sources = [
        (Source::Coordination, coordination),
        (Source::Router, router.clone()),
        (Source::Cache, if is_redis { cache } else { RedisSettings::default() }),
    ];
    let named = sources.into_iter().find(|(_, settings)| settings.is_complete());
    let (source, settings) = match named {
        Some((source, settings)) => (source, settings.or(&environment)),
        None if environment.is_complete() => {
            let RedisSettings { url, host, startup_nodes, sentinel_nodes, .. } = environment.clone();
            let named =
                RedisSettings { url, host, startup_nodes, sentinel_nodes, ..RedisSettings::default() };
            // What stands in the file comes first.
            let named = named.or(&router).or(&environment);
            // LiteLLM's clients of a URL do not look at the variable either.
            (Source::Environment, RedisSettings { ssl: named.ssl.filter(|_| named.url.is_none()), ..named })
        }
        None => {
            strays(&router, findings);
            return None;
        }
    };
    read(source, settings, findings)
}

/// Settings of a Redis that nobody names.
fn strays(router: &RedisSettings, findings: &mut Findings) {
    for (field, set) in [
        ("port", router.port.is_some()),
        ("username", router.username.is_some()),
        ("password", router.password.is_some()),
        ("db", router.db.is_some()),
        ("ssl", router.ssl == Some(true)),
        ("ssl_ca_certs", router.ssl_ca_certs.is_some()),
        ("service_name", router.service_name.is_some()),
        ("sentinel_password", router.sentinel_password.is_some()),
    ] {
        if set {
            let message = "set without `redis_host`: counters would stay in this process";
            findings.error(&Source::Router.place(field), message);
        }
    }
}

fn read(source: Source, settings: RedisSettings, findings: &mut Findings) -> Option<RedisServers> {
    let before = findings.errors.len();
    let mut error = |field: &str, message: &str| {
        let message = match source {
            Source::Environment => format!("environment variable {}: {message}", source.name(field)),
            _ => message.to_owned(),
        };
        findings.error(&source.place(field), message);
    };
    let url = settings.url.as_ref().map(Secret::expose);
    if url.is_some_and(|url| !SCHEMES.iter().any(|scheme| url.starts_with(scheme))) {
        error("url", "must start with redis:// or rediss://");
    } else if url.is_some_and(|url| ::redis::parse_redis_url(url).is_none()) {
        error("url", "not a URL; special characters of a password must be escaped (`%40` is `@`)");
    }
    if settings.host.as_ref().is_some_and(|host| host.contains(['/', '@', ' ']) || host.contains("://")) {
        error("host", &format!("must be a host name alone; a URL goes to `{}`", source.name("url")));
    }
    let nodes = nodes(source, &settings, &mut error);
    let is_unix = url.is_some_and(|url| url.contains("unix://"));
    if is_unix && nodes != RedisNodes::One {
        error("url", "the nodes of a cluster, and sentinels, have no Unix sockets");
    }
    let is_tls = settings.is_tls();
    if is_unix && is_tls {
        error("ssl", "a Unix socket has no TLS");
    }
    if settings.ssl_ca_certs.is_some() && !is_tls {
        error("ssl_ca_certs", &format!("has no effect without TLS: set `{}`", source.name("ssl")));
    }
    if settings.url.is_some() && settings.host.is_some() {
        let message = format!("`{}` is set too, and wins", source.name("url"));
        findings.warn(&source.place("host"), message);
    }
    if findings.errors.len() > before {
        return None;
    }
    let url = Secret::new(address(&settings, is_tls));
    Some(RedisServers { url, nodes, ca_certs: settings.ssl_ca_certs.map(Into::into) })
}

fn nodes(source: Source, settings: &RedisSettings, error: &mut impl FnMut(&str, &str)) -> RedisNodes {
    let RedisSettings { startup_nodes, sentinel_nodes, service_name, .. } = settings;
    match (startup_nodes.is_empty(), sentinel_nodes.is_empty()) {
        (false, false) => error("sentinel_nodes", "a cluster has no sentinels; set one of the two"),
        (false, true) if settings.db.is_some_and(|db| db > 0) => {
            error("db", "a cluster has database 0 alone")
        }
        (true, false) if service_name.is_none() => {
            let name = source.name("service_name");
            error("sentinel_nodes", &format!("`{name}` is missing: which primary do they watch?"));
        }
        (true, true) if service_name.is_some() && source != Source::Environment => {
            error("service_name", &format!("set without `{}`", source.name("sentinel_nodes")));
        }
        _ => {}
    }
    if !startup_nodes.is_empty() {
        return RedisNodes::Cluster(startup_nodes.clone());
    }
    match service_name {
        Some(service) if !sentinel_nodes.is_empty() => RedisNodes::Sentinels {
            nodes: sentinel_nodes.clone(),
            service: service.clone(),
            password: settings.sentinel_password.clone(),
        },
        _ => RedisNodes::One,
    }
}

/// Everything in one URL.
fn address(settings: &RedisSettings, is_tls: bool) -> String {
    if let Some(url) = &settings.url {
        let url = url.expose();
        return match url.strip_prefix("redis://") {
            Some(rest) if is_tls => format!("rediss://{rest}"),
            _ => url.to_owned(),
        };
    }
    let user = settings.username.as_deref().map(percent_encode).unwrap_or_default();
    let password = settings.password.as_ref().map(|secret| percent_encode(secret.expose()));
    let login = match password {
        Some(password) => format!("{user}:{password}@"),
        None if user.is_empty() => String::new(),
        None => format!("{user}@"),
    };
    let node = settings.startup_nodes.iter().chain(&settings.sentinel_nodes).next();
    let host = settings.host.as_deref().or_else(|| node.map(|(host, _)| host.as_str())).unwrap_or_default();
    // An IPv6 address needs brackets in a URL.
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let scheme = if is_tls { "rediss" } else { "redis" };
    let port = settings.port.unwrap_or(6379);
    let db = settings.db.map(|db| db.to_string()).unwrap_or_default();
    format!("{scheme}://{login}{host}:{port}/{db}")
}

/// Everything but unreserved characters, so that any password survives the URL.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
