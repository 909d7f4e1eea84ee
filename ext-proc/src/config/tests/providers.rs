//! Providers with regions, projects and accounts, as the file names them.

use std::path::Path;

use attache_llm::provider::Provider;

use super::{Folder, assert_some, env, errors, errors_with, load_text};
use crate::config::Secret;
use crate::credentials::{AwsSource, Credential, EntraProof, GoogleSource, Source, WebIdentity};
use crate::prices::PriceTable;
use crate::routing::{Deployment, Snapshot};

fn file(params: &str) -> String {
    format!("model_list:\n  - {{model_name: m, litellm_params: {{{params}}}}}\n")
}

/// The only deployment of these parameters.
fn resolved(params: &str, more: &[(&str, &str)]) -> Deployment {
    let env = env().with(more.iter().copied());
    let loaded = load_text(&file(params), &env).unwrap_or_else(|errors| panic!("{errors}"));
    let snapshot = crate::config::snapshot(&loaded.config, &PriceTable::embedded(), 1, &env).unwrap();
    only(snapshot)
}

fn only(snapshot: Snapshot) -> Deployment {
    let mut all = snapshot.deployments.into_values();
    let one = all.next().unwrap();
    assert!(all.next().is_none());
    drop(snapshot.groups);
    std::sync::Arc::into_inner(one).unwrap()
}

fn url(deployment: &Deployment) -> String {
    let scheme = if deployment.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", deployment.meta.authority, deployment.meta.base_path)
}

fn header(deployment: &Deployment) -> (&str, &str) {
    match &deployment.credential {
        Some(Credential::Header(name, value)) => (name, value.expose()),
        other => panic!("{other:?}"),
    }
}

fn source(deployment: &Deployment) -> &Source {
    deployment.credential.as_ref().and_then(Credential::source).unwrap_or_else(|| panic!("{deployment:?}"))
}

/// A service account whose key is made for this test.
fn service_account() -> String {
    include_str!("../../credentials/testdata/service_account.json").to_owned()
}

#[test]
fn bedrock_models_say_where_they_are() {
    for (model, region, id) in [
        ("bedrock/anthropic.claude-x-v1:0", "us-west-2", "anthropic.claude-x-v1:0"),
        ("bedrock/eu-central-1/amazon.nova-lite-v1:0", "eu-central-1", "amazon.nova-lite-v1:0"),
        ("bedrock/converse/us.anthropic.claude-x-v1:0", "us-west-2", "us.anthropic.claude-x-v1:0"),
        ("bedrock/converse/us-gov-west-1/meta.llama", "us-gov-west-1", "meta.llama"),
        (
            "bedrock/arn:aws:bedrock:ap-southeast-2:123:inference-profile/apac.anthropic.claude",
            "ap-southeast-2",
            "arn:aws:bedrock:ap-southeast-2:123:inference-profile/apac.anthropic.claude",
        ),
    ] {
        let found = resolved(&format!("model: '{model}', api_key: k"), &[]);
        assert_eq!(found.meta.model, id);
        assert_eq!(found.region.as_deref(), Some(region));
        assert_eq!(url(&found), format!("https://bedrock-runtime.{region}.amazonaws.com"));
        assert_eq!(header(&found), ("authorization", "Bearer k"));
    }
    let given = resolved(
        "model: bedrock/m.x, api_key: k, aws_region_name: eu-west-3",
        &[("AWS_REGION", "us-east-1")],
    );
    assert_eq!(given.region.as_deref(), Some("eu-west-3"));
    let of_env = resolved("model: bedrock/m.x, api_key: k", &[("AWS_REGION", "us-east-1")]);
    assert_eq!(of_env.region.as_deref(), Some("us-east-1"));
    let elsewhere = resolved("model: bedrock/m.x, api_key: k, api_base: 'http://127.0.0.1:9/x'", &[]);
    assert_eq!(url(&elsewhere), "http://127.0.0.1:9/x");
    assert_some(&errors(&file("model: bedrock/agent/x, api_key: k")), &["`bedrock/agent/` is not served"]);
    assert_some(&errors(&file("model: bedrock/x, aws_region_name: 'a.evil/'")), &["is no region"]);
}

