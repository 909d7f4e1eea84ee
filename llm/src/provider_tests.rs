use proptest::prelude::*;

use super::*;

pub(crate) fn meta(provider: Provider, base_path: &str, api_version: Option<&str>) -> DeploymentMeta {
    DeploymentMeta {
        contract: crate::contract::VERSION,
        id: "d1".into(),
        group: "g".into(),
        provider,
        model: "my model/4o".into(),
        authority: "example.com".into(),
        base_path: base_path.into(),
        api_version: api_version.map(str::to_owned),
        stream_options: true,
        ..DeploymentMeta::default()
    }
}

#[test]
fn models_are_split_by_known_prefixes_only() {
    for (model, row, name) in [
        ("azure/gpt-4o", "azure", "gpt-4o"),
        ("azure/gpt5_series/mine", "azure", "mine"),
        ("openai/gpt5_series/mine", "openai", "gpt5_series/mine"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("openrouter/openai/gpt-4o", "openrouter", "openai/gpt-4o"),
        ("meta-llama/Llama-3", "openai", "meta-llama/Llama-3"),
        ("hosted_vllm/org/model", "hosted_vllm", "org/model"),
        ("", "openai", ""),
    ] {
        let (found, rest) = split_model(model);
        assert_eq!((found.name, rest), (row, name), "{model}");
    }
}

#[test]
fn table_is_consistent() {
    for row in PROVIDERS {
        assert_eq!(lookup(row.name).map(|found| found.name), Some(row.name));
        assert_eq!(PROVIDERS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        if let Some(url) = row.base_url {
            assert!(ApiBase::parse(url).is_some(), "{url}");
        }
        assert!(row.base_url.is_some() || !row.base_env.is_empty(), "{}", row.name);
    }
    assert_eq!(lookup("azure").unwrap().credential_header, "api-key");
    assert_eq!(lookup("nobody"), None);
}

#[test]
fn openai_paths() {
    for (base, expected) in [
        ("/v1", "/v1/chat/completions"),
        ("", "/chat/completions"),
        ("/a/v1/", "/a/v1/chat/completions"),
        ("/x/chat/completions", "/x/chat/completions"),
    ] {
        assert_eq!(
            request_path(&meta(Provider::Openai, base, None), Endpoint::ChatCompletions, false),
            expected
        );
    }
    assert_eq!(
        request_path(&meta(Provider::Openai, "/v1", None), Endpoint::Embeddings, false),
        "/v1/embeddings"
    );
}

#[test]
fn azure_paths() {
    let dated = "/openai/deployments/my%20model%2F4o/chat/completions?api-version=2024-10-21";
    for (base, version, expected) in [
        ("", Some("2024-10-21"), dated),
        ("/", Some("2024-10-21"), dated),
        ("/openai", Some("2024-10-21"), dated),
        (
            "/openai/deployments/own",
            Some("2024-10-21"),
            "/openai/deployments/own/chat/completions?api-version=2024-10-21",
        ),
        (
            "/openai/deployments/own/chat/completions",
            None,
            "/openai/deployments/own/chat/completions?api-version=2025-02-01-preview",
        ),
        (
            "/proxy",
            Some("2024-10-21"),
            "/proxy/openai/deployments/my%20model%2F4o/chat/completions?api-version=2024-10-21",
        ),
        ("/openai/v1", Some("2024-10-21"), "/openai/v1/chat/completions"),
        ("/openai/v1", None, "/openai/v1/chat/completions"),
        ("", Some("v1"), "/openai/v1/chat/completions"),
        ("/openai", Some("latest"), "/openai/v1/chat/completions"),
        ("", Some("preview"), "/openai/v1/chat/completions?api-version=preview"),
    ] {
        let path = request_path(&meta(Provider::Azure, base, version), Endpoint::ChatCompletions, false);
        assert_eq!(path, expected, "{base} {version:?}");
    }
}

#[test]
fn bases_are_taken_apart() {
    let base = ApiBase::parse("https://Res.openai.azure.com/openai/?api-version=2024-06-01&x=1").unwrap();
    assert_eq!((base.tls, base.port, base.authority.as_str()), (true, 443, "res.openai.azure.com"));
    assert_eq!((base.path.as_str(), base.api_version.as_deref()), ("/openai", Some("2024-06-01")));
    let base = ApiBase::parse("http://127.0.0.1:8080/a/v1").unwrap();
    assert_eq!((base.tls, base.host.as_str(), base.port), (false, "127.0.0.1", 8080));
    assert_eq!((base.authority.as_str(), base.path.as_str()), ("127.0.0.1:8080", "/a/v1"));
    let base = ApiBase::parse("http://[::1]:80").unwrap();
    assert_eq!((base.host.as_str(), base.authority.as_str(), base.path.as_str()), ("::1", "[::1]", ""));
    for bad in [
        "",
        "api.openai.com",
        "ftp://x/",
        "http://",
        "http://u:p@h/",
        "http://h:0/",
        "http://h:x",
        "http://a b",
    ] {
        assert_eq!(ApiBase::parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_text(text in "\\PC*") {
        let _ = ApiBase::parse(&text);
        let _ = ApiBase::parse(&format!("https://{text}"));
        let _ = split_model(&text);
        let _ = request_path(&meta(Provider::Azure, &text, Some(&text)), Endpoint::Embeddings, false);
    }
}
