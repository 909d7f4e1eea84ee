//! From an entry of `model_list` to a deployment: where it is, with which credential, at which price.

use std::collections::{HashMap, HashSet};

use attache_llm::contract::{self, DeploymentMeta};
use attache_llm::price::Price;
use attache_llm::provider::{self, ApiBase, Provider, ProviderInfo};
use attache_llm::wildcard;
use sha2::{Digest, Sha256};

use super::issue::{Findings, Place, did_you_mean};
use super::places::{self, Locality};
use super::providers::NOT_YET;
use super::{Config, Env, LitellmSettings, ModelEntry, Secret, abilities, access, rates, routes, seconds};
use crate::credentials::Credential;
use crate::prices::{ModelPrice, PriceTable};
use crate::routing::Deployment;

/// Its thresholds count when they are reached.
const XAI: &str = "xai";

/// What Anthropic's API is asked for when the client does not say.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Headers that carry a credential: they travel as one, over SDS, never in metadata.
const CREDENTIAL_WORDS: [&str; 5] = ["authorization", "api-key", "apikey", "token", "secret"];

/// Every deployment that can be served, in the order of the file. What cannot is a finding.
pub(super) fn deployments(
    config: &Config,
    env: &Env,
    prices: &PriceTable,
    findings: &mut Findings,
) -> Vec<Deployment> {
    let mut seen = Seen::default();
    let list = Place::at("model_list");
    let mut out = Vec::with_capacity(config.model_list.len());
    for (at, entry) in config.model_list.iter().enumerate() {
        let place = list.index(at);
        if entry.blocked || entry.model_info.blocked {
            findings.warn(&place, "blocked: not served");
            continue;
        }
        let max_parallel = config.router_settings.default_max_parallel_requests;
        let resolver =
            Resolver { entry, env, prices, place, settings: &config.litellm_settings, max_parallel };
        if let Some(deployment) = resolver.deployment(&mut seen, findings) {
            out.push(deployment);
        }
    }
    out
}

#[derive(Default)]
struct Seen {
    ids: HashMap<String, Place>,
    /// How often the same group and parameters came: two entries may differ by their key alone.
    same: HashMap<String, usize>,
    clusters: HashSet<String>,
}

struct Resolver<'a> {
    entry: &'a ModelEntry,
    env: &'a Env,
    prices: &'a PriceTable,
    place: Place,
    settings: &'a LitellmSettings,
    /// `default_max_parallel_requests`.
    max_parallel: Option<u64>,
}