#[test]
fn aws_credentials_in_the_order_of_litellm() {
    let env = [
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_BEARER_TOKEN_BEDROCK", "bearer"),
    ];
    let of_env = &env[..2];
    let none = resolved("model: bedrock/m.x", &[]);
    let region = "us-west-2".to_owned();
    assert_eq!(none.credential, Some(Credential::Signed { region, source: None }), "Envoy looks itself");
    assert_eq!(header(&resolved("model: bedrock/m.x", &env)), ("authorization", "Bearer bearer"));
    match source(&resolved("model: bedrock/m.x", of_env)) {
        Source::Aws(AwsSource::Keys(keys)) => assert_eq!(keys.id, "AKIAENV"),
        other => panic!("{other:?}"),
    }
    let own = "model: bedrock/m.x, aws_access_key_id: AKIAOWN, aws_secret_access_key: s";
    match source(&resolved(own, &env)) {
        Source::Aws(AwsSource::Keys(keys)) => assert_eq!(keys.id, "AKIAOWN"),
        other => panic!("{other:?}"),
    }
    let role = format!(
        "{own}, aws_role_name: 'arn:aws:iam::1:role/x', aws_external_id: e, aws_region_name: eu-west-1"
    );
    match source(&resolved(&role, &env)) {
        Source::Aws(AwsSource::Role { role, session, external_id, sts, with }) => {
            assert_eq!((role.as_str(), session.as_str()), ("arn:aws:iam::1:role/x", "attache"));
            assert_eq!(
                (external_id.as_deref(), sts.url.as_str()),
                (Some("e"), "https://sts.eu-west-1.amazonaws.com")
            );
            assert!(matches!(&**with, AwsSource::Keys(keys) if keys.id == "AKIAOWN"));
        }
        other => panic!("{other:?}"),
    }
    let web = "model: bedrock/m.x, aws_role_name: r, aws_web_identity_token: /var/token, aws_sts_endpoint: 'http://sts:1/'";
    match source(&resolved(web, &env)) {
        Source::Aws(AwsSource::WebIdentity { token, sts, .. }) => {
            assert_eq!(*token, WebIdentity::File("/var/token".into()));
            assert_eq!(sts.url, "http://sts:1");
        }
        other => panic!("{other:?}"),
    }
    assert_some(&errors(&file("model: bedrock/x, aws_access_key_id: a")), &["go together"]);
    assert_some(&errors(&file("model: bedrock/x, aws_role_name: r")), &["`aws_role_name` needs keys"]);
}

#[test]
fn vertex_has_hosts_by_location_and_paths_by_project() {
    let base = "vertex_project: p-1, vertex_credentials: '/nowhere'";
    assert_some(&errors(&file(&format!("model: vertex_ai/gemini-x, {base}"))), &["/nowhere cannot be read"]);
    let folder = Folder::new();
    let path = folder.write("sa.json", &service_account());
    let path = path.display();
    for (model, location, expected) in [
        (
            "gemini-2.5-pro",
            "us-central1",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p-1/locations/us-central1/publishers/google",
        ),
        (
            "gemini-2.5-pro",
            "global",
            "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global/publishers/google",
        ),
        (
            "claude-sonnet-4-5@20250929",
            "eu",
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/p-1/locations/eu/publishers/anthropic",
        ),
        (
            "1234567890",
            "us-east4",
            "https://us-east4-aiplatform.googleapis.com/v1/projects/p-1/locations/us-east4",
        ),
    ] {
        let params = format!(
            "model: vertex_ai/{model}, vertex_project: p-1, vertex_location: {location}, vertex_credentials: '{path}'"
        );
        let found = resolved(&params, &[]);
        assert_eq!(url(&found), expected);
        assert_eq!(found.region.as_deref(), Some(location));
        let claude = model.starts_with("claude");
        assert_eq!(found.meta.provider, if claude { Provider::VertexAnthropic } else { Provider::Vertex });
    }
    let elsewhere =
        format!("model: vertex_ai/gemini-x, vertex_credentials: '{path}', api_base: 'http://127.0.0.1:9'");
    let found = resolved(&elsewhere, &[]);
    assert_eq!(
        url(&found),
        "http://127.0.0.1:9/v1/projects/project-of-the-key/locations/us-central1/publishers/google",
        "project of the credentials"
    );
    let none = errors_with(&file("model: vertex_ai/gemini-x"), &env());
    assert_some(&none, &["no `vertex_project`"]);
    let machine = resolved("model: vertex_ai/gemini-x, vertex_project: p", &[]);
    assert_eq!(*source(&machine), Source::Google(GoogleSource::Metadata("metadata.google.internal".into())));
    let maas = errors(&file(&format!(
        "model: vertex_ai/meta/llama-4, vertex_project: p, vertex_credentials: '{path}'"
    )));
    assert_some(&maas, &["Claude and endpoints"]);
}

