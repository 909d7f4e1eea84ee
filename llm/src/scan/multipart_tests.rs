use proptest::prelude::*;

use super::*;
use crate::contract::DeploymentMeta;
use crate::edit::BodyEdits;
use crate::path::Endpoint;

const B: &str = "----x9";

/// A form as SDKs write it. A file has a name behind `@`.
pub(crate) fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        body.extend_from_slice(format!("--{B}\r\nContent-Disposition: form-data; ").as_bytes());
        match name.strip_prefix('@') {
            Some(name) => body.extend_from_slice(
                format!("name=\"{name}\"; filename=\"f\"\r\nContent-Type: audio/wav\r\n\r\n").as_bytes(),
            ),
            None => body.extend_from_slice(format!("name=\"{name}\"\r\n\r\n").as_bytes()),
        }
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{B}--\r\n").as_bytes());
    body
}

fn scan_with(body: &[u8], cuts: &[usize], limits: ScanLimits) -> Result<Scanned, ScanError> {
    let mut scan = FormScan::new(B, limits);
    let mut start = 0;
    for &cut in cuts.iter().chain([&body.len()]) {
        scan.feed(&body[start..cut])?;
        start = cut;
    }
    scan.finish()
}

fn scan(body: &[u8]) -> Result<Scanned, ScanError> {
    scan_with(body, &[], ScanLimits::default())
}

fn parts(scanned: &Scanned) -> &Multipart {
    match &scanned.form {
        Form::Multipart(parts) => parts,
        other => panic!("{other:?}"),
    }
}

fn edited(body: &[u8], scanned: &Scanned, model: &str, endpoint: Endpoint) -> Vec<u8> {
    let edits = BodyEdits::plan(scanned, &DeploymentMeta::default(), model, endpoint);
    let mut out = Vec::new();
    edits.apply(0, body, &mut out);
    assert_eq!(out.len(), edits.new_len());
    out
}

#[test]
fn a_transcription_wherever_its_model_stands() {
    let wav = wav::tests::file(2);
    for model_at in 0..=3 {
        let mut fields: Vec<(&str, &[u8])> =
            vec![("@file", &wav), ("response_format", b"verbose_json"), ("prompt", "h\u{e9}".as_bytes())];
        fields.insert(model_at, ("model", b"whisper"));
        let body = form(&fields);
        let found = scan(&body).unwrap();
        assert_eq!(found.model.as_deref(), Some("whisper"));
        assert_eq!(&body[found.model_range.clone().unwrap()], b"whisper");
        assert_eq!(found.len, body.len());
        assert_eq!(found.text_bytes, 3);
        let parts = parts(&found);
        assert_eq!(parts.response_format.as_deref(), Some("verbose_json"));
        assert_eq!((parts.file_bytes, parts.audio_ms), (wav.len() as u64, Some(2_000)));
        fields[model_at].1 = b"whisper-1";
        assert_eq!(edited(&body, &found, "whisper-1", Endpoint::AudioTranscriptions), form(&fields));
        fields[model_at].1 = b"whisper";
        assert_eq!(edited(&body, &found, "whisper", Endpoint::AudioTranscriptions), body);
    }
}

#[test]
fn fields_of_an_edit() {
    let body = form(&[
        ("model", b"m"),
        ("@image[]", b"\x89PNG\r\n--nothing\r\n"),
        ("@image[]", b""),
        ("n", b"2"),
        ("stream", b"True"),
        ("user", b"u"),
        ("size", &[b'x'; 2000]),
    ]);
    let found = scan(&body).unwrap();
    assert_eq!((found.n, found.stream, found.user.as_deref()), (Some(2), true, Some("u")));
    assert_eq!((parts(&found).file_bytes, parts(&found).audio_ms), (17, None));
}

#[test]
fn a_form_without_model_gets_one() {
    let body = form(&[("@file", b"abc")]);
    let found = scan(&body).unwrap();
    assert_eq!(found.model, None);
    let expected = form(&[("model", b"dep"), ("@file", b"abc")]);
    assert_eq!(edited(&body, &found, "dep", Endpoint::AudioTranslations), expected);
    // A preamble is no part.
    let body = [b"preamble\r\n", body.as_slice(), b"epilogue --x"].concat();
    let found = scan(&body).unwrap();
    let expected = [b"preamble\r\n", expected.as_slice(), b"epilogue --x"].concat();
    assert_eq!(edited(&body, &found, "dep", Endpoint::AudioTranslations), expected);
}

