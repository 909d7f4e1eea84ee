use super::*;

#[test]
fn profiles_are_found_in_shared_credentials_files() {
    let text = "# note\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[profile team]\naws_access_key_id=T\n\
                aws_secret_access_key = s\naws_session_token = x\nregion = eu-west-1\n[half]\naws_access_key_id = H\n";
    let default = profile(text, "default").unwrap();
    assert_eq!((default.id.as_str(), default.secret.expose(), &default.session), ("A", "b=c", &None));
    assert_eq!(profile(text, "team").unwrap().session.unwrap().expose(), "x");
    assert!(profile(text, "half").is_none() && profile(text, "none").is_none());
}

#[test]
fn keys_become_such_a_file_unless_they_would_break_it() {
    let keys =
        |id: &str| AwsKeys { id: id.into(), secret: Secret::new("s/+"), session: Some(Secret::new("t=")) };
    let text = keys("AKIA").file().unwrap();
    assert_eq!(profile(&text, "default"), Some(keys("AKIA")));
    assert!(keys("A\nB").file().is_none() && keys("").file().is_none());
}

#[test]
fn a_session_that_is_over_is_none() {
    let answer = |until: &str| {
        format!(
            "<AssumeRoleResponse xmlns=\"x\"><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken> t= </SessionToken><Expiration>{until}</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )
    };
    assert!(answered(answer("2001-01-01T00:00:00Z").as_bytes()).unwrap_err().contains("over"));
    let (keys, life) = answered(answer("2999-01-01T00:00:00Z").as_bytes()).unwrap();
    assert_eq!(keys.session.unwrap().expose(), "t=");
    assert!(life.is_some());
    assert!(answered(b"{}").unwrap_err().contains("without credentials"));
    assert!(answered(answer("soon").as_bytes()).is_err());
}