#[test]
fn google_credentials_come_as_path_text_or_map_and_are_checked() {
    let folder = Folder::new();
    let path = folder.write("sa.json", &service_account());
    let of_file = resolved(
        "model: vertex_ai/gemini-x, vertex_project: p",
        &[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())],
    );
    assert_eq!(*source(&of_file), Source::Google(GoogleSource::File(path)));
    for credentials in [service_account(), format!("'{}'", service_account().replace('\n', " "))] {
        let found = resolved(&format!("model: vertex_ai/gemini-x, vertex_credentials: {credentials}"), &[]);
        assert!(matches!(source(&found), Source::Google(GoogleSource::Json(_))));
        assert!(!format!("{found:?}").contains("PRIVATE"));
    }
    for (wrong, message) in [
        ("{type: service_account, client_email: e, private_key: geheim}", "no RSA key"),
        ("{type: service_account}", "a member of service_account is missing"),
        ("{type: external_account}", "neither service_account nor authorized_user"),
        ("{a: geheim}", "no JSON object with a `type`"),
    ] {
        let found = errors(&file(&format!(
            "model: vertex_ai/gemini-x, vertex_project: p, vertex_credentials: {wrong}"
        )));
        assert_some(&found, &["`vertex_credentials`", message]);
        assert!(!found.concat().contains("geheim"));
    }
}

#[test]
fn entra_applications_before_the_environments_key() {
    let base = "model: azure/d, api_base: 'https://x.openai.azure.com'";
    let env = [
        ("AZURE_API_KEY", "key"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_AUTHORITY_HOST", "login.example"),
    ];
    assert_eq!(header(&resolved(base, &env)), ("api-key", "key"));
    assert_eq!(
        header(&resolved(&format!("{base}, azure_ad_token: tok"), &env)),
        ("authorization", "Bearer tok")
    );
    let own = resolved(&format!("{base}, client_id: mine, client_secret: geheim, azure_scope: s"), &env);
    match source(&own) {
        Source::Entra(entra) => {
            assert_eq!(
                (entra.tenant.as_str(), entra.client.as_str(), entra.scope.as_str()),
                ("t", "mine", "s")
            );
            assert_eq!(entra.authority, "https://login.example");
            assert_eq!(entra.proof, EntraProof::Secret(Secret::new("geheim")));
        }
        other => panic!("{other:?}"),
    }
    let mut federated = env[1..].to_vec();
    federated.push(("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"));
    match source(&resolved(base, &federated)) {
        Source::Entra(entra) => {
            assert_eq!(entra.proof, EntraProof::TokenFile(Path::new("/var/run/token").into()));
            assert_eq!(entra.scope, "https://cognitiveservices.azure.com/.default");
        }
        other => panic!("{other:?}"),
    }
    assert_some(&errors(&file(&format!("{base}, client_secret: s"))), &["needs `tenant_id` and `client_id`"]);
    assert_some(&errors(&file(base)), &["AZURE_API_KEY"]);
}

#[test]
fn own_dialects_have_their_headers() {
    let anthropic = resolved("model: anthropic/claude-x, api_key: k", &[]);
    assert_eq!(header(&anthropic), ("x-api-key", "k"));
    assert_eq!(anthropic.meta.headers, [("anthropic-version".to_owned(), "2023-06-01".to_owned())]);
    let newer = resolved(
        "model: anthropic/claude-x, api_key: k, extra_headers: {Anthropic-Version: '2030-01-01'}",
        &[],
    );
    assert_eq!(newer.meta.headers, [("anthropic-version".to_owned(), "2030-01-01".to_owned())]);
    let gemini = resolved("model: gemini/gemini-x", &[("GEMINI_API_KEY", "g")]);
    assert_eq!(header(&gemini), ("x-goog-api-key", "g"));
    assert_eq!(url(&gemini), "https://generativelanguage.googleapis.com/v1beta");
    let openai = resolved("model: openai/gpt-x, api_key: k, organization: o, project: p", &[]);
    let headers: Vec<_> =
        openai.meta.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("openai-organization", "o"), ("openai-project", "p")]);
    assert_eq!(
        url(&resolved("model: cohere/command-x, api_key: k", &[])),
        "https://api.cohere.ai/compatibility/v1"
    );
}

