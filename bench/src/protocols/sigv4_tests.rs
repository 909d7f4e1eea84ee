use http::HeaderValue;
use serde_json::json;

use super::super::testing::Sent;
use super::*;

const PATH: &str = "/one/model/anthropic.claude-v1%3A0/converse";

/// A request as AWS's own library signs it.
fn signed(access_key: &str, key: &str, token: Option<String>, age: u64) -> Sent {
    let body = json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]});
    let mut sent = Sent::json(PATH, &body);
    let identity = Credentials::new(access_key, key, token, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let time = SystemTime::now() - Duration::from_secs(age);
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("bedrock")
        .time(time)
        .settings(settings)
        .build()
        .unwrap();
    let headers = [("content-type", "application/json"), ("host", "fake.test")];
    let request = SignableRequest::new(
        "POST",
        format!("http://fake.test{PATH}"),
        headers.into_iter(),
        SignableBody::Bytes(&sent.body),
    )
    .unwrap();
    let (instructions, _) = sign(request, &params.into()).unwrap().into_parts();
    let mut made = http::Request::new(());
    instructions.apply_to_request_http1x(&mut made);
    sent.headers.extend(made.headers().clone());
    sent
}

fn refusal(sent: &Sent) -> String {
    let refused = sent.authenticate().unwrap_err();
    assert_eq!(refused.status, 403);
    refused.message
}

#[test]
fn a_good_signature_is_recognised_and_any_change_of_the_request_is_seen() {
    let key = "AKIAFAKE00000001";
    assert_eq!(signed(key, &secret(key), None, 0).authenticate(), Ok(()));
    assert!(refusal(&signed(key, "another", None, 0)).contains("does not match"));
    let mut sent = signed(key, &secret(key), None, 0);
    sent.body = "{}".into();
    assert!(refusal(&sent).contains("x-amz-content-sha256"));
    let mut sent = signed(key, &secret(key), None, 0);
    sent.uri = PATH.replace("v1", "v2");
    assert!(refusal(&sent).contains("does not match"));
    let mut sent = signed(key, &secret(key), None, 0);
    sent.headers.insert("host", HeaderValue::from_static("elsewhere.test"));
    assert!(refusal(&sent).contains("does not match"));
    assert!(refusal(&signed(key, &secret(key), None, 900)).contains("expired"));
}

#[test]
fn temporary_credentials_need_their_token_until_they_end() {
    let good = temporary(1, state::now() + 60);
    assert_eq!(signed(&good, &secret(&good), Some(session_token(&good)), 0).authenticate(), Ok(()));
    assert!(refusal(&signed(&good, &secret(&good), None, 0)).contains("invalid"));
    let over = temporary(1, state::now() - 1);
    assert!(refusal(&signed(&over, &secret(&over), Some(session_token(&over)), 0)).contains("expired"));
}

#[test]
fn bearer_or_nothing() {
    let sent = Sent::json(PATH, &json!({}));
    assert!(refusal(&sent).contains("Missing Authentication Token"));
    assert_eq!(sent.header("authorization", "Bearer bedrock-key").authenticate(), Ok(()));
    assert_eq!(parse_date("20250101T000000Z"), Some(1_735_689_600));
}
