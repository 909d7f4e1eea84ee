//! Every route, and who of eight callers may call it. [`CASES`] is the specification, [`RULES`] and the handlers have to
//! agree with it; `docs/admin-api.md` shows the rules.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

use super::super::access_cases::CASES;
use super::super::entity_fields::{describe, describe_member_defaults};
use super::super::shown::Shown;
use super::super::teams::list::AVAILABLE_PERMISSIONS;
use super::super::tests::{MASTER, World};
use super::*;
use crate::keys::hash;
use crate::store::SpendRow;

/// Beside the master key and a user with `proxy_admin`, who may do all of it: a viewer, an organisation's admin, a team's
/// admin, a member of the team (`internal_user`), another one (`internal_user_viewer`), a key without a user.
const CALLERS: [&str; 6] = ["vic", "orga", "boss", "ann", "eve", "bare"];

fn put(world: &World, kind: EntityKind, id: &str, set: impl FnOnce(&mut Entity)) -> String {
    let mut entity = Entity::new(kind, id);
    set(&mut entity);
    world.directory.put(entity).id
}

/// A place with everybody in it.
fn place() -> (World, [String; 3]) {
    let world = World::new();
    for (user, role) in [
        ("root", "proxy_admin"),
        ("vic", "proxy_admin_viewer"),
        ("orga", "internal_user"),
        ("boss", "internal_user"),
        ("ann", "internal_user"),
        ("eve", "internal_user_viewer"),
        ("zoe", "internal_user"),
    ] {
        world.user(user, role);
    }
    put(&world, EntityKind::Key, &hash("sk-bare-0123456789abcdef"), |_| {});
    put(&world, EntityKind::Organization, "acme", |_| {});
    put(&world, EntityKind::Team, "search", |team| team.organization_id = Some("acme".into()));
    put(&world, EntityKind::Team, "other", |_| {});
    // A viewer stays one, in a team too.
    for (team, user, role) in [
        ("search", "boss", "admin"),
        ("search", "ann", "user"),
        ("search", "eve", "user"),
        ("search", "vic", "admin"),
    ] {
        put(&world, EntityKind::Member, &member_id(team, user), |member| {
            (member.team_id, member.user_id) = (Some(team.into()), Some(user.into()));
            member.settings.role = Some(role.into());
        });
    }
    for (user, role) in [("orga", "org_admin"), ("ann", "internal_user")] {
        put(&world, EntityKind::OrganizationMember, &member_id("acme", user), |member| {
            (member.organization_id, member.user_id) = (Some("acme".into()), Some(user.into()));
            member.settings.role = Some(role.into());
        });
    }
    put(&world, EntityKind::EndUser, "c", |_| {});
    put(&world, EntityKind::Budget, "b", |_| {});
    put(&world, EntityKind::Tag, "t", |_| {});
    for (user, team) in [("ann", Some("search")), ("zoe", None)] {
        let id = format!("row-of-{user}");
        let row = SpendRow {
            call_id: id.clone(),
            user_id: Some(user.into()),
            team_id: team.map(str::to_owned),
            ..SpendRow::default()
        };
        world.directory.rows.lock().insert(id, row);
    }
    let key = |plain: &str, team: Option<&str>, user: Option<&str>| {
        put(&world, EntityKind::Key, &hash(plain), |key| {
            key.blocked = user.is_none();
            (key.team_id, key.user_id) = (team.map(str::to_owned), user.map(str::to_owned));
        })
    };
    let keys = [
        key("sk-of-ann-in-search", Some("search"), Some("ann")),
        key("sk-of-search-itself", Some("search"), None),
        hash("sk-zoe-0123456789abcdef"),
    ];
    (world, keys)
}

fn plain(caller: &str) -> String {
    format!("sk-{caller}-0123456789abcdef")
}

/// Makes the call in a place of its own: (was it let in, did it change anything).
async fn call(case: &(&str, &str, &str), key: &str) -> (bool, bool) {
    let (world, [of_ann, service, stranger]) = place();
    let fill =
        |text: &str| text.replace("STRANGER", &stranger).replace("SERVICE", &service).replace("KEY", &of_ann);
    let (method, path) = case.0.split_once(' ').unwrap();
    let before = world.directory.all.lock().clone();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let answer = world.call(method, &fill(path), key, fill(case.1)).await;
    let changed = before != *world.directory.all.lock();
    match answer.status {
        200 if path == "/key/bulk_update" => {
            (!answer.json()["successful_updates"].as_array().unwrap().is_empty(), changed)
        }
        200 => (true, changed),
        // Nothing was done before that could be told of.
        404 if path == "/audit/0" => (true, changed),
        // Who may not see a request does not learn whether there was one.
        404 if path.starts_with("/spend/logs/ui/row-of-") => (false, changed),
        403 => {
            assert!(!answer.error().1.is_empty(), "{}", answer.text);
            (false, changed)
        }
        status => panic!("{case:?} as {key}: {status} {}", answer.text),
    }
}

