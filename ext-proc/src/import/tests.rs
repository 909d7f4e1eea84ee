//! Against a real Postgres with LiteLLM's tables.

use sha2::{Digest, Sha256};

use super::*;
use crate::entity::double::Entities;
use crate::entity::{Entity, EntityKind, EntityRef, member_id};
use crate::store::testing::Postgres;
use crate::store::{AuditFilter, DatabaseBackend, open_database};

/// As in the golden tests of `secrets`.
const SALT: &str = "sk-salt-of-the-golden-tests-1";
const OURS: &str = "sk-another-salt-of-ours";
/// 2026-06-15T12:00:00Z
const NOW: u64 = 1_781_524_800_000;

const ROWS: &str = r#"
INSERT INTO "LiteLLM_BudgetTable" (budget_id, max_budget, rpm_limit, budget_duration, budget_reset_at, model_max_budget)
    VALUES ('gold', 100.5, 60, '30d', '2026-07-01', '{"gpt-4o": {"budget_limit": 1.25, "time_period": "1d"}}'),
           ('per-member', 3, 7, '1d', '2026-06-16', NULL), ('stale', 9, NULL, '1d', '2026-06-15 00:00:00', NULL);
INSERT INTO "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id, models, spend)
    VALUES ('o1', 'acme', 'gold', '{gpt-4o}', 12.3456789019);
INSERT INTO "LiteLLM_ModelTable" (id, model_aliases) VALUES (7, '"{\"fast\": \"gpt-4o-mini\"}"');
INSERT INTO "LiteLLM_TeamTable" (team_id, team_alias, organization_id, members_with_roles, metadata, max_budget, spend,
        models, tpm_limit, budget_duration, budget_reset_at, blocked, model_id, admins)
    VALUES ('t1', 'search', 'o1', '[{"user_id": "u1", "role": "admin"}, {"user_id": "u2", "role": "user"},
            {"user_id": null, "user_email": "x@y"}]', '{"team_member_budget_id": "per-member", "model_rpm_limit": {"gpt-4o": 3}}',
            20, 5.5, '{gpt-4o,gpt-4o-mini}', 1000, '1mo', '2026-07-01', false, 7, '{}'),
           ('t2', NULL, NULL, '{}', '{}', NULL, 0, '{}', NULL, NULL, NULL, true, NULL, '{u3}');
INSERT INTO "LiteLLM_UserTable" (user_id, user_alias, user_email, user_role, password, teams, max_budget, spend, sso_user_id)
    VALUES ('u1', 'Ann', 'ann@example.com', 'proxy_admin', 'pbkdf2-secret', '{t1}', 5, 0.1, 'sso-1'),
           ('u2', NULL, NULL, 'internal_user', NULL, '{}', NULL, 0, NULL);
INSERT INTO "LiteLLM_TeamMembership" (user_id, team_id, spend, budget_id)
    VALUES ('u2', 't1', 1.5, 'per-member'), ('u4', 't1', 0, NULL), ('u1', 'gone', 1, NULL), ('u2', 'gone', 1, NULL);
INSERT INTO "LiteLLM_OrganizationMembership" (user_id, organization_id, user_role) VALUES ('u1', 'o1', 'org_admin');
INSERT INTO "LiteLLM_EndUserTable" (user_id, alias, spend, allowed_model_region, default_model, budget_id, blocked)
    VALUES ('customer-1', 'One', 2, 'eu', 'gpt-4o', 'stale', true), ('customer-2', NULL, 3, NULL, NULL, 'gold', false);
INSERT INTO "LiteLLM_TagTable" (tag_name, description, spend, budget_id) VALUES ('batch', 'night', 4, 'gold');
"#;

fn hash(plain: &str) -> String {
    format!("{:x}", Sha256::digest(plain))
}