impl Resolver<'_> {
    fn deployment(&self, seen: &mut Seen, findings: &mut Findings) -> Option<Deployment> {
        let params = &self.entry.litellm_params;
        let group = self.entry.model_name.as_str();
        let (info, model) = self.provider(findings)?;
        if wildcard::is_pattern(model) && !wildcard::is_pattern(group) {
            findings.error(&self.at("model"), "has a `*`, but `model_name` has none to take it from");
            return None;
        }
        let id = self.id(seen, findings)?;
        let locality = self.locality(info, model, findings)?;
        let model = locality.model.as_str();
        let base = self.base(info, &locality, findings)?;
        let region = locality.region.as_deref();
        let (credential, headers) = self.headers(info, region, findings)?;
        let known = self.known_price(info, model, region);
        let adjust = rates::adjust(self.settings, info.name);
        let price = self.price(info, known).map(|price| price.adjusted(adjust));
        let cluster = seen.cluster(group, info.name, &id, self.entry.model_info.id.is_none());
        let meta = DeploymentMeta {
            contract: contract::VERSION,
            id,
            group: group.to_owned(),
            provider: locality.provider,
            model: model.to_owned(),
            base_path: locality.base_path(info, &base),
            authority: base.authority,
            api_version: self.api_version(info, base.api_version),
            stream_options: info.stream_options,
            responses: info.responses,
            params: abilities::rules(params, self.settings),
            caps: abilities::capabilities(&self.entry.model_info, known),
            headers,
            price,
        };
        Some(Deployment {
            cluster,
            provider_name: info.name,
            adjust,
            host: base.host,
            port: base.port,
            tls: base.tls,
            credential,
            weight: params.weight,
            rpm: self.entry.rpm.or(params.rpm),
            tpm: self.entry.tpm.or(params.tpm),
            max_parallel: params.max_parallel_requests.or(self.max_parallel),
            order: params.order,
            tags: params.tags.clone(),
            access_groups: self.entry.model_info.access_groups.clone(),
            max_input_tokens: self.entry.model_info.max_input_tokens.or_else(|| known?.max_input_tokens),
            region: (params.region_name.clone())
                .or_else(|| self.entry.model_info.region.clone())
                .or_else(|| locality.region.clone()),
            budget: routes::budget(params.max_budget, params.budget_duration),
            num_retries: params.num_retries.or(params.max_retries),
            timeout: params.timeout.map(seconds),
            stream_timeout: params.stream_timeout.map(seconds),
            allowed_fails: self.entry.model_info.allowed_fails,
            allowed_fails_policy: routes::allowed_fails(&self.entry.model_info.allowed_fails_policy),
            mirror: params.mirror.clone(),
            cooldown: params.cooldown_time.or(self.entry.model_info.cooldown_time).map(seconds),
            mode: self.entry.model_info.mode.clone().or_else(|| known?.mode.clone()),
            ..Deployment::new(meta)
        })
    }

    fn at(&self, name: &str) -> Place {
        self.place.key("litellm_params").key(name)
    }

    /// Row of the provider table and the provider's own model name.
    fn provider(&self, findings: &mut Findings) -> Option<(&'static ProviderInfo, &str)> {
        let params = &self.entry.litellm_params;
        if let Some(forced) = params.custom_llm_provider.as_deref() {
            return match provider::lookup(forced) {
                Some(info) => {
                    let (split, rest) = provider::split_model(&params.model);
                    Some((info, if split.name == info.name { rest } else { params.model.as_str() }))
                }
                None => self.unknown_provider(forced, "custom_llm_provider", findings),
            };
        }
        let (info, model) = provider::split_model(&params.model);
        if model.is_empty() {
            findings.error(&self.at("model"), "names a provider but no model");
            return None;
        }
        // Without a known prefix the row is OpenAI's and the model is whole.
        let prefix = params.model.split_once('/').map(|(prefix, _)| prefix);
        let Some(prefix) = prefix.filter(|_| model.len() == params.model.len()) else {
            return Some((info, model));
        };
        if NOT_YET.contains(&prefix) || params.api_base.is_none() {
            return self.unknown_provider(prefix, "model", findings);
        }
        Some((info, model))
    }

    fn unknown_provider<T>(&self, name: &str, key: &str, findings: &mut Findings) -> Option<T> {
        if NOT_YET.contains(&name) {
            findings.warn(
                &self.at(key),
                format!(
                    "provider `{name}` is not implemented yet: this deployment is left out; if it speaks OpenAI's \
                     dialect, write `openai/<model>` with its api_base"
                ),
            );
        } else {
            let names = provider::PROVIDERS.iter().map(|row| row.name).chain(NOT_YET.iter().copied());
            findings.error(
                &self.at(key),
                format!(
                    "no provider is called `{name}` (for a server of your own, set api_base){}",
                    did_you_mean(name, names)
                ),
            );
        }
        None
    }

    /// `model_info.id`, or a hash that stays the same when limits, prices, timeouts or the key change.
    fn id(&self, seen: &mut Seen, findings: &mut Findings) -> Option<String> {
        if let Some(id) = &self.entry.model_info.id {
            let here = self.place.key("model_info").key("id");
            if id.len() > 128 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
                findings.error(&here, "a deployment id is at most 128 visible ASCII characters");
                return None;
            }
            if let Some(first) = seen.ids.insert(id.clone(), here.clone()) {
                findings.error(&here, format!("the id is taken already, by {first}"));
                return None;
            }
            return Some(id.clone());
        }
        let params = &self.entry.litellm_params;
        let mut text = format!("{}\n{}", self.entry.model_name, params.model);
        for part in [&params.custom_llm_provider, &params.api_base, &params.api_version, &params.organization]
        {
            text.push('\n');
            text.push_str(part.as_deref().unwrap_or_default());
        }
        let count = seen.same.entry(text.clone()).or_default();
        *count += 1;
        let id = digest(&format!("{text}\n{count}"), 16);
        seen.ids.insert(id.clone(), self.place.clone());
        Some(id)
    }

    fn locality(&self, info: &ProviderInfo, model: &str, findings: &mut Findings) -> Option<Locality> {
        let params = &self.entry.litellm_params;
        let project = || access::google_project(params, self.env);
        let found = places::locality(info, model, params, self.env, project);
        found.map_err(|error| findings.error(&self.place.key("litellm_params"), error)).ok()
    }

    fn base(&self, info: &ProviderInfo, locality: &Locality, findings: &mut Findings) -> Option<ApiBase> {
        let params = &self.entry.litellm_params;
        let from_env = || self.env.first(info.base_env);
        let (url, source) = match (&params.api_base, &locality.url) {
            (Some(url), _) => (url.as_str(), "it".to_owned()),
            (None, own) => match (from_env(), own.as_deref().or(info.base_url)) {
                (Some((name, url)), _) => (url, format!("environment variable {name}")),
                (None, Some(url)) => (url, "the provider's own".to_owned()),
                (None, None) => {
                    let variables = info.base_env.join(" or ");
                    let hint = if variables.is_empty() { variables } else { format!(" (or {variables})") };
                    let message = format!("provider `{}` needs `api_base`{hint}", info.name);
                    findings.error(&self.place.key("litellm_params"), message);
                    return None;
                }
            },
        };
        let base = ApiBase::parse(url);
        if base.is_none() {
            let message = "is not an http(s)://host[:port][/path] URL without user and password";
            findings.error(&self.at("api_base"), format!("{source} {message}"));
        }
        base
    }

    fn api_version(&self, info: &ProviderInfo, of_url: Option<String>) -> Option<String> {
        if info.provider != Provider::Azure {
            return None;
        }
        let of_env = || self.env.first(&["AZURE_API_VERSION"]).map(|(_, version)| version.to_owned());
        let given = self.entry.litellm_params.api_version.clone();
        given.or(of_url).or_else(of_env).or_else(|| Some(provider::AZURE_API_VERSION.to_owned()))
    }

    /// The credential, and the headers that carry none.
    #[expect(clippy::type_complexity, reason = "one caller, which takes it apart at once")]
    fn headers(
        &self,
        info: &ProviderInfo,
        region: Option<&str>,
        findings: &mut Findings,
    ) -> Option<(Option<Credential>, Vec<(String, String)>)> {
        let params = &self.entry.litellm_params;
        let mut credential = None;
        let mut headers = Vec::new();
        for (name, value) in &params.extra_headers {
            let place = self.at("extra_headers").key(name);
            let name = header_name(name, &place, findings)?;
            if http::HeaderValue::from_str(value).is_err() {
                findings.error(&place, "not a header value: control characters or not ASCII");
                return None;
            }
            if CREDENTIAL_WORDS.iter().any(|word| name.contains(word)) {
                if credential.is_some() || params.api_key.is_some() {
                    findings.error(
                        &place,
                        "a second credential: a deployment has one (`api_key` or one such header)",
                    );
                    return None;
                }
                credential = Some(Credential::Header(name, Secret::new(value)));
            } else {
                headers.push((name, value.clone()));
            }
        }
        let given = |wanted: &str| headers.iter().any(|(name, _)| name == wanted);
        let own: Vec<_> = self.own_headers(info).filter(|(name, _)| !given(name)).collect();
        headers.splice(0..0, own);
        let credential = match credential {
            Some(credential) => Some(credential),
            None => self.credential(info, region, findings)?,
        };
        Some((credential, headers))
    }

    /// Headers that parameters or the provider ask for; `extra_headers` win.
    fn own_headers(&self, info: &ProviderInfo) -> impl Iterator<Item = (String, String)> {
        let params = &self.entry.litellm_params;
        let version = (info.provider == Provider::Anthropic).then_some(ANTHROPIC_VERSION);
        let given = [
            ("openai-organization", params.organization.as_deref()),
            ("openai-project", params.cloud.project.as_deref()),
            ("anthropic-version", version),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
    }

    /// The outer `None` is an error.
    #[expect(clippy::option_option, reason = "no credential and an error are different answers")]
    fn credential(
        &self,
        info: &ProviderInfo,
        region: Option<&str>,
        findings: &mut Findings,
    ) -> Option<Option<Credential>> {
        let params = &self.entry.litellm_params;
        match access::credential(info, params, region, self.env) {
            Ok(Some(credential)) => return Some(Some(credential)),
            Ok(None) => {}
            Err(error) => {
                findings.error(&self.place.key("litellm_params"), error);
                return None;
            }
        }
        if info.key_optional {
            return Some(None);
        }
        let variables = info.key_env.join(" nor ");
        if params.api_base.is_some() && info.provider == Provider::Openai {
            findings.warn(
                &self.place,
                format!("no `api_key`, and {variables} is not set: called without a credential"),
            );
            return Some(None);
        }
        findings.error(&self.place, format!("no `api_key`, and {variables} is not set"));
        None
    }

    /// The price table's row: by `base_model` if the table has it, else by provider and model.
    fn known_price(&self, info: &ProviderInfo, model: &str, region: Option<&str>) -> Option<&ModelPrice> {
        let base =
            self.entry.model_info.base_model.as_ref().or(self.entry.litellm_params.base_model.as_ref());
        let base = base
            .and_then(|base| self.prices.lookup(base).or_else(|| self.prices.lookup_for(info.name, base)));
        let here = || self.prices.lookup(&format!("{}/{}/{model}", info.name, region?));
        base.or_else(here).or_else(|| self.prices.lookup_for(info.name, model))
    }

    /// The file's prices over the table's.
    fn price(&self, info: &ProviderInfo, known: Option<&ModelPrice>) -> Option<Price> {
        let (params, about) = (&self.entry.litellm_params, &self.entry.model_info);
        let own = rates::overrides(&params.prices, &about.prices, info.name == XAI);
        let listed = known.and_then(|row| row.price.as_ref());
        match listed {
            None if own.is_empty() => None,
            None => Some(Price::new(own)),
            Some(listed) if own.is_empty() => Some(listed.clone()),
            Some(listed) => Some(listed.with(own)),
        }
    }
}