#[test]
fn named_credentials_stand_in_for_what_is_not_given() {
    let text = "
credential_list:
  - credential_name: ours
    credential_values: {api_key: os.environ/THE_KEY, api_base: 'https://ours/v1', organization: o}
    credential_info: {note: x}
model_list:
  - {model_name: a, litellm_params: {model: openai/x, litellm_credential_name: ours, organization: own}}
";
    let env = env().with([("THE_KEY", "sk-of-the-list")]);
    let loaded = load_text(text, &env).unwrap();
    let found = only(crate::config::snapshot(&loaded.config, &PriceTable::default(), 1, &env).unwrap());
    assert_eq!(header(&found), ("authorization", "Bearer sk-of-the-list"));
    assert_eq!(url(&found), "https://ours/v1");
    assert_eq!(found.meta.headers, [("openai-organization".to_owned(), "own".to_owned())]);
    assert_some(
        &errors(
            &text
                .replace("name: ours}", "name: owrs}")
                .replace("litellm_credential_name: ours", "litellm_credential_name: owrs"),
        ),
        &["litellm_credential_name", "no credential of this name", "did you mean `ours`"],
    );
    let unknown = text.replace("organization: o}", "organisation: o}");
    assert_some(&errors_with(&unknown, &env), &["unknown key `organisation`"]);
}

#[test]
fn parameters_and_capabilities_reach_the_adapter() {
    let text = "
model_list:
  - model_name: m
    litellm_params:
      model: anthropic/claude-opus-4-7
      api_key: k
      additional_drop_params: [seed]
      allowed_openai_params: [n]
      modify_params: true
      extra_body: {top_k: 3}
    model_info: {supports_vision: false, supports_something_new: true, max_output_tokens: 5}
litellm_settings: {drop_params: true}
";
    let found = only(super::snapshot(text));
    let rules = &found.meta.params;
    assert!(rules.drop && rules.modify);
    assert_eq!(
        (rules.also_drop.as_slice(), rules.allowed.as_slice()),
        (&["seed".to_owned()][..], &["n".to_owned()][..])
    );
    assert_eq!(rules.extra_body["top_k"], 3);
    let caps = &found.meta.caps;
    assert_eq!(caps.max_output, Some(5));
    assert!(caps.has("adaptive_thinking") && caps.has("something_new"), "{caps:?}");
    assert_eq!((caps.supports("sampling_params"), caps.supports("vision")), (Some(false), Some(false)));
    assert!(found.meta.price.is_some(), "bare names are Anthropic's");
    let own = text.replace("modify_params: true", "modify_params: true\n      drop_params: false");
    assert!(!only(super::snapshot(&own)).meta.params.drop);
}

#[test]
fn bedrock_prices_by_profile_region_and_arn() {
    let price = |model: &str| {
        let price = resolved(&format!("model: '{model}', api_key: k"), &[]).meta.price;
        price.unwrap_or_else(|| panic!("{model}"))
    };
    let own = price("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0");
    let arn =
        "bedrock/arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    assert_eq!(price(arn), own);
    let there = price("bedrock/ap-northeast-1/anthropic.claude-instant-v1");
    let elsewhere = price("bedrock/us-east-1/anthropic.claude-instant-v1");
    assert_ne!(there, elsewhere, "the table has a row for each region");
}