fn key_rows() -> String {
    let [full, plain, twin, session, old] =
        ["sk-full", "sk-plain", "sk-twin", "sk-session", "sk-old"].map(hash);
    format!(
        r#"
INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, spend, total_spend, expires, models, aliases, user_id,
        team_id, max_parallel_requests, metadata, tpm_limit, rpm_limit, tpd_limit, max_budget, budget_duration,
        budget_reset_at, allowed_routes, model_max_budget, budget_fallbacks, budget_id, organization_id, budget_limits,
        created_by)
    VALUES ('{full}', 'sk-...full', 'ci', 1e-7, 55, '2027-01-01 00:00:00.5', '{{gpt-4o}}', '{{"a": "b"}}', 'u1', 't1', 4,
        '{{"tags": ["batch"], "model_tpm_limit": {{"gpt-4o": 9}}, "temp_budget_increase": 1.5,
           "temp_budget_expiry": "2026-12-31T00:00:00", "own": [1]}}',
        100, 10, 1000, 20, '1mo', '2026-07-01', '{{llm_api_routes}}', '{{"gpt-4o": {{"max_budget": "2", "budget_duration": "1h"}}}}',
        '{{"gpt-4o": ["gpt-4o-mini"]}}', 'gold', 'o1', '[{{"budget_duration": "1h", "max_budget": 1}}]', 'u1');
INSERT INTO "LiteLLM_VerificationToken" (token, key_alias, spend, blocked) VALUES ('{plain}', NULL, 0.3, true);
INSERT INTO "LiteLLM_VerificationToken" (token, key_alias, budget_duration, budget_reset_at, spend)
    VALUES ('{twin}', 'ci', '1d', '2026-06-15 00:00:00', 8);
INSERT INTO "LiteLLM_VerificationToken" (token, team_id) VALUES ('{session}', 'litellm-dashboard');
INSERT INTO "LiteLLM_VerificationToken" (token, key_alias) VALUES ('sk-ancient-plain-key', 'ancient');
INSERT INTO "LiteLLM_DeprecatedVerificationToken" (token, active_token_id, revoke_at)
    VALUES ('{old}', '{full}', '2026-06-16'), ('{}', '{full}', '2026-06-14');
INSERT INTO "LiteLLM_CredentialsTable" (credential_name, credential_values, credential_info)
    VALUES ('openai', '{{"api_key": "v3:gcm:DMUTgsPs04G4gbYJGEOx65LVkIRWUPMIUp3fr6nfZsLYFspv7Oh5d_RJHTAV7TF-lXswHm-V"}}', '{{"custom_llm_provider": "openai"}}');
INSERT INTO "LiteLLM_ProxyModelTable" (model_id, model_name, litellm_params, model_info)
    VALUES ('m1', 'gpt-4o', '{{"model": "iL2Ry8tBbtf5p3zpf5-0MFoYEIAxdN8VSsDyAl_KivYxC_ng3EwH-6RmrcRX0a1Zw124tok=", "rpm": 5,
            "api_key": "v2:gcm:oLmpalHcbhRN0iWjal8WyFKHrtj4C7v4frzbs5p0EYCTLSCbWLWsfKlT98k4OQsIOWUx25YZ"}}', '{{"db_model": true, "id": "m1"}}'),
           ('m2', 'named', '{{"model": "openai/gpt-4o", "litellm_credential_name": "openai"}}', NULL);
"#,
        hash("sk-older")
    )
}

struct Setting {
    postgres: Postgres,
    entities: Entities,
}

impl Setting {
    async fn new() -> Self {
        let postgres = Postgres::start().await;
        postgres.database("litellm").await;
        postgres.execute("litellm", include_str!("schema.sql")).await;
        Self { postgres, entities: Entities::default() }
    }

    async fn filled() -> Self {
        let setting = Self::new().await;
        setting.postgres.execute("litellm", ROWS).await;
        setting.postgres.execute("litellm", &key_rows()).await;
        setting
    }

    fn options(&self) -> Options {
        Options {
            database_url: self.postgres.url("litellm"),
            from_salt: Some(SaltKey::new(&Secret::new(SALT))),
            to_salt: Some(Salt { key: SaltKey::new(&Secret::new(OURS)), is_master_key: false }),
            dry_run: false,
            overwrite: false,
            without_models: false,
            now_ms: NOW,
        }
    }

    async fn import(&self) -> Report {
        litellm(&self.options(), Some(&self.entities)).await.unwrap()
    }

    fn get(&self, kind: EntityKind, id: &str) -> Entity {
        let of = EntityRef::new(kind, id);
        self.entities.all.lock().get(&of).unwrap_or_else(|| panic!("no {kind} {id}")).clone()
    }
}

