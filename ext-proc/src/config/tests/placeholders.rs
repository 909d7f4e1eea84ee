use proptest::prelude::*;

use super::*;
use crate::config::issue::nearest;
use crate::config::placeholders::{Unexpanded, expand};

fn some_env() -> Env {
    Env::from([("NAME", "value"), ("EMPTY", ""), ("NESTED", "${NAME}")])
}

#[test]
fn placeholders_expand_as_documented() {
    let expand = |text| expand(text, &some_env());
    assert_eq!(expand("os.environ/NAME").unwrap(), "value");
    assert_eq!(expand("azure/${NAME}-${NAME}").unwrap(), "azure/value-value");
    assert_eq!(expand("${MISSING:-default}").unwrap(), "default");
    assert_eq!(expand("${EMPTY:-default}").unwrap(), "default");
    assert_eq!(expand("${MISSING:-}").unwrap(), "");
    assert_eq!(expand("${EMPTY}").unwrap(), "");
    assert_eq!(expand("$${NAME}").unwrap(), "${NAME}");
    assert_eq!(expand("$NAME costs $5").unwrap(), "$NAME costs $5");
    assert_eq!(expand("${NESTED}").unwrap(), "${NAME}", "values are not expanded again");
    assert_eq!(expand("${MISSING}"), Err(Unexpanded::Missing("MISSING".into())));
    assert_eq!(expand("os.environ/MISSING"), Err(Unexpanded::Missing("MISSING".into())));
    assert_eq!(expand("${NAME"), Err(Unexpanded::Unclosed));
    assert_eq!(expand("${not a name}"), Err(Unexpanded::BadName));
    assert_eq!(expand("os.environ/"), Err(Unexpanded::BadName));
}

#[test]
fn a_missing_variable_names_file_line_path_and_a_near_one() {
    let folder = Folder::new();
    let path = folder.write("config.yaml", &MODEL.replace("sk-upstream-secret", "${OPENAI_API_KEI}"));
    let env = env().with([("OPENAI_API_KEY", "sk-hidden-value")]);
    let error = load(&path, &env).unwrap_err().to_string();
    assert!(error.contains("config.yaml:6: model_list[0].litellm_params.api_key: "), "{error}");
    assert!(error.contains("OPENAI_API_KEI is not set; did you mean `OPENAI_API_KEY`?"), "{error}");
    assert!(!error.contains("hidden"), "{error}");
}

#[test]
fn environment_variables_of_the_file_come_first() {
    let text = "
environment_variables:
  OPENAI_API_KEY: from-the-file-${NAME}
  PORT: 6380
router_settings:
  redis_host: ${REDIS:-localhost}
  redis_port: ${PORT}
model_list:
  - model_name: a
    litellm_params:
      model: openai/gpt-4o
";
    let env = env().with([("NAME", "x"), ("OPENAI_API_KEY", "of-the-process")]);
    let config = load_text(text, &env).unwrap().config;
    assert_eq!(config.router_settings.redis_port, Some(6380));
    let snapshot = crate::config::snapshot(&config, &Default::default(), 1, &env).unwrap();
    let credential = snapshot.groups["a"].deployments[0].credential.as_ref().unwrap();
    let (_, credential) = credential.configured().unwrap();
    assert_eq!(credential, "Bearer from-the-file-x");
}

proptest! {
    #[test]
    fn text_without_a_dollar_is_untouched(text in "[^$]{0,60}") {
        prop_assume!(!text.starts_with("os.environ/"));
        prop_assert_eq!(expand(&text, &some_env()), Ok(text));
    }

    #[test]
    fn any_text_is_expanded_or_refused_without_panic(text in "[${}:a-zA-Z_é-]{0,40}") {
        let _ = expand(&text, &some_env());
    }

    #[test]
    fn an_escaped_placeholder_survives(name in "[A-Z_]{1,10}", before in "[a-z]{0,5}", after in "[a-z]{0,5}") {
        let text = format!("{before}$${{{name}}}{after}");
        prop_assert_eq!(expand(&text, &some_env()), Ok(format!("{before}${{{name}}}{after}")));
    }

    /// Two neighbours swapped, one letter lost or doubled: the key is still recognised.
    #[test]
    fn a_slip_of_the_keyboard_finds_its_key(at in 0usize..1000, pick in 0usize..1000, slip in 0usize..3) {
        let names: Vec<_> = crate::config::keys::ROUTER.names().filter(|name| name.len() >= 6).collect();
        let name = names[pick % names.len()];
        let at = at % (name.len() - 1);
        let mut letters: Vec<char> = name.chars().collect();
        match slip {
            0 => letters.swap(at, at + 1),
            1 => { letters.remove(at); }
            _ => letters.insert(at, letters[at]),
        }
        let typed: String = letters.into_iter().collect();
        let found = nearest(&typed, names.iter().copied());
        prop_assert!(found.is_some(), "{} for {}", typed, name);
        let distance = |a: &str| strsim::damerau_levenshtein(&typed, a);
        prop_assert!(distance(found.unwrap()) <= distance(name));
    }
}

#[test]
fn secrets_come_from_files() {
    let folder = Folder::new();
    let key = folder.write("openai-key", "sk-of-a-file\n");
    let text = |path: &str| MODEL.replace("sk-upstream-secret", &format!("'${{file:{path}}}'"));
    let loaded = load_text(&text(key.to_str().unwrap()), &env()).unwrap();
    let entry = &loaded.config.model_list[0];
    assert_eq!(entry.litellm_params.api_key.as_ref().unwrap().expose(), "sk-of-a-file");
    assert_eq!(loaded.files.last().unwrap(), &key, "it is watched");
    let place = "model_list[0].litellm_params.api_key: the file";
    for (path, why) in [("/nowhere/key", "No such file"), ("relative", "must begin with `/`")] {
        let [error] = &errors(&text(path))[..] else { panic!("{path}") };
        assert!(error.contains(place) && error.contains(path) && error.contains(why), "{error}");
    }
    let empty = folder.write("empty", "\n");
    let [error] = &errors(&text(empty.to_str().unwrap()))[..] else { panic!() };
    assert!(error.contains("it is empty"), "{error}");
}

#[test]
fn file_references_are_found_where_they_would_be_read() {
    let found = |text: &str| {
        crate::config::file_references(text).map(|p| p.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("a: ${file:/a}\nb: x-${file:/b/c}-${NAME}"), ["/a", "/b/c"]);
    assert!(found("$${file:/a} ${file:relative} ${file:/open").is_empty());
}