fn header_name(name: &str, place: &Place, findings: &mut Findings) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let reserved = ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade"];
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        findings.error(place, "not a header name");
        return None;
    }
    if reserved.contains(&name.as_str())
        || name.starts_with(contract::HEADER_PREFIX)
        || name.starts_with("x-envoy-")
    {
        findings.error(place, "this header is the gateway's own");
        return None;
    }
    Some(name)
}

impl Seen {
    /// `{group}/{provider}/{id8}`, unique.
    fn cluster(&mut self, group: &str, provider: &str, id: &str, hashed: bool) -> String {
        // Ids that people choose tend to share their beginning.
        let hash = if hashed { id.to_owned() } else { digest(id, 16) };
        let plain = |text: &str| -> String {
            let keep = |c: char| c.is_ascii_alphanumeric() || "_/-".contains(c);
            text.chars().map(|c| if keep(c) { c } else { '_' }).collect()
        };
        let stem = format!("{}/{}", plain(group), plain(provider));
        let short = format!("{stem}/{}", hash.get(..8).unwrap_or(&hash));
        let name = if self.clusters.contains(&short) { format!("{stem}/{}", digest(id, 32)) } else { short };
        self.clusters.insert(name.clone());
        name
    }
}

/// The first characters of the hex SHA-256.
fn digest(text: &str, length: usize) -> String {
    let mut hex = hex::encode(Sha256::digest(text.as_bytes()));
    hex.truncate(length);
    hex
}
