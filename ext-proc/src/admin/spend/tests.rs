use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};
use crate::entity::{Entity, EntityKind, member_id};
use crate::keys::hash;
use crate::store::{DAY_US, PromptRow, SpendLine, SpendRow};

/// 2026-01-31, in days.
const DAY: u64 = 20_484;

fn row(n: u64, user: &str, team: &str, nanos: Option<i64>) -> SpendRow {
    SpendRow {
        call_id: format!("call-{n:03}"),
        key: hash(&format!("sk-{user}-0123456789abcdef")),
        user_id: Some(user.into()),
        team_id: Some(team.into()),
        organization_id: Some("acme".into()),
        user: Some(format!("customer{}", n % 2)),
        tags: vec!["prod".into(), format!("tag{}", n % 3)],
        endpoint: "chat".into(),
        model: "chat".into(),
        group: "chat".into(),
        provider: "openai".into(),
        provider_model: format!("gpt-{}", n % 2),
        outcome: if n.is_multiple_of(4) { "failure".into() } else { "success".into() },
        status: 200,
        prompt_tokens: 10,
        completion_tokens: n,
        total_tokens: 10 + n,
        cost_nanos: nanos,
        start_us: (DAY - n % 3) * DAY_US + 1_000 + n,
        duration_us: 5_000,
        ..SpendRow::default()
    }
}

/// Three users in two teams of an organisation; `boss` is an admin of `search`, `orga` of the organisation.
async fn place() -> World {
    let world = World::sqlite().await;
    let put = async |entity: Entity| {
        let write = crate::store::Write::Insert(entity);
        world.database.apply(&[write], &crate::store::Author::default()).await.unwrap();
    };
    let mut organization = Entity::new(EntityKind::Organization, "acme");
    organization.alias = Some("Acme".into());
    put(organization).await;
    for team in ["search", "ads"] {
        let mut entity = Entity::new(EntityKind::Team, team);
        entity.alias = Some(format!("team {team}"));
        entity.organization_id = Some("acme".into());
        put(entity).await;
    }
    for user in ["ann", "bob", "boss", "orga", "vic"] {
        let mut entity = Entity::new(EntityKind::User, user);
        let role = if user == "vic" { "proxy_admin_viewer" } else { "internal_user" };
        entity.settings.role = Some(role.into());
        put(entity).await;
        let mut key = Entity::new(EntityKind::Key, hash(&plain(user)));
        key.alias = Some(format!("key of {user}"));
        key.user_id = Some(user.into());
        put(key).await;
    }
    for (team, user, role) in [("search", "ann", "user"), ("search", "boss", "admin"), ("ads", "bob", "user")]
    {
        let mut member = Entity::new(EntityKind::Member, member_id(team, user));
        (member.team_id, member.user_id) = (Some(team.into()), Some(user.into()));
        member.settings.role = Some(role.into());
        put(member).await;
    }
    let mut member = Entity::new(EntityKind::OrganizationMember, member_id("acme", "orga"));
    (member.organization_id, member.user_id) = (Some("acme".into()), Some("orga".into()));
    member.settings.role = Some("org_admin".into());
    put(member).await;
    let rows: Vec<SpendRow> = (0..30)
        .map(|n| match n % 3 {
            0 => row(n, "ann", "search", Some(1_000_000_001)),
            1 => row(n, "bob", "ads", Some(7)),
            _ => row(n, "boss", "search", (n != 29).then_some(100)),
        })
        .collect();
    world.database.write(&rows).await.unwrap();
    world
}

fn plain(user: &str) -> String {
    format!("sk-{user}-0123456789abcdef")
}

const DATES: &str = "start_date=2026-01-01&end_date=2026-01-31";
/// Of all rows: 10 of ann, 10 of bob, 9 of boss with a price.
const TOTAL: u64 = 10 * 1_000_000_001 + 10 * 7 + 9 * 100;
const SEARCH: u64 = 10 * 1_000_000_001 + 9 * 100;