fn table<'a>(report: &'a Report, name: &str) -> &'a TableReport {
    report.tables.iter().find(|table| table.table.ends_with(name)).unwrap()
}

#[tokio::test]
async fn keys_come_over_whole() {
    let setting = Setting::filled().await;
    let report = setting.import().await;
    let key = setting.get(EntityKind::Key, &hash("sk-full"));
    assert_eq!((key.name.as_str(), key.spend_nanos), ("sk-...full", 100));
    assert_eq!((key.team_id.as_deref(), key.user_id.as_deref()), (Some("t1"), Some("u1")));
    assert_eq!((key.organization_id.as_deref(), key.budget_id.as_deref()), (Some("o1"), Some("gold")));
    assert_eq!((key.expires_ms, key.blocked), (Some(1_798_761_600_500), false));
    assert_eq!(key.created_by.as_deref(), Some("u1"));
    let settings = &key.settings;
    assert_eq!(
        (settings.models.as_slice(), settings.aliases["a"].as_str()),
        (&["gpt-4o".to_owned()][..], "b")
    );
    assert_eq!(
        (settings.tpm_limit, settings.rpm_limit, settings.tpd_limit),
        (Some(100), Some(10), Some(1_000))
    );
    assert_eq!((settings.max_parallel_requests, settings.model_tpm_limit["gpt-4o"]), (Some(4), 9));
    assert_eq!(
        (settings.max_budget_nanos, settings.budget_duration.as_deref()),
        (Some(20_000_000_000), Some("1mo"))
    );
    assert_eq!(settings.temp_budget_increase_nanos, Some(1_500_000_000));
    assert_eq!(settings.temp_budget_expiry_ms, Some(1_798_675_200_000));
    assert_eq!(settings.model_max_budget["gpt-4o"].limit_nanos, 2_000_000_000);
    assert_eq!(settings.model_max_budget["gpt-4o"].duration.as_deref(), Some("1h"));
    assert_eq!(
        (settings.tags.as_slice(), &settings.metadata["own"]),
        (&["batch".to_owned()][..], &serde_json::json!([1]))
    );
    assert_eq!(settings.budget_fallbacks["gpt-4o"], ["gpt-4o-mini"]);
    assert_eq!(settings.allowed_routes, ["llm_api_routes"]);
    assert_eq!(report.notes["budget_limits"], 1, "what has no effect is said");

    let plain = setting.get(EntityKind::Key, &hash("sk-plain"));
    assert_eq!((plain.blocked, plain.spend_nanos), (true, 300_000_000));
    let twins = [setting.get(EntityKind::Key, &hash("sk-twin")), key];
    let mut aliases = twins.each_ref().map(|key| key.alias.clone().unwrap());
    aliases.sort();
    assert!(aliases[0] == "ci" && aliases[1].starts_with("ci-"), "{aliases:?}");
    assert_eq!(twins[0].spend_nanos, 0, "the window of its spend is over");
    let rotated = setting.get(EntityKind::RotatedKey, &hash("sk-old"));
    assert_eq!(rotated.settings.successor, Some(hash("sk-full")));
    assert_eq!(rotated.expires_ms, Some(1_781_568_000_000));
}

#[tokio::test]
async fn the_report_names_what_stays_behind_and_no_secret() {
    let setting = Setting::filled().await;
    let report = setting.import().await;
    let keys = table(&report, "_VerificationToken");
    assert_eq!((keys.read, keys.created, keys.skipped, keys.failed), (5, 3, 1, 1));
    let ancient = keys.reasons.iter().find(|reason| reason.row == "ancient").unwrap();
    assert_eq!(ancient.why, "token: it is no SHA-256 hash");
    assert!(!report.complete());
    let rotated = table(&report, "DeprecatedVerificationToken");
    assert_eq!((rotated.created, rotated.skipped), (1, 1));
    assert_eq!((table(&report, "TeamMembership").created, table(&report, "TeamMembership").skipped), (4, 2));
    assert!(!report.to_string().contains("more"), "{report}");
    let text = format!("{report}\n{}", serde_json::to_string(&report).unwrap());
    for secret in ["sk-ancient", "sk-provider", "pbkdf2", SALT] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let stored = format!("{:?}", setting.entities.all.lock());
    assert!(!stored.contains("pbkdf2") && !stored.contains("sk-provider"), "{stored}");
}

