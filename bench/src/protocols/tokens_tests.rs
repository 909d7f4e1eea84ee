use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

use super::super::testing::Sent;
use super::*;

const FORM: &str = "application/x-www-form-urlencoded";

fn post(uri: &str, body: &str) -> Sent {
    Sent::new(uri, body.to_owned(), FORM)
}

#[test]
fn entra_gives_tokens_that_end() {
    let path = "/one/tenant/oauth2/v2.0/token";
    let body = "grant_type=client_credentials&client_id=c&client_secret=s&scope=https%3A%2F%2Fx%2F.default";
    let answer = post(path, body).answer("expires:30");
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(30), &json!("Bearer")));
    assert_eq!(alive(answer["access_token"].as_str().unwrap()), Ok(()));
    let over = post(path, body).answer("expires:0");
    assert_eq!(alive(over["access_token"].as_str().unwrap()).unwrap_err().status, 401);
    assert_eq!(alive("some-key"), Ok(()));
    assert_eq!(post(path, &body.replace("client_secret=s", "")).plan("").unwrap_err().status, 401);
    assert!(post(path, &body.replace(".default", "")).refusal().contains("scope"));
    assert_eq!(entra_error(401, None)["error"], "invalid_client");
}

/// A key that exists for this test only.
fn key() -> RsaKeyPair {
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"])
        .output()
        .unwrap();
    // PKCS#8 or, from some versions, PKCS#1.
    RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout)).unwrap()
}

fn assertion(key: &RsaKeyPair, claims: &Value) -> String {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let head = encode(br#"{"alg":"RS256","typ":"JWT"}"#);
    let message = format!("{head}.{}", encode(claims.to_string().as_bytes()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", encode(&signature))
}

#[test]
fn google_verifies_the_assertion() {
    let (mine, other) = (key(), key());
    let now = state::now();
    let claims = json!({"iss": "me@p.iam", "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "http://fake.test/one/token", "iat": now, "exp": now + 3600});
    let ask = |key: &RsaKeyPair, claims: &Value| {
        let body = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}",
            assertion(key, claims)
        );
        let sent = post("/one/token", &body);
        let public = base64::engine::general_purpose::STANDARD.encode(mine.public_key().as_ref());
        let order = json!({"issuer": "me@p.iam", "key": public}).to_string();
        account(order.as_bytes(), &sent.state).unwrap();
        sent
    };
    assert_eq!(ask(&mine, &claims).answer("")["expires_in"], 3599);
    assert!(ask(&other, &claims).refusal().contains("Signature is not valid"));
    for (change, word) in [
        (json!({"iss": "you@p.iam"}), "account not found"),
        (json!({"aud": "https://elsewhere.test/token2"}), "aud"),
        (json!({"exp": now - 1}), "short-lived"),
        (json!({"scope": "mail"}), "scope"),
    ] {
        let text = ask(&mine, &super::super::testing::changed(&claims, change)).refusal();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn sts_gives_credentials_that_verify() {
    let role = "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbedrock";
    let body = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={role}&RoleSessionName=attache&WebIdentityToken=abcd"
    );
    let planned = post("/one/", &body).plan("").unwrap();
    let Answer::Whole { body: xml, .. } = planned.answer else { panic!("no body") };
    let xml = String::from_utf8(xml.to_vec()).unwrap();
    let id = xml.split("<AccessKeyId>").nth(1).unwrap().split('<').next().unwrap();
    assert!(id.starts_with("ASIA") && xml.contains(&secret(id)) && xml.contains(&session_token(id)), "{xml}");
    // The other action is signed.
    let unsigned = body.replace("AssumeRoleWithWebIdentity", "AssumeRole");
    assert_eq!(post("/one/", &unsigned).plan("").unwrap_err().status, 403);
    assert!(post("/one/", &body.replace("RoleArn", "Role")).refusal().contains("RoleArn"));
    let shown = sts_error(403, Some(&Refused::new(403, "The request signature: <wrong>")));
    assert!(shown.contains("<Code>SignatureDoesNotMatch</Code>") && shown.contains("&lt;wrong>"), "{shown}");
}