async fn json_of(world: &World, path: &str, key: &str) -> Value {
    let answer = world.get(path, key).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}

fn sum(rows: &Value, field: &str) -> u64 {
    rows.as_array().unwrap().iter().map(|row| row[field].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn every_report_adds_up_to_the_same() {
    let world = place().await;
    let get = async |path: &str| json_of(&world, &format!("{path}{DATES}"), MASTER).await;
    let total = json_of(&world, "/global/spend", MASTER).await;
    assert_eq!((total["spend_nanos"].as_u64(), &total["requests"]), (Some(TOTAL), &json!(30)));
    assert_eq!(total["unpriced_requests"], 1);
    for path in ["/global/spend/logs?", "/spend/logs?"] {
        let days = get(path).await;
        assert_eq!((sum(&days, "spend_nanos"), days.as_array().unwrap().len()), (TOTAL, 3), "{path} {days}");
    }
    for path in ["/global/spend/keys?", "/global/spend/models?"] {
        assert_eq!(sum(&get(path).await, "total_spend_nanos"), TOTAL, "{path}");
    }
    assert_eq!(sum(&get("/global/spend/provider?").await, "spend_nanos"), TOTAL);
    assert_eq!(sum(&get("/global/spend/teams?").await["total_spend_per_team"], "total_spend_nanos"), TOTAL);
    assert_eq!(sum(&get("/key/spend/report?").await, "total_cost_nanos"), TOTAL);
    assert_eq!(sum(&get("/team/spend/report?team_id=search&").await, "total_cost_nanos"), SEARCH);
    assert_eq!(sum(&get("/organization/spend/report?").await, "total_cost_nanos"), TOTAL);
    assert_eq!(sum(&get("/user/spend/report?user_id=bob&").await, "total_cost_nanos"), 70);
    // Each row has two tags.
    assert_eq!(sum(&get("/global/spend/tags?").await["spend_per_tag"], "spend_nanos"), 2 * TOTAL);
    assert_eq!(sum(&get("/spend/tags?").await, "total_spend_nanos"), 2 * TOTAL);
    assert_eq!(get("/tag/summary?").await["results"].as_array().unwrap().len(), 4);
    let names = json_of(&world, "/global/spend/all_tag_names", MASTER).await;
    assert_eq!(names["tag_names"], json!(["prod", "tag0", "tag1", "tag2"]));
    let customers =
        world.post("/global/spend/end_users", json!({"startTime": "2026-01-01", "endTime": "2026-02-01"}));
    assert_eq!(sum(&customers.await.json(), "total_spend_nanos"), TOTAL);
    assert_eq!(get("/global/activity?").await["sum_spend_nanos"], TOTAL);
    assert_eq!(sum(&get("/global/activity/model?").await, "sum_api_requests"), 30);
    for kind in ["user", "team", "organization", "customer"] {
        let report = get(&format!("/{kind}/daily/activity?")).await;
        assert_eq!(report["metadata"]["total_spend_nanos"], TOTAL, "{kind}");
        assert_eq!(report["metadata"]["total_api_requests"], 30, "{kind}");
    }
    for by in
        ["key", "user", "team", "organization", "customer", "model", "model_group", "provider", "endpoint"]
    {
        for period in ["", "&group_by=day", "&group_by=month"] {
            let report = get(&format!("/spend/report?by={by}{period}&")).await;
            let parts = report["results"].as_array().unwrap();
            let sum: u64 = parts.iter().map(|part| part["metrics"]["spend_nanos"].as_u64().unwrap()).sum();
            assert_eq!((sum, report["total"]["spend_nanos"].as_u64()), (TOTAL, Some(TOTAL)), "{by}{period}");
        }
    }
    let pages = get("/spend/logs/v2?page_size=100&").await;
    let spent: u64 =
        pages["data"].as_array().unwrap().iter().filter_map(|row| row["spend_nanos"].as_u64()).sum();
    assert_eq!((spent, &pages["total"]), (TOTAL, &json!(30)));
}

#[tokio::test]
async fn amounts_are_exact_and_named() {
    let world = place().await;
    let answer = world.get(&format!("/spend/report?by=team&{DATES}"), MASTER).await;
    assert!(
        answer.text.contains(r#"{"id":"search","name":"team search","metrics":{"spend":10.00000091,"#),
        "{}",
        answer.text
    );
    let keys = world.get(&format!("/global/spend/keys?{DATES}&limit=1"), MASTER).await;
    assert!(keys.text.contains(r#""key_alias":"key of ann","#), "{}", keys.text);
    assert!(keys.text.contains(r#""total_spend":10.00000001,"#), "{}", keys.text);
    let report = world.get(&format!("/global/spend/report?{DATES}"), MASTER).await.json();
    assert_eq!(report[0]["group_by_day"], "2026-01-29T00:00:00+00:00");
    let teams = &report[2]["teams"];
    assert_eq!((&teams[0]["team_name"], &teams[0]["team_id"]), (&json!("team search"), &json!("search")));
    assert_eq!(teams[0]["metadata"][0]["api_key"], hash(&plain("ann")));
    let by_key = world.get(&format!("/global/spend/report?group_by=api_key&{DATES}"), MASTER).await.json();
    assert_eq!(by_key[0]["total_cost_nanos"], 10_000_000_010_u64);
    assert_eq!(by_key[0]["model_details"].as_array().unwrap().len(), 2);
    let summary = world.get(&format!("/spend/logs?{DATES}&user_id=bob"), MASTER).await.json();
    assert_eq!((&summary[0]["startTime"], &summary[0]["spend_nanos"]), (&json!("2026-01-30"), &json!(70)));
    assert_eq!(summary[0]["users"], json!({"bob": 0.00000007}));
    assert_eq!(summary[0][hash(&plain("bob"))], json!(0.00000007));
}

#[tokio::test]
async fn daily_activity_says_what_the_days_are_made_of() {
    let world = place().await;
    let report = json_of(&world, &format!("/team/daily/activity?{DATES}&page_size=2"), MASTER).await;
    let (results, metadata) = (&report["results"], &report["metadata"]);
    assert_eq!((&results[0]["date"], &results[1]["date"]), (&json!("2026-01-31"), &json!("2026-01-30")));
    assert_eq!((&metadata["total_pages"], &metadata["has_more"]), (&json!(2), &json!(true)));
    assert_eq!((&metadata["total_api_keys"], &metadata["total_failed_requests"]), (&json!(2), &json!(8)));
    let day = &results[0];
    // Row 0, 3, ..., of ann alone.
    assert_eq!(day["metrics"]["api_requests"], 10);
    let ann = &day["breakdown"]["api_keys"][hash(&plain("ann"))];
    assert_eq!(
        (&ann["metadata"]["key_alias"], &ann["metrics"]["api_requests"]),
        (&json!("key of ann"), &json!(10))
    );
    let search = &day["breakdown"]["entities"]["search"];
    assert_eq!(
        (&search["metadata"]["team_alias"], &search["metrics"]["spend_nanos"]),
        (&json!("team search"), &json!(10_000_000_010_u64))
    );
    for part in ["models", "model_groups", "providers", "endpoints"] {
        let parts = day["breakdown"][part].as_object().unwrap();
        let sum: u64 = parts.values().map(|part| part["metrics"]["spend_nanos"].as_u64().unwrap()).sum();
        assert_eq!(sum, 10_000_000_010, "{part}");
        let keys = parts.values().map(|part| &part["api_key_breakdown"][hash(&plain("ann"))]["metrics"]);
        assert_eq!(keys.map(|metrics| metrics["api_requests"].as_u64().unwrap()).sum::<u64>(), 10, "{part}");
    }
    let last = json_of(&world, &format!("/team/daily/activity?{DATES}&page_size=2&page=2"), MASTER).await;
    assert_eq!(
        (&last["results"][0]["date"], &last["metadata"]["has_more"]),
        (&json!("2026-01-29"), &json!(false))
    );
    let all = json_of(&world, &format!("/team/daily/activity?{DATES}&api_key_limit=1"), MASTER).await;
    assert_eq!(all["metadata"]["total_spend_nanos"], TOTAL);
    assert_eq!(all["results"][1]["metrics"]["spend_nanos"], 70, "sums are those of all keys");
    assert_eq!(
        all["results"][1]["breakdown"]["api_keys"],
        json!({}),
        "the key with the largest spend is listed"
    );
    assert_eq!((&all["metadata"]["total_api_keys"], &all["metadata"]["total_pages"]), (&json!(3), &json!(1)));
    let ads = json_of(&world, &format!("/team/daily/activity?{DATES}&team_ids=ads"), MASTER).await;
    assert_eq!(ads["metadata"]["total_spend_nanos"], 70);
    let model =
        json_of(&world, &format!("/user/daily/activity?{DATES}&user_id=boss&model=gpt-0"), MASTER).await;
    assert_eq!(model["metadata"]["total_api_requests"], 5);
}

#[tokio::test]
async fn everybody_sees_what_is_theirs() {
    let world = place().await;
    let total = async |path: &str, user: &str| {
        let report = json_of(&world, &format!("{path}{DATES}"), &plain(user)).await;
        report["metadata"]["total_spend_nanos"].as_u64().unwrap()
    };
    let ann = 10 * 1_000_000_001;
    for (path, of) in [
        ("/user/daily/activity?", [("vic", TOTAL), ("ann", ann), ("boss", 900), ("orga", 0)]),
        // An admin sees the team, a member what is its own in it.
        ("/team/daily/activity?", [("vic", TOTAL), ("ann", ann), ("boss", SEARCH), ("orga", TOTAL)]),
        (
            "/team/daily/activity?team_ids=search&",
            [("vic", SEARCH), ("ann", ann), ("boss", SEARCH), ("orga", SEARCH)],
        ),
        ("/tag/daily/activity?tags=prod&", [("vic", TOTAL), ("ann", ann), ("boss", 900), ("orga", 0)]),
    ] {
        for (user, wanted) in of {
            assert_eq!(total(path, user).await, wanted, "{path} as {user}");
        }
    }
    let count = async |path: &str, user: &str| {
        json_of(&world, &format!("/spend/logs/v2?{path}"), &plain(user)).await["total"].as_u64().unwrap()
    };
    for (path, of) in [
        ("", [("vic", 30), ("ann", 10), ("boss", 10), ("orga", 0)]),
        ("team_id=search", [("vic", 20), ("ann", 10), ("boss", 20), ("orga", 20)]),
        ("tag=prod", [("vic", 30), ("ann", 10), ("boss", 10), ("orga", 0)]),
    ] {
        for (user, wanted) in of {
            assert_eq!(count(path, user).await, wanted, "{path} as {user}");
        }
    }
    assert_eq!(count("organization_id=acme", "orga").await, 30);
    let spent = |rows: Value| sum(&rows, "total_spend_nanos");
    assert_eq!(spent(json_of(&world, &format!("/global/spend/keys?{DATES}"), &plain("ann")).await), ann);
    let key = hash(&plain("ann"));
    let report = json_of(&world, &format!("/key/spend/report?api_key={key}&{DATES}"), &plain("ann")).await;
    assert_eq!(sum(&report, "total_cost_nanos"), ann);
    let one = async |user: &str| world.get("/spend/logs/ui/call-000", &plain(user)).await.status;
    assert_eq!((one("ann").await, one("boss").await, one("bob").await), (200, 200, 404));
    assert_eq!(json_of(&world, "/spend/logs?request_id=call-000", &plain("bob")).await, json!([]));
}

#[tokio::test]
async fn pages_say_how_many_there_are() {
    let world = place().await;
    let page = async |query: &str| json_of(&world, &format!("/spend/logs/v2?{query}"), MASTER).await;
    let ids = |page: &Value| -> Vec<String> {
        let rows = page["data"].as_array().unwrap().iter();
        rows.map(|row| row["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let mut seen = Vec::new();
    for number in 1..=5 {
        let found = page(&format!("page={number}&page_size=7")).await;
        assert_eq!((&found["total"], &found["total_pages"]), (&json!(30), &json!(5)), "{number}");
        assert_eq!(found["total_is_capped"], false);
        seen.extend(ids(&found));
    }
    assert_eq!((seen[0].as_str(), seen[29].as_str(), seen.len()), ("call-027", "call-002", 30));
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), 30, "no row twice");
    assert!(ids(&page("page=6&page_size=7").await).is_empty());
    let oldest = page("sort_order=asc&page_size=1").await;
    assert_eq!(ids(&oldest), ["call-002"]);
    // A part of a day, spend, status: counted.
    let part = page("start_date=2026-01-31+00:00:00&end_date=2026-01-31+00:00:00&page_size=2").await;
    assert_eq!((&part["total"], part["data"].as_array().unwrap().len()), (&json!(10), 2));
    let rich = page("min_spend=1&page_size=3&page=2").await;
    assert_eq!((&rich["total"], rich["data"].as_array().unwrap().len()), (&json!(10), 3));
    assert_eq!(page("max_spend=0.0000001&min_spend=0.00000001").await["total"], 9);
    assert_eq!(page("status_filter=failure").await["total"], 8);
    assert_eq!(page("status_filter=success&team_id=search&user_id=ann").await["total"], 7);
    assert_eq!(page("key_alias=of+bo").await["total"], 20);
    assert_eq!(page("request_id=call-005").await["total"], 1);
    assert_eq!(page("end_user=customer1&page_size=4&page=2").await["data"].as_array().unwrap().len(), 4);
    let dearest = page("sort_by=spend&page_size=12").await;
    let spend: Vec<Option<u64>> =
        dearest["data"].as_array().unwrap().iter().map(|row| row["spend_nanos"].as_u64()).collect();
    assert_eq!((spend[0], spend[9], spend[10]), (Some(1_000_000_001), Some(1_000_000_001), Some(100)));
    let cheapest = page("sort_by=spend&sort_order=asc&page_size=1").await;
    assert_eq!(cheapest["data"][0]["spend"], Value::Null, "unknown is not 0");
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let world = place().await;
    for (path, param) in [
        ("/spend/logs?limit=0", "limit"),
        ("/spend/logs?start_date=soon&end_date=2026-01-31", "start_date"),
        ("/spend/logs?summarize=maybe", "summarize"),
        ("/spend/logs?colour=red", "colour"),
        ("/spend/logs?summarize=true&user_id=a&team_id=b", "summarize"),
        ("/spend/logs/v2?page=0", "page"),
        ("/spend/logs/v2?page_size=101", "page_size"),
        ("/spend/logs/v2?sort_by=colour", "sort_by"),
        ("/spend/logs/v2?sort_order=up", "sort_order"),
        ("/spend/logs/v2?min_spend=much", "min_spend"),
        ("/spend/logs/v2?max_spend=-1", "max_spend"),
        ("/spend/logs/v2?status_filter=500", "status_filter"),
        ("/spend/logs/v2?start_date=2026-02-01&end_date=2026-01-01", "end_date"),
        ("/spend/report", "by"),
        ("/spend/report?by=colour", "by"),
        ("/spend/report?by=team&group_by=year", "group_by"),
        ("/spend/report?by=team&limit=1001", "limit"),
        ("/spend/report?by=team&user_id=ann", "user_id"),
        ("/spend/report?by=model&user_id=ann&tag=prod", "tag"),
        ("/global/spend/report?group_by=colour", "group_by"),
        ("/global/spend/keys?limit=x", "limit"),
        ("/global/activity?end_date=x", "end_date"),
        ("/team/daily/activity?start_date=1980-01-01&end_date=2026-01-01", "start_date"),
        ("/team/daily/activity?api_key_limit=0", "api_key_limit"),
        ("/spend/export?format=xlsx", "format"),
    ] {
        let (status, kind, named) = world.get(path, MASTER).await.error();
        assert_eq!(
            (status, kind.as_str(), named.as_deref()),
            (400, "invalid_request_error", Some(param)),
            "{path}"
        );
    }
    let wrong = [
        (json!({"model": "chat"}), "messages"),
        (json!({"usage": {"prompt_tokens": 1}}), "model"),
        (json!({"model": "chat", "usage": {}}), "usage"),
        (json!({"completion_response": {"model": "chat"}}), "completion_response"),
    ];
    for (body, param) in wrong {
        let (status, _, named) = world.post("/spend/calculate", body).await.error();
        assert_eq!((status, named.as_deref()), (400, Some(param)));
    }
    let (status, _, param) = world.post("/global/spend/end_users", json!({"startTime": "x"})).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("startTime")));
}

#[tokio::test]
async fn a_request_is_explained() {
    let world = World::sqlite().await;
    let line = |attempt: u32, factors: &str, nanos: Option<i64>| SpendLine {
        attempt,
        model: "gpt".into(),
        outcome: "complete".into(),
        factors: factors.into(),
        cost_nanos: nanos,
        ..SpendLine::default()
    };
    let bill = "in 1200*2500000000;cached@flex>200000 300*1250000000;out 50*10000000000;margin 10%";
    let nanos = i64::try_from(attache_llm::price::Bill::decode(bill).unwrap().nanos).unwrap();
    let row = SpendRow {
        cost_nanos: Some(nanos + 3),
        lines: vec![line(0, bill, Some(nanos)), line(1, "out 3*1000000", Some(3))],
        ..row(1, "ann", "search", None)
    };
    let unknown = SpendRow { lines: vec![line(0, "", None)], ..super::tests::row(2, "ann", "search", None) };
    let wrong = SpendRow {
        lines: vec![line(0, "out 3*1000000", Some(4))],
        ..super::tests::row(3, "ann", "search", Some(4))
    };
    world.database.write(&[row, unknown, wrong]).await.unwrap();
    let detail =
        async |n: u32| -> Answer { world.get(&format!("/spend/logs?request_id=call-00{n}"), MASTER).await };
    let found = detail(1).await;
    let lines = &found.json()[0]["lines"];
    assert_eq!((&lines[0]["recomputed"], &lines[1]["recomputed"]), (&json!(true), &json!(true)));
    let bill = &lines[0]["bill"];
    assert_eq!(
        (&bill["margin"], &bill["discount"], &bill["total_nanos"]),
        (&json!("10%"), &Value::Null, &json!(nanos))
    );
    let factor = &bill["factors"][1];
    assert_eq!((&factor["item"], &factor["class"]), (&json!("cached"), &json!("flex")));
    assert_eq!(factor["from_prompt_tokens"], 200_001);
    assert!(
        found.text.contains(r#""rate":0.0000025,"rate_per_million":2.5,"amount":0.003}"#),
        "{}",
        found.text
    );
    assert!(
        found.text.contains(r#""cost_breakdown":{"input_cost":0.003375,"output_cost":0.000500003,"#),
        "{}",
        found.text
    );
    let unknown = detail(2).await.json();
    assert_eq!((&unknown[0]["spend"], &unknown[0]["lines"][0]["bill"]), (&Value::Null, &Value::Null));
    assert_eq!(detail(3).await.json()[0]["lines"][0]["recomputed"], false);
}

#[tokio::test]
async fn costs_are_calculated_before_and_after() {
    let world = World::new();
    let cost = async |body: Value| world.post("/spend/calculate", body).await;
    let after = cost(
        json!({"completion_response": {"model": "chat", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}}),
    );
    let after = after.await.json();
    assert_eq!((&after["cost_nanos"], &after["estimated"]), (&json!(20), &json!(false)), "{after}");
    let before =
        cost(json!({"model": "chat", "messages": [{"role": "user", "content": "12345678"}]})).await.json();
    assert_eq!((&before["usage"]["prompt"], &before["estimated"]), (&json!(3), &json!(true)), "{before}");
    let table = cost(json!({"model": "gpt-4o", "usage": {"prompt_tokens": 1_000_000}})).await;
    assert!(table.json()["cost_nanos"].as_u64().unwrap() > 0, "{}", table.text);
    let unknown = cost(json!({"model": "nobody knows it", "usage": {"prompt_tokens": 1}})).await.json();
    assert_eq!((&unknown["cost"], &unknown["bill"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn rows_are_exported_whole() {
    let world = place().await;
    // More than one batch.
    let more: Vec<SpendRow> = (100..4_200).map(|n| row(n, "bob", "ads", Some(1))).collect();
    world.database.write(&more).await.unwrap();
    let csv = world.get(&format!("/spend/export?format=csv&{DATES}"), MASTER).await;
    let mut reader = ::csv::Reader::from_reader(csv.text.as_bytes());
    let at = reader.headers().unwrap().iter().position(|name| name == "spend_nanos").unwrap();
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 4_130);
    let sum: u64 = records.iter().filter_map(|record| record[at].parse::<u64>().ok()).sum();
    assert_eq!(sum, TOTAL + 4_100);
    let lines =
        world.get(&format!("/spend/export?format=jsonl&team_id=search&{DATES}"), &plain("boss")).await;
    let rows: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), rows.iter().filter_map(|row| row["spend_nanos"].as_u64()).sum()), (20, SEARCH));
    let own = world.get(&format!("/spend/export?format=jsonl&{DATES}"), &plain("ann")).await;
    assert_eq!(own.text.lines().count(), 10);
    assert_eq!(
        world.get("/spend/export?format=jsonl&start_date=2020-01-01&end_date=2020-01-02", MASTER).await.text,
        ""
    );
}

#[tokio::test]
async fn what_was_said_is_shown_with_its_row_to_those_who_may_see_that() {
    let world = place().await;
    let asked = r#"[{"role":"user","content":"hi"}]"#;
    let said = |call_id: &str, response: &str| PromptRow {
        call_id: call_id.into(),
        start_us: 1,
        request: Some(asked.into()),
        response: Some(response.into()),
    };
    let cut = r#"{"choices":[{"mess ... (truncated)"#;
    world.database.write_prompts(&[said("call-000", "12 apples"), said("call-003", cut)]).await.unwrap();
    let of = async |id: &str, key: &str| {
        json_of(&world, &format!("/spend/logs?request_id={id}"), key).await[0].clone()
    };
    let shown = of("call-000", &plain("ann")).await;
    assert_eq!(shown["messages"], json!([{"role": "user", "content": "hi"}]));
    assert_eq!(shown["response"], "12 apples");
    assert_eq!(of("call-003", MASTER).await["response"], cut);
    let silent = of("call-006", MASTER).await;
    assert_eq!((&silent["messages"], &silent["response"]), (&json!({}), &json!({})));
    assert_eq!(of("call-000", &plain("bob")).await, Value::Null);
    let one = json_of(&world, "/spend/logs/ui/call-000", MASTER).await;
    assert_eq!(one["response"], "12 apples");
    let list = json_of(&world, "/spend/logs", MASTER).await;
    assert_eq!(list[0].get("messages"), None, "not in lists");
}
