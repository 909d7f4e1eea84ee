use serde_json::{Value, json};

use super::*;
use crate::dialect::support::ParamRules;
use crate::error::ApiError;
use crate::usage::Usage;

fn meta(provider: Provider, model: &str) -> DeploymentMeta {
    DeploymentMeta { provider, model: model.into(), ..DeploymentMeta::default() }
}

fn written(body: &Value, meta: &DeploymentMeta) -> Result<(Value, Asked), ApiError> {
    let (sent, asked) = write(body.to_string().as_bytes(), meta, "own")?;
    Ok((serde_json::from_slice(&sent.body).unwrap(), asked))
}

fn answer(meta: &DeploymentMeta, request: &Value, document: &Value) -> (Value, Usage) {
    let (_, asked) = written(request, meta).unwrap();
    let (body, usage) = read(document.to_string().as_bytes(), &asked).unwrap();
    (serde_json::from_slice(&body).unwrap(), usage)
}

fn openai(vectors: &[Value], tokens: u64) -> Value {
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}))
        .collect();
    json!({"object": "list", "data": data, "model": "own",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

#[test]
fn gemini() {
    let meta = meta(Provider::Gemini, "gemini-embedding-001");
    let request = json!({"model": "own", "input": ["ab", "cd"], "dimensions": 3, "task_type": "RETRIEVAL_QUERY", "user": "u"});
    let one = |text: &str| {
        json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]},
            "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3})
    };
    assert_eq!(written(&request, &meta).unwrap().0, json!({"requests": [one("ab"), one("cd")]}));
    let document = json!({"embeddings": [{"values": [0.25, -1.0]}, {"values": [0.5, 2e-9]}]});
    let (body, usage) = answer(&meta, &request, &document);
    assert_eq!(body, openai(&[json!([0.25, -1.0]), json!([0.5, 2e-9])], 1));
    assert_eq!(usage, Usage::estimate(1, 0));
    let counted =
        json!({"embeddings": [{"values": [1]}, {"values": [2]}], "usageMetadata": {"promptTokenCount": 4}});
    assert_eq!(answer(&meta, &request, &counted).1, Usage { prompt: 4, total: 4, ..Usage::default() });
}

#[test]
fn vertex() {
    let own = meta(Provider::Vertex, "text-embedding-005");
    let request = json!({"input": ["ab", "cd"], "dimensions": 3, "auto_truncate": false, "title": "t"});
    let expected = json!({
        "instances": [{"content": "ab", "title": "t"}, {"content": "cd", "title": "t"}],
        "parameters": {"outputDimensionality": 3, "autoTruncate": false},
    });
    assert_eq!(written(&request, &own).unwrap().0, expected);
    let plain = written(&json!({"input": "ab"}), &own).unwrap().0;
    assert_eq!(plain, json!({"instances": [{"content": "ab"}]}));
    let prediction =
        |n: u64, tokens: Value| json!({"embeddings": {"values": [n], "statistics": {"token_count": tokens}}});
    let document = json!({"predictions": [prediction(1, json!(4)), prediction(2, json!(5.0))]});
    let (body, usage) = answer(&own, &request, &document);
    assert_eq!(body, openai(&[json!([1]), json!([2])], 9));
    assert!(!usage.estimated);

    let second = meta(Provider::Vertex, "gemini-embedding-2-preview");
    let request = json!({"input": "ab", "dimensions": 3, "taskType": "CLUSTERING"});
    let expected = json!({"content": {"parts": [{"text": "ab"}]},
        "embedContentConfig": {"taskType": "CLUSTERING", "outputDimensionality": 3}});
    assert_eq!(written(&request, &second).unwrap().0, expected);
    let document = json!({"embedding": {"values": [1, 2]}, "usageMetadata": {"promptTokenCount": 2}});
    assert_eq!(answer(&second, &request, &document).0, openai(&[json!([1, 2])], 2));
}

#[test]
fn titan() {
    let second = meta(Provider::Bedrock, "amazon.titan-embed-text-v2:0");
    let request = json!({"input": "ab", "dimensions": 256, "normalize": false});
    let expected = json!({"inputText": "ab", "dimensions": 256, "normalize": false});
    assert_eq!(written(&request, &second).unwrap().0, expected);
    let document = json!({"embedding": [1.5], "inputTextTokenCount": 3});
    assert_eq!(answer(&second, &request, &document).0, openai(&[json!([1.5])], 3));
    let image = meta(Provider::Bedrock, "amazon.titan-embed-image-v1");
    let expected = json!({"inputText": "ab", "embeddingConfig": {"outputEmbeddingLength": 256}});
    assert_eq!(written(&json!({"input": "ab", "dimensions": 256}), &image).unwrap().0, expected);
    let mut first = meta(Provider::Bedrock, "amazon.titan-embed-text-v1");
    let error = written(&request, &first).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("dimensions"));
    first.params.drop = true;
    assert_eq!(written(&request, &first).unwrap().0, json!({"inputText": "ab"}));
}