#[tokio::test]
async fn everybody_else_comes_over() {
    let setting = Setting::filled().await;
    setting.import().await;
    let gold = setting.get(EntityKind::Budget, "gold");
    assert_eq!((gold.settings.max_budget_nanos, gold.settings.rpm_limit), (Some(100_500_000_000), Some(60)));
    assert_eq!(gold.settings.model_max_budget["gpt-4o"].limit_nanos, 1_250_000_000);
    let organization = setting.get(EntityKind::Organization, "o1");
    assert_eq!((organization.alias.as_deref(), organization.spend_nanos), (Some("acme"), 12_345_678_902));
    let team = setting.get(EntityKind::Team, "t1");
    assert_eq!((team.alias.as_deref(), team.spend_nanos), (Some("search"), 5_500_000_000));
    assert_eq!(team.settings.aliases["fast"], "gpt-4o-mini");
    assert_eq!(team.settings.model_rpm_limit["gpt-4o"], 3);
    assert_eq!(team.settings.team_member_budget_nanos, Some(3_000_000_000));
    assert_eq!(
        (team.settings.team_member_rpm_limit, team.settings.team_member_budget_duration.as_deref()),
        (Some(7), Some("1d"))
    );
    assert!(setting.get(EntityKind::Team, "t2").blocked);
    let user = setting.get(EntityKind::User, "u1");
    assert_eq!(
        (user.settings.role.as_deref(), user.settings.email.as_deref()),
        (Some("proxy_admin"), Some("ann@example.com"))
    );
    assert_eq!((user.spend_nanos, user.settings.max_budget_nanos), (100_000_000, Some(5_000_000_000)));
    let member = |team, user| setting.get(EntityKind::Member, &member_id(team, user));
    assert_eq!(member("t1", "u1").settings.role.as_deref(), Some("admin"));
    let second = member("t1", "u2");
    assert_eq!((second.settings.role.as_deref(), second.spend_nanos), (Some("user"), 1_500_000_000));
    assert_eq!((second.budget_id.as_deref(), second.user_id.as_deref()), (Some("per-member"), Some("u2")));
    assert_eq!(member("t1", "u4").settings.role.as_deref(), Some("user"));
    assert_eq!(member("t2", "u3").settings.role.as_deref(), Some("admin"));
    let member = setting.get(EntityKind::OrganizationMember, &member_id("o1", "u1"));
    assert_eq!(member.settings.role.as_deref(), Some("org_admin"));
    let customer = setting.get(EntityKind::EndUser, "customer-1");
    assert_eq!((customer.blocked, customer.spend_nanos), (true, 0));
    assert_eq!(customer.settings.allowed_model_region.as_deref(), Some("eu"));
    assert_eq!(setting.get(EntityKind::EndUser, "customer-2").spend_nanos, 3_000_000_000);
    let tag = setting.get(EntityKind::Tag, "batch");
    assert_eq!((tag.budget_id.as_deref(), tag.spend_nanos), (Some("gold"), 4_000_000_000));
}

#[tokio::test]
async fn credentials_are_encrypted_with_our_key() {
    let setting = Setting::filled().await;
    setting.import().await;
    let ours = SaltKey::new(&Secret::new(OURS));
    let open = |kind, id, part: &str| {
        secrets::open(setting.get(kind, id).settings.rest[part].as_object().unwrap(), &ours).unwrap()
    };
    assert_eq!(
        open(EntityKind::Credential, "openai", "credential_values")["api_key"],
        "sk-provider-key-0123456789"
    );
    let model = open(EntityKind::Model, "m1", "litellm_params");
    assert_eq!((&model["model"], &model["rpm"]), (&"openai/gpt-4o".into(), &5.into()));
    assert_eq!(model["api_key"], "sk-provider-key-0123456789");
    assert_eq!(open(EntityKind::Model, "m2", "litellm_params")["litellm_credential_name"], "openai");
    assert_eq!(setting.get(EntityKind::Model, "m1").alias.as_deref(), Some("gpt-4o"));
}

