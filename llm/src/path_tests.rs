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
        ("images/generations", Endpoint::ImagesGenerations),
        ("images/edits", Endpoint::ImagesEdits),
        ("images/variations", Endpoint::ImagesVariations),
        ("audio/speech", Endpoint::AudioSpeech),
        ("audio/transcriptions", Endpoint::AudioTranscriptions),
        ("audio/translations", Endpoint::AudioTranslations),
        ("moderations", Endpoint::Moderations),
        ("rerank", Endpoint::Rerank),
        ("files", Endpoint::Files),
        ("batches", Endpoint::Batches),
        ("realtime", Endpoint::Realtime),
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
fn things_by_their_id() {
    let of = |path: &str| {
        Endpoint::parse(path).map(|parsed| (parsed.endpoint, parsed.rest.clone(), parsed.methods()))
    };
    for (path, endpoint, rest, methods) in [
        ("/v1/files", Endpoint::Files, "", &["GET", "POST"][..]),
        ("/v1/files/file-1?x", Endpoint::Files, "/file-1", &["GET", "DELETE"]),
        ("/openai/files/file-1/content", Endpoint::Files, "/file-1/content", &["GET"]),
        ("/batches", Endpoint::Batches, "", &["GET", "POST"]),
        ("/batches/b_1/", Endpoint::Batches, "/b_1", &["GET"]),
        ("/v1/batches/b_1/cancel", Endpoint::Batches, "/b_1/cancel", &["POST"]),
        ("/v1/responses/r", Endpoint::StoredResponses, "/r", &["GET", "DELETE"]),
        ("/v1/responses/r/cancel", Endpoint::StoredResponses, "/r/cancel", &["POST"]),
        ("/v1/responses/r/input_items", Endpoint::StoredResponses, "/r/input_items", &["GET"]),
        ("/v1/responses", Endpoint::Responses, "", &["POST"]),
        ("/v1/realtime?model=m", Endpoint::Realtime, "", &["GET"]),
        ("/v2/rerank", Endpoint::Rerank, "", &["POST"]),
        ("/v1/chat/completions", Endpoint::ChatCompletions, "", &["POST"]),
    ] {
        assert_eq!(of(path), Some((endpoint, rest.to_owned(), methods)), "{path}");
    }
    for path in [
        "/v1/files/..",
        "/v1/files/%2e%2e/x",
        "/v1/files/a/b",
        "/v1/files//content",
        "/v1/files/a/content/x",
        "/v1/batches/a/content",
        "/v1/realtime/x",
        "/v2/files",
        "/filesystem",
    ] {
        assert_eq!(parsed(path), None, "{path}");
    }
}

#[test]
fn a_query_may_name_the_model() {
    for (path, model, rest) in [
        ("/v1/files", None, ""),
        ("/v1/files?model=a%2Fb&limit=1&x", Some("a/b"), "limit=1&x"),
        ("/v1/realtime?api-version=1&deployment=g", Some("g"), ""),
        ("/v1/realtime?model=&deployment=g", Some("g"), ""),
        ("/v1/realtime?model=%zz", None, ""),
        ("/v1/realtime?model=a%0Ab", None, ""),
        ("/v1/realtime?a=1#model=x", None, "a=1"),
    ] {
        assert_eq!(model_of_query(path), (model.map(str::to_owned), rest.to_owned()), "{path}");
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
        let _ = model_of_query(&path);
    }
}
