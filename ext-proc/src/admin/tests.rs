use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{AdminState, MAX_BODY, router};
use crate::config::{Config, Secret};
use crate::entity::double::Entities;
use crate::entity::{Entity, EntityKind};
use crate::keys::{KeyDirectory, hash};
use crate::ledger::row_tests::{config, record};
use crate::ledger::{Books, BooksOptions};
use crate::routing::{Deployment, Group, Health, LiveClusters, LiveView, Snapshot, now_ms};
use crate::server::RouterState;
use crate::store::{Circuit, Database, DatabaseBackend, Memory, Transition, open_database};

pub(super) const MASTER: &str = "sk-master-0123456789";

pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// (status, error.type, error.param)
    pub(super) fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && !error["code"].is_null(), "{}", self.text);
        (self.status, error["type"].as_str().unwrap().to_owned(), error["param"].as_str().map(str::to_owned))
    }
}

/// Envoy has every cluster.
struct EveryCluster;

impl LiveView for EveryCluster {
    fn is_live(&self, _: &str) -> bool {
        true
    }
}

impl LiveClusters for EveryCluster {
    fn view(&self) -> Arc<dyn LiveView> {
        Arc::new(Self)
    }

    fn ready(&self) -> bool {
        true
    }
}

/// What a world stands on.
struct Backends {
    database: Arc<dyn Database>,
    /// The same, to be made to fail; idle in a world over SQLite.
    directory: Arc<Entities>,
}

pub(super) struct World {
    router: Router,
    pub(super) database: Arc<dyn Database>,
    pub(super) directory: Arc<Entities>,
    pub(super) books: Arc<Books>,
    routing: RouterState,
    _dir: tempfile::TempDir,
}

impl World {
    /// Over a database in memory that can fail.
    pub(super) fn new() -> Self {
        Self::with(config(), Config::default())
    }

    pub(super) fn with(snapshot: Snapshot, config: Config) -> Self {
        let directory = Arc::new(Entities::default());
        let (dir, database) = (tempfile::tempdir().unwrap(), directory.clone());
        Self::over(snapshot, config, dir, Backends { database, directory })
    }

