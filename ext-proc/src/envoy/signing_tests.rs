use super::*;
use crate::config::Secret;

fn keys(secret: &str) -> AwsKeys {
    AwsKeys { id: "AKIA".into(), secret: Secret::new(secret), session: None }
}

#[test]
fn keys_are_moved_to_their_place_and_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        ClusterOptions { keys_dir: dir.path().join("aws"), ..ClusterOptions::new("/f.wasm".into()) };
    write("g/bedrock/1", &keys("first"), &options).unwrap();
    let path = file("g/bedrock/1", &options);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&options.keys_dir).unwrap().permissions().mode() & 0o777, 0o700);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    write("g/bedrock/1", &keys("first"), &options).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before, "nothing to tell Envoy");
    write("g/bedrock/1", &keys("second"), &options).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("second"));
    assert_eq!(fs::read_dir(&options.keys_dir).unwrap().count(), 1, "no partial file is left");

    write("g/bedrock/2", &keys("other"), &options).unwrap();
    sweep([&"g/bedrock/2".to_owned()].into_iter(), &options);
    assert!(!path.exists() && file("g/bedrock/2", &options).exists());
}
