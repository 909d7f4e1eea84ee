use super::*;
use crate::config::issue::Place;
use crate::config::locate::line_of;

#[test]
fn included_lists_are_joined_and_sections_replaced() {
    let folder = Folder::new();
    let root = folder.write(
        "config.yaml",
        &format!(
            "include: [parts/models.yaml, parts/router.yaml]\n{MODEL}router_settings:\n  num_retries: 7\n"
        ),
    );
    folder.write("parts/models.yaml", &MODEL.replace("model_name: gpt-4o", "model_name: second"));
    folder.write("parts/router.yaml", "include: [deep.yaml]\nrouter_settings:\n  max_fallbacks: 1\n");
    folder.write("parts/deep.yaml", "litellm_settings:\n  num_retries: 4\n");
    let loaded = load(&root, &env()).unwrap();
    let names: Vec<_> = loaded.config.model_list.iter().map(|entry| entry.model_name.as_str()).collect();
    assert_eq!(names, ["gpt-4o", "second"]);
    assert_eq!(loaded.config.router_settings.num_retries, None, "replaced whole");
    assert_eq!(loaded.config.router_settings.max_fallbacks, Some(1));
    assert_eq!(loaded.config.litellm_settings.num_retries, Some(4));
    assert_eq!(loaded.files.len(), 4);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_some(&warnings, &["router_settings", "replaced by the one in", "router.yaml"]);
}

#[test]
fn a_problem_names_the_included_file_and_its_line() {
    let folder = Folder::new();
    let root = folder.write("config.yaml", &format!("include: [more.yaml]\n{MODEL}"));
    folder.write("more.yaml", "# more\nmodel_list:\n  - model_name: x\n    litellm_params:\n      model: openai/x\n      api_key: ${NOPE}\n");
    let errors = load(&root, &env()).unwrap_err().to_string();
    assert!(errors.contains("more.yaml:6: model_list[1].litellm_params.api_key: "), "{errors}");
    assert!(errors.contains("NOPE is not set"), "{errors}");
}

#[test]
fn includes_that_cannot_be_read_are_errors() {
    let folder = Folder::new();
    let looped = folder.write("loop.yaml", "include: [loop.yaml]\n");
    assert!(load(&looped, &env()).unwrap_err().to_string().contains("includes itself"));
    let missing = folder.write("missing.yaml", "include:\n  - nowhere.yaml\n");
    assert!(load(&missing, &env()).unwrap_err().to_string().contains("nowhere.yaml"));
    assert_some(&errors("include: x.yaml\n"), &["1 include", "found text, expected a list"]);
}

#[test]
fn broken_yaml_has_a_line() {
    let found = errors("model_list:\n  - model_name: [\n");
    assert_some(&found, &["not valid YAML"]);
    assert!(!found[0].starts_with('?'), "{found:?}");
    assert_some(&errors("- a\n"), &["found a list, expected sections"]);
    let twice = errors("router_settings: {}\nrouter_settings: {}\n");
    assert_some(&twice, &["duplicate"]);
}

#[test]
fn merge_keys_of_yaml_work() {
    let text = "
model_list:
  - model_name: a
    litellm_params: &base
      model: openai/gpt-4o
      api_key: k
      rpm: 5
  - model_name: b
    litellm_params:
      <<: *base
      rpm: 7
";
    let config = config(text);
    assert_eq!(config.model_list[1].litellm_params.rpm, Some(7));
    assert_eq!(config.model_list[1].litellm_params.model, "openai/gpt-4o");
}

#[test]
fn lines_are_found_in_every_style_of_list() {
    let text = "a:\n- x: 1\n  y:\n  - 1\n  - z: 2\n-   w: 3\nb:\n  'q': {in: line}\n";
    let line = |dotted: &str, index: Option<usize>, rest: &str| {
        let mut place = Place::at(dotted);
        if let Some(index) = index {
            place = place.index(index);
        }
        for name in rest.split('.').filter(|name| !name.is_empty()) {
            place = name.parse().map_or_else(|_| place.key(name), |index| place.index(index));
        }
        line_of(text, &place.0)
    };
    assert_eq!(line("a", None, ""), Some(1));
    assert_eq!(line("a", Some(0), "x"), Some(2));
    assert_eq!(line("a", Some(0), "y.1.z"), Some(5));
    assert_eq!(line("a", Some(1), "w"), Some(6));
    assert_eq!(line("b", None, "q"), Some(8));
    assert_eq!(line("b", None, "q.in"), Some(8), "flow style: the nearest line above");
    assert_eq!(line("nowhere", None, ""), None);
}