#[tokio::test]
async fn the_second_run_changes_nothing() {
    let setting = Setting::filled().await;
    let first = setting.import().await;
    let (stored, feed) = (setting.entities.all.lock().clone(), setting.entities.feed.lock().len());
    let second = setting.import().await;
    assert_eq!(second.changes(), 0, "{second}");
    assert!(second.to_string().contains("nothing to change"), "{second}");
    assert_eq!(setting.entities.feed.lock().len(), feed);
    assert_eq!(*setting.entities.all.lock(), stored);
    let unchanged: u64 = second.tables.iter().map(|table| table.unchanged).sum();
    assert_eq!(unchanged, first.changes());
    let update = r#"UPDATE "LiteLLM_TeamTable" SET tpm_limit = 5 WHERE team_id = 't1'"#;
    setting.postgres.execute("litellm", update).await;
    let third = setting.import().await;
    assert_eq!((third.changes(), table(&third, "TeamTable").updated), (1, 1), "{third}");
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_tells_the_same() {
    let setting = Setting::filled().await;
    let options = Options { dry_run: true, ..setting.options() };
    let dry = litellm(&options, Some(&setting.entities)).await.unwrap();
    assert!(setting.entities.all.lock().is_empty());
    let without_tables = litellm(&options, None).await.unwrap();
    assert_eq!(dry, without_tables);
    let wet = setting.import().await;
    assert_eq!(dry.changes(), wet.changes());
}

#[tokio::test]
async fn a_wrong_or_missing_salt_key_is_said() {
    let setting = Setting::filled().await;
    let wrong = Options { from_salt: Some(SaltKey::new(&Secret::new("sk-wrong"))), ..setting.options() };
    let report = litellm(&wrong, Some(&setting.entities)).await.unwrap();
    let models = table(&report, "ProxyModelTable");
    assert_eq!((models.created, models.failed), (1, 1), "the second model holds nothing encrypted");
    assert_eq!(models.reasons[0].why, "litellm_params.api_key: LiteLLM's salt key does not decrypt it");
    let none = Options { to_salt: None, ..setting.options() };
    let error = litellm(&none, Some(&setting.entities)).await.unwrap_err().to_string();
    assert!(error.contains("LITELLM_SALT_KEY"), "{error}");
    let none = Options { without_models: true, ..none };
    assert_eq!(litellm(&none, Some(&setting.entities)).await.unwrap().changes(), 0, "keys need no salt key");
}

#[tokio::test]
async fn an_older_schema_will_do() {
    let setting = Setting::filled().await;
    let older = r#"DROP TABLE "LiteLLM_TagTable", "LiteLLM_DeprecatedVerificationToken", "LiteLLM_CredentialsTable";
        ALTER TABLE "LiteLLM_VerificationToken" DROP COLUMN budget_limits, DROP COLUMN tpd_limit, DROP COLUMN organization_id,
            DROP COLUMN allowed_routes, DROP COLUMN total_spend, DROP COLUMN created_by;
        ALTER TABLE "LiteLLM_ProxyModelTable" DROP COLUMN blocked;
        ALTER TABLE "LiteLLM_EndUserTable" DROP COLUMN models"#;
    setting.postgres.execute("litellm", older).await;
    let report = setting.import().await;
    assert!(table(&report, "TagTable").missing && table(&report, "CredentialsTable").missing);
    assert_eq!(table(&report, "_VerificationToken").created, 3);
    assert_eq!(setting.get(EntityKind::Key, &hash("sk-full")).settings.rpm_limit, Some(10));
}

#[tokio::test]
async fn many_keys_go_page_by_page() {
    let setting = Setting::new().await;
    let many = r#"INSERT INTO "LiteLLM_VerificationToken" (token, rpm_limit)
        SELECT encode(sha256(n::text::bytea), 'hex'), n FROM generate_series(1, 1601) n"#;
    setting.postgres.execute("litellm", many).await;
    let report = setting.import().await;
    assert_eq!(table(&report, "_VerificationToken").created, 1_601);
    assert_eq!(setting.get(EntityKind::Key, &hash("1601")).settings.rpm_limit, Some(1_601));
    let update =
        r#"UPDATE "LiteLLM_VerificationToken" SET team_id = 'litellm-dashboard' WHERE rpm_limit <= 50"#;
    setting.postgres.execute("litellm", update).await;
    let report = setting.import().await;
    let keys = table(&report, "_VerificationToken");
    assert_eq!((keys.skipped, keys.reasons.len(), keys.more_reasons), (50, 20, 30));
    assert!(report.to_string().contains("and 30 more"), "{report}");
}

#[tokio::test]
async fn another_database_is_told_apart() {
    let postgres = Postgres::start().await;
    let options = Options {
        database_url: postgres.database("other").await,
        from_salt: None,
        to_salt: None,
        dry_run: true,
        overwrite: false,
        without_models: false,
        now_ms: NOW,
    };
    let error = litellm(&options, None).await.unwrap_err();
    assert!(matches!(error, ImportError::NotLiteLlm), "{error}");
    let nowhere = Options { database_url: postgres.url("nowhere"), ..options };
    let error = litellm(&nowhere, None).await.unwrap_err();
    assert!(matches!(error, ImportError::Source(_)), "{error}");
}

#[tokio::test]
async fn litellms_database_cannot_be_written() {
    let setting = Setting::new().await;
    let source = Source::open(&setting.postgres.url("litellm")).await.unwrap();
    let error = source.execute_for_test(r#"DELETE FROM "LiteLLM_TeamTable""#).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn models_can_become_a_file() {
    let setting = Setting::filled().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("models.yaml");
    let file = write_models(&setting.options(), &path, false).await.unwrap();
    assert_eq!(file.models(), 2);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("api_key: os.environ/GPT_4O_API_KEY") && !text.contains("sk-provider"), "{text}");
    assert!(text.contains("# needs the variable NAMED_API_KEY"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        write_models(&setting.options(), &path, true).await.is_err(),
        "an existing file is not overwritten"
    );
    let whole = directory.path().join("whole.yaml");
    write_models(&setting.options(), &whole, true).await.unwrap();
    let env = crate::config::Env::from([("LITELLM_MASTER_KEY", "sk-master-of-this-test")]);
    let loaded = crate::config::load(&whole, &env).unwrap();
    let keys = loaded.config.model_list.iter().map(|model| model.litellm_params.api_key.clone().unwrap());
    assert!(keys.into_iter().all(|key| key.expose() == "sk-provider-key-0123456789"));
}

/// The double keeps entities as they come; real stores write them down.
#[tokio::test]
async fn real_stores_keep_what_was_imported() {
    let setting = Setting::filled().await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = DatabaseBackend::Sqlite { path: folder.path().join("attache.db") };
    // In LiteLLM's own database, as many will have it.
    let postgres = DatabaseBackend::Postgres {
        url: setting.postgres.url("litellm"),
        max_connections: 2,
        connect_timeout: std::time::Duration::from_secs(10),
    };
    for backend in [sqlite, postgres] {
        assert!(!tables_exist(&backend).await.unwrap());
        let database = open_database(&backend).await.unwrap();
        assert!(tables_exist(&backend).await.unwrap());
        let first = litellm(&setting.options(), Some(&*database)).await.unwrap();
        assert_eq!(table(&first, "_VerificationToken").created, 3, "{first}");
        let key = database.key(&hash("sk-full")).await.unwrap().unwrap();
        assert_eq!((key.spend_nanos, key.spend_reset_ms), (100, NOW));
        assert_eq!(key.updated_by.as_deref(), Some(AUTHOR));
        assert_eq!(key.settings.model_tpm_limit["gpt-4o"], 9);
        let rotated = database.key(&hash("sk-old")).await.unwrap().unwrap();
        assert_eq!(rotated.settings.successor, Some(hash("sk-full")));
        let audit = AuditFilter { limit: 100, ..AuditFilter::default() };
        let (rows, total) = database.audit(&audit).await.unwrap();
        // One more for the canary of the salt key.
        assert_eq!(total, first.changes() + 1);
        assert!(rows.iter().all(|row| row.author.action == AUTHOR));
        let second = litellm(&setting.options(), Some(&*database)).await.unwrap();
        assert_eq!(second.changes(), 0, "{second}");
    }
}
