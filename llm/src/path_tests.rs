use proptest::prelude::*;

use super::*;

fn parsed(path: &str) -> Option<(Endpoint, Option<String>)> {
    Endpoint::parse(path).map(|parsed| (parsed.endpoint, parsed.model))
}

#[test]
fn every_spelling_is_the_same_endpoint() {
    for (suffix, endpoint) in [
        ("chat/completions", Endpoint::ChatCompletions),
        ("completions", Endpoint::Completions),
        ("embeddings", Endpoint::Embeddings),
    ] {
        for base in ["/", "/v1/", "/openai/v1/", "/openai/"] {
            for tail in ["", "/", "?a=b", "/?api-version=2024-10-21"] {
                let path = format!("{base}{suffix}{tail}");
                assert_eq!(parsed(&path), Some((endpoint, None)), "{path}");
            }
        }
        for base in ["/openai/deployments/", "/engines/", "/v1/engines/", "/v1/openai/deployments/"] {
            for (model, decoded) in [
                ("gpt-4o", "gpt-4o"),
                ("azure%2Fgpt-4o", "azure/gpt-4o"),
                ("org/model/x", "org/model/x"),
                ("m%C3%A9", "mé"),
            ] {
                let path = format!("{base}{model}/{suffix}?api-version=1");
                assert_eq!(parsed(&path), Some((endpoint, Some(decoded.to_owned()))), "{path}");
            }
        }
    }
}

#[test]
fn chat_is_not_a_model_called_chat() {
    assert_eq!(parsed("/engines/m/chat/completions"), Some((Endpoint::ChatCompletions, Some("m".into()))));
}

#[test]
fn other_paths_are_nobodys() {
    for path in [
        "",
        "/",
        "/v1",
        "/v1/chat",
        "/chat/completions/x",
        "/v2/chat/completions",
        "/engines//completions",
        "/engines/completions",
        "/openai/deployments/%zz/embeddings",
        "/openai/deployments/%ff/embeddings",
        "/openai/deployments/a%0Ab/embeddings",
        "/v1/v1/embeddings",
        "/v1//embeddings",
        "chat/completions",
    ] {
        assert_eq!(parsed(path), None, "{path}");
    }
}

#[test]
fn admin_paths_by_whole_segments() {
    for path in
        ["/key/generate", "/v1/models", "/models?x=1", "/models/gpt-4o", "/model/info", "/health/readiness"]
    {
        assert!(is_admin(path), "{path}");
    }
    for path in ["/keys", "/keyring/x", "/model/new", "/v1/chat/completions", "/healthz", "/", "key/generate"]
    {
        assert!(!is_admin(path), "{path}");
    }
}

proptest! {
    #[test]
    fn encoding_round_trips(text in "\\PC*") {
        prop_assert_eq!(percent_decode(&percent_encode(&text)), Some(text));
    }

    #[test]
    fn any_path_is_safe(path in "\\PC*") {
        let _ = Endpoint::parse(&path);
        let _ = is_admin(&path);
    }
}