#[test]
fn cohere() {
    let fourth = meta(Provider::Bedrock, "us.cohere.embed-v4:0");
    let request =
        json!({"input": ["ab", "cd"], "dimensions": 512, "input_type": "search_query", "truncate": "RIGHT"});
    let expected = json!({"texts": ["ab", "cd"], "input_type": "search_query", "embedding_types": ["float"],
        "output_dimension": 512, "truncate": "RIGHT"});
    assert_eq!(written(&request, &fourth).unwrap().0, expected);
    for embeddings in [json!({"float": [[1], [2]]}), json!([[1], [2]])] {
        let document = json!({"embeddings": embeddings, "id": "x", "texts": ["ab", "cd"]});
        assert_eq!(answer(&fourth, &request, &document).0, openai(&[json!([1]), json!([2])], 1));
    }
    let third = meta(Provider::Bedrock, "cohere.embed-english-v3");
    assert_eq!(written(&request, &third).unwrap_err().param.as_deref(), Some("dimensions"));
    let expected = json!({"texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]});
    assert_eq!(written(&json!({"input": "a"}), &third).unwrap().0, expected);
}

#[test]
fn nova() {
    let meta = meta(Provider::Bedrock, "amazon.nova-2-multimodal-embeddings-v1:0");
    let request = json!({"input": ["ab"], "dimensions": 384, "embedding_purpose": "TEXT_RETRIEVAL"});
    let expected = json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {
        "embeddingPurpose": "TEXT_RETRIEVAL", "embeddingDimension": 384,
        "text": {"truncationMode": "NONE", "value": "ab"}}});
    assert_eq!(written(&request, &meta).unwrap().0, expected);
    let document = json!({"embeddings": [{"embedding": [1], "embeddingType": "TEXT"}]});
    assert_eq!(answer(&meta, &request, &document).0, openai(&[json!([1])], 1));
}

#[test]
fn base64_is_little_endian_floats() {
    let meta = meta(Provider::Gemini, "gemini-embedding-001");
    let request = json!({"input": "ab", "encoding_format": "base64"});
    let (body, _) = answer(&meta, &request, &json!({"embeddings": [{"values": [1.0, -2.5, 0]}]}));
    assert_eq!(body["data"][0]["embedding"], "AACAPwAAIMAAAAAA");
}

#[test]
fn what_cannot_be_asked() {
    let gemini = meta(Provider::Gemini, "gemini-embedding-001");
    for (request, field) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": ""}), "input"),
        (json!({"input": [1, 2]}), "input"),
        (json!({"input": [[1, 2]]}), "input"),
        (json!({"input": {"a": 1}}), "input"),
        (json!({"input": [null]}), "input"),
        (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
        (json!({"input": "a", "dimensions": "many"}), "dimensions"),
    ] {
        let error = written(&request, &gemini).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{request}");
    }
    assert_eq!(write(b"[", &gemini, "own").unwrap_err().status, 400);
    let titan = meta(Provider::Bedrock, "amazon.titan-embed-text-v2:0");
    let error = written(&json!({"input": ["a", "b"]}), &titan).unwrap_err();
    assert_eq!((error.param.as_deref(), error.message.contains("one input")), (Some("input"), true));
    let other = meta(Provider::Bedrock, "meta.llama3");
    assert_eq!(written(&json!({"input": "a"}), &other).unwrap_err().param.as_deref(), Some("model"));
}

#[test]
fn rules_of_the_deployment() {
    let mut meta = meta(Provider::Bedrock, "amazon.titan-embed-text-v2:0");
    meta.params = ParamRules {
        also_drop: vec!["dimensions".into()],
        extra_body: json!({"normalize": true}).as_object().unwrap().clone(),
        ..ParamRules::default()
    };
    let request = json!({"input": "a", "dimensions": 7});
    assert_eq!(written(&request, &meta).unwrap().0, json!({"inputText": "a", "normalize": true}));
}

#[test]
fn what_is_no_answer_is_an_error() {
    let gemini = meta(Provider::Gemini, "gemini-embedding-001");
    let (_, asked) = written(&json!({"input": ["a", "b"], "encoding_format": "base64"}), &gemini).unwrap();
    for (document, status) in [
        ("", 502),
        ("<html>", 502),
        ("{}", 502),
        ("[]", 502),
        ("{\"embeddings\":[{\"values\":[1]}]}", 502),
        ("{\"embeddings\":[{\"values\":[1]},{\"values\":[\"x\"]}]}", 502),
        ("{\"embeddings\":[{\"values\":7},{\"values\":8}]}", 502),
        ("{\"error\":{\"code\":429,\"message\":\"q\",\"status\":\"RESOURCE_EXHAUSTED\"}}", 429),
        ("[{\"error\":{\"code\":503,\"message\":\"q\",\"status\":\"UNAVAILABLE\"}}]", 503),
    ] {
        assert_eq!(read(document.as_bytes(), &asked).unwrap_err().status, status, "{document}");
    }
}
