use axum::http::Method;
use serde_json::{Value, json};

use super::super::tests::{Answer, MASTER, World};
use crate::entity::{Entity, EntityKind, EntityRef};

async fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn call(world: &World, method: Method, path: &str, key: &str, body: Value) -> Answer {
    world.call(method, path, key, body.to_string()).await
}

/// The organisation `acme` with an admin `olga`, whose key is returned.
async fn acme(world: &World) -> String {
    let olga = world.user("olga", "internal_user");
    let body = json!({"organization_id": "acme", "organization_alias": "Acme", "max_budget": 0.2, "models": ["chat"]});
    ok(world.post("/organization/new", body).await).await;
    let body = json!({"organization_id": "acme", "member": {"user_id": "olga", "role": "org_admin"}});
    ok(world.post("/organization/member_add", body).await).await;
    olga
}

#[tokio::test]
async fn an_organization_is_made_changed_and_shown() {
    let world = World::new();
    let olga = acme(&world).await;
    let info = ok(world.get("/organization/info?organization_id=acme", MASTER).await).await;
    assert_eq!((&info["organization_alias"], &info["max_budget"]), (&json!("Acme"), &json!(0.2)));
    assert_eq!(
        (&info["members"][0]["user_id"], &info["members"][0]["user_role"]),
        (&json!("olga"), &json!("org_admin"))
    );
    let body = json!({"organization_id": "acme", "max_budget": 5, "rpm_limit": 8});
    let changed = ok(call(&world, Method::PATCH, "/organization/update", MASTER, body).await).await;
    assert_eq!((&changed["max_budget"], &changed["rpm_limit"]), (&json!(5.0), &json!(8)));

    let body = json!({"organization_id": "acme", "organization_alias": "ACME"});
    ok(call(&world, Method::PATCH, "/organization/update", &olga, body).await).await;
    let body = json!({"organization_id": "acme", "max_budget": 500});
    assert_eq!(call(&world, Method::PATCH, "/organization/update", &olga, body).await.error().0, 403);
    let mine = ok(world.get("/organization/list", &olga).await).await;
    assert_eq!((mine.as_array().unwrap().len(), &mine[0]["organization_alias"]), (1, &json!("ACME")));
    let stranger = world.user("eve", "internal_user");
    assert_eq!(ok(world.get("/organization/list", &stranger).await).await, json!([]));
    assert_eq!(world.get("/organization/info?organization_id=acme", &stranger).await.error().0, 403);

    for (method, path, body, status, param) in [
        (Method::POST, "/organization/new", json!({}), 400, "organization_alias"),
        (
            Method::POST,
            "/organization/new",
            json!({"organization_alias": "x", "budget_id": "no"}),
            404,
            "budget_id",
        ),
        (
            Method::POST,
            "/organization/new",
            json!({"organization_alias": "x", "organization_id": "acme"}),
            400,
            "organization_id",
        ),
        (Method::PATCH, "/organization/update", json!({"organization_id": "no"}), 404, "organization_id"),
        (
            Method::DELETE,
            "/organization/delete",
            json!({"organization_ids": ["no"]}),
            404,
            "organization_ids",
        ),
        (
            Method::POST,
            "/organization/member_add",
            json!({"organization_id": "no", "member": {"user_id": "x"}}),
            404,
            "organization_id",
        ),
        (
            Method::POST,
            "/organization/member_add",
            json!({"organization_id": "acme", "member": {"user_id": "olga"}}),
            400,
            "member",
        ),
        (
            Method::PATCH,
            "/organization/member_update",
            json!({"organization_id": "acme", "user_id": "eve"}),
            404,
            "user_id",
        ),
    ] {
        let answer = call(&world, method, path, MASTER, body).await;
        assert_eq!((answer.error().0, answer.error().2.as_deref()), (status, Some(param)), "{path}");
    }
}

#[tokio::test]
async fn its_admin_manages_people_and_teams_of_the_organization_only() {
    let world = World::new();
    let olga = acme(&world).await;
    let post = async |path: &str, body: Value| call(&world, Method::POST, path, &olga, body).await;
    let made = post("/team/new", json!({"team_id": "t", "organization_id": "acme", "rpm_limit": 3})).await;
    assert_eq!(ok(made).await["organization_id"], "acme");
    assert_eq!(post("/team/new", json!({"team_id": "u"})).await.error().0, 403, "no team outside");
    ok(post("/team/update", json!({"team_id": "t", "rpm_limit": 9})).await).await;
    assert_eq!(ok(world.get("/v2/team/list", &olga).await).await["total"], 1);
    ok(world.post("/team/new", json!({"team_id": "free"})).await).await;
    assert_eq!(
        post("/team/update", json!({"team_id": "free", "organization_id": "acme"})).await.error().0,
        403
    );
    assert_eq!(post("/team/delete", json!({"team_ids": ["t", "free"]})).await.error().0, 403);

    let made =
        ok(post("/user/new", json!({"user_id": "new", "organizations": ["acme"], "teams": ["t"]})).await)
            .await;
    assert_eq!(made["organizations"], json!(["acme"]));
    for body in [
        json!({"organizations": ["acme"], "user_role": "proxy_admin"}),
        json!({"organizations": ["acme"], "teams": ["free"]}),
        json!({}),
    ] {
        assert_eq!(post("/user/new", body.clone()).await.error().0, 403, "{body}");
    }
    let listed = ok(world.get("/user/list?sort_by=user_id&sort_order=asc", &olga).await).await;
    assert_eq!((&listed["total"], &listed["users"][0]["user_id"]), (&json!(2), &json!("new")));

    let body = json!({"organization_id": "acme", "user_id": "new", "role": "org_admin", "max_budget_in_organization": 1});
    let changed = ok(call(&world, Method::PATCH, "/organization/member_update", &olga, body).await).await;
    assert_eq!(changed["user_role"], "org_admin");
    assert_eq!(changed["litellm_budget_table"]["max_budget"], 1.0);
    let body = json!({"organization_id": "acme", "user_id": "new"});
    ok(call(&world, Method::DELETE, "/organization/member_delete", &olga, body).await).await;
    assert_eq!(ok(world.get("/user/list", &olga).await).await["total"], 1);
}

#[tokio::test]
async fn teams_keys_and_memberships_go_with_their_organization() {
    let world = World::new();
    acme(&world).await;
    ok(world
        .post("/team/new", json!({"team_id": "t", "organization_id": "acme", "members": ["olga"]}))
        .await)
    .await;
    for (id, team, organization) in [("k1", Some("t"), None), ("k2", None, Some("acme")), ("k3", None, None)]
    {
        let mut key = Entity::new(EntityKind::Key, id);
        (key.team_id, key.organization_id) = (team.map(str::to_owned), organization.map(str::to_owned));
        world.directory.put(key);
    }
    let body = json!({"organization_ids": ["acme"]});
    let gone = ok(call(&world, Method::DELETE, "/organization/delete", MASTER, body).await).await;
    assert_eq!(gone[0]["organization_id"], "acme");
    let left: Vec<EntityRef> = world.directory.all.lock().keys().cloned().collect();
    let kinds: Vec<EntityKind> = left.iter().map(|of| of.kind).collect();
    assert_eq!(kinds, [EntityKind::Key, EntityKind::Key, EntityKind::User], "{left:?}");
    assert!(left.contains(&EntityRef::new(EntityKind::Key, "k3")), "{left:?}");
}