    /// Over the embedded default.
    pub(super) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = DatabaseBackend::Sqlite { path: dir.path().join("attache.db") };
        let database = open_database(&backend).await.unwrap();
        Self::over(config(), Config::default(), dir, Backends { database, directory: Arc::default() })
    }

    fn over(snapshot: Snapshot, config: Config, dir: tempfile::TempDir, backends: Backends) -> Self {
        let Backends { database, directory } = backends;
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let interval = Duration::from_secs(3_600);
        let spool = dir.path().join("spool");
        let options = BooksOptions {
            dir: spool,
            database: database.clone(),
            snapshot: snapshot.clone(),
            interval,
            redis: None,
            keep_prompts: interval,
        };
        let books = Books::open(options).unwrap();
        let routing = RouterState::new(Arc::new(Memory::default()), Arc::new(EveryCluster));
        let state = AdminState {
            keys: KeyDirectory::new(database.clone(), Some(Secret::new(MASTER))),
            database: database.clone(),
            snapshot,
            books: books.clone(),
            config: Arc::new(config),
            routing: routing.clone(),
            version: "test",
        };
        Self { router: router(state), database, directory, books, routing, _dir: dir }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(super) async fn call(&self, method: Method, path: &str, key: &str, body: impl Into<Body>) -> Answer {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str, key: &str) -> Answer {
        self.call(Method::GET, path, key, Body::empty()).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, MASTER, body.to_string()).await
    }

    /// A stored user with a key of its own, plain.
    pub(super) fn user(&self, id: &str, role: &str) -> String {
        let mut user = Entity::new(EntityKind::User, id);
        user.settings.role = Some(role.to_owned());
        self.directory.put(user);
        let plain = format!("sk-{id}-0123456789abcdef");
        let mut key = Entity::new(EntityKind::Key, hash(&plain));
        key.user_id = Some(id.to_owned());
        self.directory.put(key);
        plain
    }

    /// A new key, plain.
    pub(super) async fn key(&self, body: Value) -> String {
        let answer = self.post("/key/generate", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["key"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_key_is_generated_shown_once_and_described() {
    let world = World::sqlite().await;
    world.post("/team/new", json!({"team_id": "t"})).await;
    let body = json!({"key_alias": "ci", "models": ["chat"], "duration": "30d", "user_id": "u", "team_id": "t",
        "max_budget": 0.1, "rpm_limit": 3, "tpm_limit": null, "metadata": {"a": 1}, "budget_duration": "1d", "tags": [],
        "guardrails": ["g"]});
    let answer = world.post("/key/generate", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let made = answer.json();
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sk-") && key.len() == 25, "{key}");
    assert_eq!(made["token"], hash(key));
    assert_eq!(made["token_id"], made["token"]);
    assert_eq!(made["key_name"], format!("sk-...{}", &key[21..]));
    assert_eq!((&made["key_alias"], &made["models"]), (&json!("ci"), &json!(["chat"])));
    assert!(answer.text.contains(r#""max_budget":0.1,"#), "{}", answer.text);
    assert!(made["expires"].as_str().unwrap().ends_with('Z'));
    assert_eq!(made["warnings"], json!(["kept, without effect yet: guardrails"]));
    assert_eq!((&made["metadata"], &made["budget_duration"]), (&json!({"a": 1}), &json!("1d")));

    for path in ["/key/info".to_owned(), format!("/key/info?key={key}")] {
        let own = world.get(&path, key).await;
        assert_eq!((own.status, &own.json()["key"]), (200, &made["token"]), "{path}");
        assert!(!own.text.contains(key), "the plain key is shown once");
    }
    let by_hash = world.get(&format!("/key/info?key={}", hash(key)), MASTER).await;
    let info = &by_hash.json()["info"];
    assert_eq!((&info["team_id"], &info["rpm_limit"], &info["spend"]), (&json!("t"), &json!(3), &json!(0.0)));
    assert_eq!(world.get("/key/info?key=sk-unknown-000000000", MASTER).await.error().0, 404);
    let other = world.key(json!({})).await;
    assert_eq!(world.get(&format!("/key/info?key={key}"), &other).await.error().0, 403);
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let world = World::new();
    let cases = [
        (json!({"models": "chat"}), 422, "models"),
        (json!({"models": [1]}), 422, "models"),
        (json!({"duration": 30}), 422, "duration"),
        (json!({"duration": "tomorrow"}), 400, "duration"),
        (json!({"max_budget": "1"}), 422, "max_budget"),
        (json!({"max_budget": -1}), 400, "max_budget"),
        (json!({"rpm_limit": -1}), 400, "rpm_limit"),
        (json!({"tpm_limit": 1.5}), 422, "tpm_limit"),
        (json!({"metadata": []}), 422, "metadata"),
        (json!({"blocked": "no"}), 422, "blocked"),
        (json!({"key": "not-a-key-00000000"}), 400, "key"),
        (json!({"key": "sk-short"}), 400, "key"),
        (json!({"key": "sk-aaaaaaaaaaaaaaaaaaaaaaaa"}), 400, "key"),
        (json!({"key_type": "any"}), 400, "key_type"),
        (json!({"team_id": "nobody"}), 400, "team_id"),
        (json!({"budget_id": "nobody"}), 400, "budget_id"),
        (json!({"organization_id": "nobody"}), 400, "organization_id"),
        (json!({"key": "sk-with space 00000000"}), 400, "key"),
        (json!({"key": MASTER}), 400, "key"),
        (json!({"metadata": {"x": "y".repeat(70_000)}}), 400, "metadata"),
    ];
    for (body, status, field) in cases {
        let (got, kind, param) = world.post("/key/generate", body.clone()).await.error();
        assert_eq!(
            (got, kind.as_str(), param.as_deref()),
            (status, "invalid_request_error", Some(field)),
            "{body}"
        );
    }
    assert!(world.directory.all.lock().is_empty());
    let broken = world.call(Method::POST, "/key/generate", MASTER, "{\"models\": [}").await;
    assert_eq!(broken.status, 400);
    assert!(broken.text.contains("line 1 column 13"), "{}", broken.text);
    assert_eq!(world.call(Method::POST, "/key/generate", MASTER, "[]").await.status, 400);
    assert_eq!(world.call(Method::POST, "/key/generate", MASTER, "").await.status, 200, "all defaults");
    let large = world.call(Method::POST, "/key/generate", MASTER, vec![b' '; MAX_BODY + 1]).await;
    assert_eq!(large.error().0, 413);
}

#[tokio::test]
async fn blocked_expired_and_deleted_keys_stop_at_once() {
    let world = World::sqlite().await;
    let key = world.key(json!({"key_alias": "one"})).await;
    assert_eq!(world.get("/models", &key).await.status, 200);
    let blocked = world.post("/key/block", json!({"key": key})).await;
    assert_eq!((blocked.status, &blocked.json()["blocked"]), (200, &json!(true)));
    assert_eq!(world.get("/models", &key).await.status, 401);
    assert_eq!(world.post("/key/unblock", json!({"key": hash(&key)})).await.status, 200);
    assert_eq!(world.get("/models", &key).await.status, 200);
    let deleted = world.post("/key/delete", json!({"keys": [key, "sk-unknown-000000000"]})).await;
    assert_eq!(deleted.json(), json!({"deleted_keys": [key]}));
    assert_eq!(world.get("/models", &key).await.status, 401);
    assert_eq!(world.post("/key/delete", json!({"keys": [key]})).await.status, 404);

    let named = world.key(json!({"key_alias": "two"})).await;
    let deleted = world.post("/key/delete", json!({"key_aliases": ["two", "nobody"]})).await;
    assert_eq!(deleted.json(), json!({"deleted_keys": ["two"]}));
    assert_eq!(world.get("/models", &named).await.status, 401);

    let born_blocked = world.key(json!({"blocked": true})).await;
    assert_eq!(world.get("/models", &born_blocked).await.status, 401);
    for (path, body) in [
        ("/key/delete", json!({})),
        ("/key/delete", json!({"keys": [MASTER]})),
        ("/key/delete", json!({"keys": "sk-x"})),
        ("/key/block", json!({})),
    ] {
        assert!((400..=422).contains(&world.post(path, body.clone()).await.error().0), "{path} {body}");
    }
    assert_eq!(world.post("/key/block", json!({"key": "sk-unknown-000000000"})).await.status, 404);
}

#[tokio::test]
async fn a_virtual_key_is_no_admin() {
    let world = World::new();
    let key = world.key(json!({})).await;
    for path in ["/key/generate", "/key/delete", "/key/block", "/key/unblock"] {
        let answer =
            world.call(Method::POST, path, &key, json!({"key": key, "keys": [key]}).to_string()).await;
        assert_eq!(answer.error().0, 403, "{path}");
        assert_eq!(world.call(Method::POST, path, "sk-unknown", "{}").await.status, 401, "{path}");
    }
    for path in ["/global/spend", "/audit", "/key/list"] {
        assert_eq!(world.get(path, &key).await.error().0, 403, "{path}");
    }
    let bare = Request::get("/v1/models").body(Body::empty()).unwrap();
    assert_eq!(world.send(bare).await.error().0, 401);
}

#[tokio::test]
async fn models_are_those_the_key_may_use() {
    let world = World::new();
    let ids = |answer: Answer| {
        let list = answer.json();
        assert_eq!(list["object"], "list");
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(world.get("/v1/models", MASTER).await), ["backup", "chat", "fast"]);
    let chat = world.key(json!({"models": ["chat"]})).await;
    assert_eq!(ids(world.get("/v1/models", &chat).await), ["chat", "fast"], "an alias of what it may use");
    let alias = world.key(json!({"models": ["fast"]})).await;
    assert_eq!(ids(world.get("/models", &alias).await), ["fast"]);
    let one = world.get("/v1/models/chat", &chat).await.json();
    assert_eq!(
        (&one["id"], &one["object"], &one["owned_by"]),
        (&json!("chat"), &json!("model"), &json!("openai"))
    );
    assert_eq!(world.get("/v1/models/backup", &chat).await.error().0, 404);
    assert_eq!(world.get("/v1/models/no/such/model", MASTER).await.error().0, 404);
}

/// The usual configuration, with a group `openai/*` in the access group `beta` and a hidden group.
fn with_wildcard() -> Snapshot {
    let mut snapshot = config();
    let group = |name: &str, id: &str| {
        let mut meta = snapshot.deployments["a"].meta.clone();
        (meta.group, meta.id, meta.model) = (name.into(), id.into(), "*".into());
        let deployment = Deployment { access_groups: vec!["beta".into()], ..Deployment::new(meta) };
        let deployments = vec![Arc::new(deployment)];
        Arc::new(Group { name: name.into(), deployments, ..Group::default() })
    };
    let (wildcard, hidden) = (group("openai/*", "w"), group("hidden", "h"));
    snapshot.wildcards.push(Arc::clone(&wildcard));
    snapshot.groups.extend([(wildcard.name.clone(), wildcard), (hidden.name.clone(), hidden)]);
    snapshot.hidden.push("hidden".into());
    snapshot
}

#[tokio::test]
async fn wildcards_hidden_names_and_access_groups_are_listed_as_asked() {
    let world = World::with(with_wildcard(), Config::default());
    let ids = async |path: &str| {
        let list = world.get(path, MASTER).await.json();
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("/v1/models").await, ["backup", "chat", "fast", "openai/*"]);
    assert_eq!(ids("/v1/models?only_model_access_groups=True").await, ["beta"]);
    assert_eq!(ids("/v1/models?include_model_access_groups=true").await.len(), 5);
    assert_eq!(ids("/v1/models?include_model_access_groups=no").await.len(), 4);
    assert_eq!(world.get("/v1/models/hidden", MASTER).await.status, 200, "hidden, not forbidden");
    assert_eq!(world.get("/v1/models/openai/gpt-4o", MASTER).await.json()["id"], "openai/gpt-4o");
    let key = world.key(json!({"models": ["openai/gpt-4o"]})).await;
    assert_eq!(world.get("/v1/models/openai/gpt-4o", &key).await.status, 200);
    assert_eq!(world.get("/v1/models/openai/o3", &key).await.status, 404);
}

#[tokio::test]
async fn model_info_shows_no_credential() {
    let world = World::new();
    let answer = world.get("/model/info", MASTER).await;
    assert!(!answer.text.contains("provider-secret") && !answer.text.contains("Bearer"), "{}", answer.text);
    let data = answer.json()["data"].clone();
    assert_eq!(data.as_array().unwrap().len(), 3);
    let a = data.as_array().unwrap().iter().find(|d| d["model_info"]["id"] == "a").unwrap();
    assert_eq!(a["litellm_params"]["model"], "openai/gpt-4o-2024");
    assert_eq!(a["litellm_params"]["api_base"], "https://upstream.test/v1");
    assert_eq!(a["model_info"]["input_cost_per_token"], json!(1e-9));
}

#[tokio::test]
async fn spend_is_seen_right_after_the_request() {
    let world = World::sqlite().await;
    let key = world.key(json!({})).await;
    let mut mine = record("call-1");
    mine.key = hash(&key);
    world.books.accept(&[mine, record("call-2")]).await.unwrap();
    let answer = world.get("/spend/logs?limit=10", MASTER).await;
    assert_eq!(answer.json().as_array().unwrap().len(), 2, "flushed for the reader");
    let answer = world.get("/spend/logs?request_id=call-1", MASTER).await;
    assert!(answer.text.contains(r#""spend":0.00000002,"spend_nanos":20,"#), "{}", answer.text);
    let row = &answer.json()[0];
    assert_eq!((&row["prompt_tokens"], &row["completion_tokens"]), (&json!(10), &json!(5)));
    assert_eq!(
        (&row["startTime"], &row["endTime"]),
        (&json!("2026-01-31T12:00:00Z"), &json!("2026-01-31T12:00:02.5Z"))
    );
    assert_eq!(
        (&row["model_group"], &row["model_id"], &row["status"]),
        (&json!("chat"), &json!("a"), &json!("success"))
    );

    let own = world.get("/spend/logs", &key).await.json();
    assert_eq!(
        (own.as_array().unwrap().len(), &own[0]["request_id"]),
        (1, &json!("call-1")),
        "its own rows only"
    );
    assert_eq!(world.get("/spend/logs?request_id=call-2", &key).await.json(), json!([]));
    assert_eq!(world.get("/spend/logs?api_key=other", &key).await.error().0, 403);
    let by_key = world.get(&format!("/spend/logs?api_key={key}"), MASTER).await.json();
    assert_eq!(by_key.as_array().unwrap().len(), 1);
    let total = world.get("/global/spend", MASTER).await;
    assert!(total.text.starts_with(r#"{"spend":0.00000004,"#), "{}", total.text);
    assert_eq!(total.json()["requests"], 2);
    let info = world.get("/key/info", &key).await;
    assert!(info.text.contains(r#""spend":0.00000002,"spend_nanos":20"#), "{}", info.text);
    for query in ["limit=0", "limit=x", "limit=10001", "start_date=soon"] {
        assert_eq!(world.get(&format!("/spend/logs?{query}"), MASTER).await.error().0, 400, "{query}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_a_503() {
    let world = World::new();
    let key = world.key(json!({})).await;
    assert_eq!(world.get("/v1/models", &key).await.status, 200);
    world.directory.away.store(true, SeqCst);
    let answer = world.post("/key/generate", json!({})).await;
    assert_eq!(answer.error(), (503, "no_db_connection".to_owned(), None));
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.text.contains("double"), "the backend is not named: {}", answer.text);
    assert_eq!(world.get("/spend/logs", MASTER).await.status, 503);
    assert_eq!(world.get("/v1/models", &key).await.status, 200, "a known key goes on");
    assert_eq!(world.get("/v1/models", "sk-never-seen-00000").await.status, 503);
}

#[tokio::test]
async fn public_routes_and_wrong_turns() {
    let world = World::new();
    for path in ["/health/liveliness", "/health/liveness"] {
        let answer = world.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "\"I'm alive!\""));
    }
    let ready = world.send(Request::get("/health/readiness").body(Body::empty()).unwrap()).await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "healthy"})));
    assert_eq!(world.get("/no/such/route", MASTER).await.error().0, 404);
    assert_eq!(world.get("/key/generate", MASTER).await.error().0, 405);
    assert_eq!(world.get("/team/nothing", MASTER).await.error().0, 404, "a team's name is for PATCH");
    assert_eq!(world.call(Method::DELETE, "/v1/models", MASTER, "").await.error().0, 405);
}

#[tokio::test]
async fn health_tells_what_is_known_and_why() {
    let world = World::new();
    let healthy = world.get("/health", MASTER).await;
    let body = healthy.json();
    assert_eq!(
        (healthy.status, &body["healthy_count"], &body["unhealthy_count"]),
        (200, &json!(3), &json!(0))
    );
    assert!(!healthy.text.contains("provider-secret"), "{}", healthy.text);

    let circuit = |id: &str, until_ms| {
        let (deployment, reason) = (id.to_owned(), "rate_limit 429".to_owned());
        Transition::Opened(Circuit { deployment, until_ms, reason })
    };
    world.routing.breakers.apply(&[circuit("a", now_ms() + 60_000)]);
    let detail = "credential refused (401)".to_owned();
    world.routing.probes.set("b", Health { healthy: false, checked_ms: 7, detail: detail.clone() });
    let body = world.get("/health", MASTER).await.json();
    assert_eq!((&body["healthy_count"], &body["unhealthy_count"]), (&json!(1), &json!(2)));
    let unhealthy = body["unhealthy_endpoints"].as_array().unwrap();
    let of = |id: &str| unhealthy.iter().find(|entry| entry["model_id"] == id).unwrap();
    assert_eq!(of("a")["circuit_breaker"], "open");
    let error = of("a")["error"].as_str().unwrap();
    assert!(error.contains("rate_limit 429") && error.contains("60 s"), "{error}");
    assert_eq!((&of("b")["error"], &of("b")["probe"]["checked_ms"]), (&json!(detail), &json!(7)));
    assert_eq!(of("b")["circuit_breaker"], "closed");

    world.routing.breakers.apply(&[Transition::Closed("a".into())]);
    assert_eq!(world.get("/health?model=fast", MASTER).await.json()["healthy_count"], 2);
    assert_eq!(world.get("/health?model=backup", MASTER).await.json()["unhealthy_count"], 1);
    let key = world.key(json!({})).await;
    for path in ["/health", "/router/explain?model=chat"] {
        assert_eq!(world.get(path, &key).await.error().0, 403, "{path}");
    }
}

#[tokio::test]
async fn a_decision_is_explained_as_json_and_as_text() {
    let world = World::new();
    let answer = world.get("/router/explain?model=chat&stream=true&tags=a,b&input_tokens=5", MASTER).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.json().to_string().contains("chat"));
    let text = world.get("/router/explain?model=chat&format=text", MASTER).await;
    assert!(text.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(
        serde_json::from_str::<Value>(&text.text).is_err() && text.text.contains("chat"),
        "{}",
        text.text
    );
    world.key(json!({"key_alias": "ci", "models": ["chat"]})).await;
    assert_eq!(world.get("/router/explain?model=chat&key=ci", MASTER).await.status, 200);
    for (path, param) in [
        ("/router/explain", "model"),
        ("/router/explain?model=chat&input_tokens=many", "input_tokens"),
        ("/router/explain?model=chat&key=nobody", "key"),
    ] {
        assert_eq!(world.get(path, MASTER).await.error().2.as_deref(), Some(param), "{path}");
    }
}