#[test]
fn words_to_the_gateway_are_cut() {
    let body = form(&[
        ("target_model_names", b" a, b"),
        ("custom_llm_provider", b"openai"),
        ("purpose", b"batch"),
        ("model", b"m"),
        ("@file", b"{}\n"),
        ("litellm_metadata", &[b'x'; 100_000]),
    ]);
    let limits = ScanLimits { cut_model: true, ..ScanLimits::default() };
    let found = scan_with(&body, &[], limits).unwrap();
    assert_eq!(found.model.as_deref(), Some("m"));
    let expected = form(&[("purpose", b"batch"), ("@file", b"{}\n")]);
    assert_eq!(edited(&body, &found, "other", Endpoint::Files), expected);
    let body = form(&[("target_model_names", b" a, b"), ("@file", b"")]);
    assert_eq!(scan_with(&body, &[], limits).unwrap().model.as_deref(), Some("a"));
}

#[test]
fn what_is_no_form_is_refused() {
    let bad = |body: &[u8], says: &str| {
        let error = scan(body).unwrap_err();
        assert!(error.message.contains(says), "{} for {:?}", error.message, String::from_utf8_lossy(body));
        error.param
    };
    bad(b"", "last boundary is missing");
    bad(b"{\"model\":\"m\"}", "last boundary is missing");
    let whole = form(&[("model", b"m")]);
    bad(&whole[..whole.len() - 4], "last boundary is missing");
    bad(format!("--{B}x\r\n").as_bytes(), "does not end its line");
    bad(format!("--{B}\r\n\r\nx\r\n--{B}--").as_bytes(), "without a name");
    bad(format!("--{B}\r\nA: {}", "x".repeat(9_000)).as_bytes(), "longer than 8192 bytes");
    bad(&form(&vec![("a", b"".as_slice()); 513]), "more than 512 parts");
    assert_eq!(bad(&form(&[("model", b"a"), ("model", b"b")]), "twice"), Some("model"));
    assert_eq!(bad(&form(&[("model", &[b'x'; 2000])]), "longer than 1024 bytes"), Some("model"));
    assert_eq!(bad(&form(&[("model", b"\xff")]), "UTF-8"), Some("model"));
    assert_eq!(bad(&form(&[("user", b"a\nb")]), "control"), Some("user"));
    assert_eq!(bad(&form(&[("n", b"-1")]), "negative"), Some("n"));
    assert_eq!(bad(&form(&[("stream", b"yes")]), "true or false"), Some("stream"));
}

#[test]
fn split_at_every_byte_it_is_the_same() {
    let wav = wav::tests::file(1);
    let body = form(&[
        ("target_model_names", b"a"),
        ("@file", &wav[..200]),
        ("prompt", b"\r\n-\r\n--\r\n------x\r\n"),
        ("model", b"m"),
        ("stream", b"false"),
    ]);
    let whole = scan(&body);
    assert!(whole.is_ok());
    for cut in 0..=body.len() {
        assert_eq!(scan_with(&body, &[cut], ScanLimits::default()), whole, "{cut}");
    }
    let every: Vec<usize> = (0..body.len()).collect();
    assert_eq!(scan_with(&body, &every, ScanLimits::default()), whole);
}

proptest! {
    #[test]
    fn anything_is_safe(noise in proptest::collection::vec(
        prop_oneof![
            Just(format!("--{B}").into_bytes()),
            Just(b"\r\n".to_vec()),
            Just(b"--".to_vec()),
            Just(b"Content-Disposition: form-data; name=\"model\"".to_vec()),
            Just(b"; filename=\"".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ], 0..40), at in any::<prop::sample::Index>()) {
        let body = noise.concat();
        let whole = scan(&body);
        let cut = at.index(body.len() + 1);
        prop_assert_eq!(&scan_with(&body, &[cut], ScanLimits::default()).map_err(|error| error.message),
            &whole.clone().map_err(|error| error.message));
        if let Ok(found) = whole {
            let _ = edited(&body, &found, "other", Endpoint::AudioTranscriptions);
            let _ = edited(&body, &found, "other", Endpoint::Files);
        }
    }

    #[test]
    fn content_comes_through_whole(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let body = form(&[("@file", &content), ("model", b"m")]);
        // Content that holds the boundary itself is no content.
        prop_assume!(memmem::find(&content, format!("\r\n--{B}").as_bytes()).is_none());
        let found = scan(&body).unwrap();
        prop_assert_eq!(parts(&found).file_bytes, content.len() as u64);
        prop_assert_eq!(edited(&body, &found, "n", Endpoint::ImagesEdits), form(&[("@file", &content), ("model", b"n")]));
    }
}