#[tokio::test]
async fn every_route_is_for_some_and_not_for_others() {
    let mut wrong = Vec::new();
    for case in CASES {
        for admin in [MASTER.to_owned(), plain("root")] {
            assert!(call(case, &admin).await.0, "{case:?} as {admin}");
        }
        for (caller, wanted) in CALLERS.iter().zip(case.2.chars()) {
            let (let_in, changed) = call(case, &plain(caller)).await;
            if let_in != (wanted == '+') {
                wrong.push(format!("{} {} as {caller}: {let_in}", case.0, case.1));
            }
            assert!(let_in || !changed, "{case:?} as {caller}: refused, and done all the same");
            assert!(*caller != "vic" || !changed, "{case:?}: a viewer changed something");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Does a path of [`CASES`] belong to a route as the router writes it?
fn matches(route: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (route, path): (Vec<&str>, Vec<&str>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len()
        && route.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
}

#[test]
fn every_rule_has_its_cases() {
    let routes: Vec<&str> = RULES.iter().flat_map(|rule| rule.routes).copied().collect();
    for route in &routes {
        let case = CASES.iter().any(|(call, ..)| matches(route, call.split_once(' ').unwrap().1));
        assert!(case, "{route} has no case");
        assert_eq!(routes.iter().filter(|other| *other == route).count(), 1, "{route} has two rules");
    }
}

/// Every route that a module of the admin API names. A handler without an [`Actor`] would pass by the rules.
fn routed() -> Vec<String> {
    let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin"))];
    let mut routes = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for part in text.split(".route(").skip(1) {
            let Some(route) = part.trim_start().trim_start_matches("&format!(").strip_prefix('"') else {
                continue;
            };
            let route = route.split('"').next().unwrap();
            match route.strip_prefix("{prefix}") {
                Some(rest) => {
                    routes.extend(["/customer", "/end_user"].map(|prefix| format!("{prefix}{rest}")))
                }
                None => routes.push(route.to_owned()),
            }
        }
    }
    routes
}

#[test]
fn no_route_is_without_a_rule() {
    let public = ["/health/liveliness", "/health/liveness", "/health/readiness"];
    let routed = routed();
    assert!(routed.len() > 80, "{routed:?}");
    for route in &routed {
        assert!(public.contains(&route.as_str()) || rule_of(route).is_some(), "{route} has no rule");
    }
    for route in RULES.iter().flat_map(|rule| rule.routes) {
        assert!(routed.iter().any(|known| known == route), "there is no route {route}");
    }
}

#[tokio::test]
async fn a_team_says_what_its_members_may_do() {
    let service = json!({"team_id": "search"}).to_string();
    let cases: [(&str, String); 7] = [
        ("/key/generate", json!({"team_id": "search"}).to_string()),
        ("/key/service-account/generate", service),
        ("/key/update", json!({"key": hash("sk-of-ann-in-search"), "metadata": {}}).to_string()),
        ("/key/delete", json!({"keys": [hash("sk-of-search-itself")]}).to_string()),
        ("/key/regenerate", json!({"key": hash("sk-of-search-itself")}).to_string()),
        ("/key/block", json!({"key": hash("sk-of-search-itself")}).to_string()),
        ("/key/unblock", json!({"key": hash("sk-of-search-itself")}).to_string()),
    ];
    for (route, body) in cases {
        assert!(AVAILABLE_PERMISSIONS.contains(&route));
        let (world, _) = place();
        let refused = world.call(Method::POST, route, &plain("ann"), body.clone()).await;
        assert_eq!(refused.status, 403, "{route} {}", refused.text);
        let permit = json!({"team_id": "search", "team_member_permissions": [route]});
        assert_eq!(world.post("/team/permissions_update", permit).await.status, 200);
        // Who may only look does not change anything, whatever the team says; nor does somebody else.
        for caller in ["eve", "vic", "zoe", "bare"] {
            let refused = world.call(Method::POST, route, &plain(caller), body.clone()).await;
            assert_eq!(refused.status, 403, "{route} as {caller}: {}", refused.text);
        }
        let allowed = world.call(Method::POST, route, &plain("ann"), body).await;
        assert_eq!(allowed.status, 200, "{route} {}", allowed.text);
    }
    let (world, _) = place();
    let count = async |permissions: &[&str]| {
        let permit = json!({"team_id": "search", "team_member_permissions": permissions});
        assert_eq!(world.post("/team/permissions_update", permit).await.status, 200);
        world.get("/key/list?team_id=search", &plain("ann")).await.json()["total_count"].clone()
    };
    assert_eq!(count(&[]).await, 1, "her own");
    assert_eq!(count(&["/key/list"]).await, 2);
    let info = format!("/key/info?key={}", hash("sk-of-search-itself"));
    assert_eq!(world.get(&info, &plain("ann")).await.status, 403, "not by default any more");
    let wrong = json!({"team_id": "search", "team_member_permissions": ["/key/info", "/team/delete"]});
    let refused = world.post("/team/permissions_update", wrong).await.error();
    assert_eq!((refused.0, refused.2.as_deref()), (400, Some("team_member_permissions")));
}

#[tokio::test]
async fn a_keys_own_routes_hold_for_admins_too() {
    let (world, _) = place();
    let key = world.key(json!({"user_id": "root", "allowed_routes": ["info_routes"]})).await;
    assert_eq!(world.get("/team/list", &key).await.status, 200);
    for path in ["/key/generate", "/team/new"] {
        let refused = world.call(Method::POST, path, &key, "{}").await;
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text.contains("allowed_routes"), "{}", refused.text);
    }
    let blocked = json!({"user_id": "root", "blocked": true}).to_string();
    assert_eq!(world.call(Method::POST, "/user/update", MASTER, blocked).await.status, 200);
    assert!(
        [401, 403].contains(&world.get("/team/list", &plain("root")).await.status),
        "its user is blocked"
    );
}

const BEGIN: &str = "<!-- routes: begin (made by `UPDATE_DOCS=1 cargo test -p attache admin::access`) -->\n";
const END: &str = "<!-- routes: end -->";

/// Methods of a route: those that are not refused as such. Nobody is let in for it.
async fn methods(world: &World, route: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for method in ["GET", "POST", "PATCH", "DELETE", "PUT"] {
        let path = route.replace("{*id}", "id").replace(['{', '}'], "");
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        // A path that only fits a route's name is unknown to other methods.
        if !matches!(world.send(request).await.status, 404 | 405) {
            found.push(method);
        }
    }
    found
}

async fn table() -> String {
    let world = World::new();
    let mut text = String::from(
        "| Routes | viewer | internal user | internal viewer | key without a user | and |\n|---|---|---|---|---|---|\n",
    );
    let reach = |reach: Reach| match reach {
        Reach::No => "",
        Reach::Own => "own",
        Reach::All => "all",
    };
    for rule in RULES {
        let mut routes = Vec::new();
        for route in rule.routes {
            let methods = methods(&world, route).await;
            assert!(!methods.is_empty(), "{route} has no method");
            routes.push(format!("`{} {route}`", methods.join(" ")));
        }
        let admins = match rule.admins {
            Admins::Nobody => "",
            Admins::Team => "admins of the team or its organization",
            Admins::Organization => "admins of the organization",
        };
        let [viewer, internal, internal_viewer, key] =
            [rule.viewer, rule.internal, rule.internal_viewer, rule.key].map(reach);
        let routes = routes.join(", ");
        writeln!(text, "| {routes} | {viewer} | {internal} | {internal_viewer} | {key} | {admins} |")
            .unwrap();
    }
    text
}

#[tokio::test]
async fn the_page_shows_the_rules() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/admin-api.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap_or_else(|| panic!("{path} has no line {BEGIN}"));
    let (_, tail) = rest.split_once(END).unwrap();
    let wanted = format!("{head}{BEGIN}\n{}\n{END}{tail}", table().await);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "docs/admin-api.md is out of date: UPDATE_DOCS=1 cargo test -p attache admin::access"
        );
    }
}

#[test]
fn the_page_names_every_field() {
    let mut everything = Entity::new(EntityKind::Team, "x");
    let settings = &mut everything.settings;
    settings.temp_budget_increase_nanos = Some(1);
    settings.budget_fallback_percent = Some(1);
    settings.budget_audit = true;
    let mut shown = Shown::default();
    describe(&everything, &mut shown);
    describe_member_defaults(&everything.settings, &mut shown);
    everything.kind = EntityKind::Key;
    describe(&everything, &mut shown);
    let shown = serde_json::to_value(&shown).unwrap();
    let page = include_str!("../../../docs/admin-api.md");
    for field in shown.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{field}`")), "docs/admin-api.md does not name {field}");
    }
}
