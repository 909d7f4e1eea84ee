//! What was said, apart from the ledger's rows.

use super::*;

fn said(call_id: &str, start_us: u64, response: &str) -> PromptRow {
    let request = Some(r#"[{"role":"user","content":"\"é\u0000"}]"#.to_owned());
    PromptRow { call_id: call_id.to_owned(), start_us, request, response: Some(response.to_owned()) }
}

pub(super) async fn prompts_are_kept_once_and_forgotten_by_age(
    one: Arc<dyn Database>,
    two: Arc<dyn Database>,
) {
    assert_eq!(one.prompt("a").await.unwrap(), None);
    one.write_prompts(&[]).await.unwrap();
    let without = PromptRow { request: None, ..said("c", 30, "{\"answer\": true}") };
    one.write_prompts(&[said("b", 20, "two"), said("a", 10, "one"), without.clone()]).await.unwrap();
    two.write_prompts(&[said("a", 11, "again"), said("a", 12, "and again"), said("d", 40, "")])
        .await
        .unwrap();
    assert_eq!(two.prompt("a").await.unwrap(), Some(said("a", 10, "one")), "the first one counts");
    assert_eq!(one.prompt("c").await.unwrap(), Some(without));
    let odd = PromptRow { response: Some("a\0b".to_owned()), ..said("odd", 50, "") };
    one.write_prompts(&[odd]).await.unwrap();
    assert_eq!(one.prompt("odd").await.unwrap().unwrap().response.as_deref(), Some("ab"));
    assert_eq!(one.forget_prompts(30).await.unwrap(), 2);
    assert_eq!(one.forget_prompts(30).await.unwrap(), 0);
    for (id, there) in [("a", false), ("b", false), ("c", true), ("d", true)] {
        assert_eq!(two.prompt(id).await.unwrap().is_some(), there, "{id}");
    }
}
