-- Entities (keys, teams, users, budgets, ...) in one table, the audit log of their changes, the feed by which sidecars
-- hear of them, and their use per quarter of an hour. Kept equal to migrations/sqlite, but for the feed and types.
CREATE TABLE attache_entities (
    kind            TEXT COLLATE "C" NOT NULL,
    id              TEXT COLLATE "C" NOT NULL,
    account         TEXT COLLATE "C" NOT NULL, -- id under which use is counted: settings.account, else id
    name            TEXT    NOT NULL,
    alias           TEXT COLLATE "C",
    team_id         TEXT COLLATE "C",
    user_id         TEXT COLLATE "C",
    organization_id TEXT COLLATE "C",
    budget_id       TEXT COLLATE "C",
    role            TEXT COLLATE "C", -- settings.role
    email           TEXT COLLATE "C", -- settings.email
    successor       TEXT COLLATE "C", -- settings.successor
    blocked         BOOLEAN NOT NULL,
    expires_ms      BIGINT,
    settings        TEXT    NOT NULL, -- JSON
    spend_nanos     BIGINT  NOT NULL,
    spend_reset_ms  BIGINT  NOT NULL,
    created_ms      BIGINT  NOT NULL,
    updated_ms      BIGINT  NOT NULL, -- version of the row: rises with every change but spend
    created_by      TEXT,
    updated_by      TEXT,
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 80);

-- No two keys share a counter: a hash that was rotated away cannot come back beside its successor.
CREATE UNIQUE INDEX attache_entities_account ON attache_entities (kind, account);
CREATE UNIQUE INDEX attache_entities_key_alias ON attache_entities (alias) WHERE kind = 'key';
CREATE INDEX attache_entities_by_alias ON attache_entities (kind, alias NULLS FIRST, id);
CREATE INDEX attache_entities_by_created ON attache_entities (kind, created_ms, id);
CREATE INDEX attache_entities_by_team ON attache_entities (kind, team_id, id) WHERE team_id IS NOT NULL;
CREATE INDEX attache_entities_by_user ON attache_entities (kind, user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX attache_entities_by_organization ON attache_entities (kind, organization_id, id)
    WHERE organization_id IS NOT NULL;
CREATE INDEX attache_entities_by_budget ON attache_entities (kind, budget_id, id) WHERE budget_id IS NOT NULL;
CREATE INDEX attache_entities_by_email ON attache_entities (kind, email, id) WHERE email IS NOT NULL;
CREATE INDEX attache_entities_by_successor ON attache_entities (successor) WHERE successor IS NOT NULL;

INSERT INTO attache_entities (kind, id, account, name, alias, team_id, user_id, blocked, expires_ms, settings,
    spend_nanos, spend_reset_ms, created_ms, updated_ms, created_by)
SELECT 'key', hash, hash, name, alias, team_id, user_id, blocked, expires_ms,
    '{"models":' || models
        || ',"metadata":' || CASE WHEN metadata LIKE '{%' THEN metadata ELSE '{}' END
        || CASE WHEN max_budget_nanos >= 0 THEN ',"max_budget_nanos":' || CAST(max_budget_nanos AS TEXT) ELSE '' END
        || CASE WHEN rpm_limit >= 0 THEN ',"rpm_limit":' || CAST(rpm_limit AS TEXT) ELSE '' END
        || CASE WHEN tpm_limit >= 0 THEN ',"tpm_limit":' || CAST(tpm_limit AS TEXT) ELSE '' END
        || '}',
    spend_nanos, 0, created_ms, updated_ms, created_by
FROM attache_keys;

DROP TABLE attache_keys;

-- What changed, for ten minutes. `position` is the writing transaction: transactions end in another order than they
-- begin, but the database tells below which one all have ended, so a reader that goes on from there misses nothing.
-- Row 0 remembers how far the feed was pruned.
CREATE TABLE attache_changes (
    seq      BIGSERIAL PRIMARY KEY,
    position BIGINT NOT NULL DEFAULT txid_current(),
    at_ms    BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    id       TEXT   NOT NULL
);

CREATE INDEX attache_changes_position ON attache_changes (position);

INSERT INTO attache_changes (seq, position, at_ms, kind, id) VALUES (0, 0, 0, '', '');

CREATE TABLE attache_audit (
    seq        BIGSERIAL PRIMARY KEY,
    at_ms      BIGINT NOT NULL,
    changed_by TEXT   NOT NULL, -- user
    key_id     TEXT   NOT NULL, -- of whom changed it
    action     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    what       TEXT   NOT NULL,
    before_json TEXT  NOT NULL,
    after_json  TEXT  NOT NULL
);

CREATE INDEX attache_audit_of ON attache_audit (kind, id, seq);
CREATE INDEX attache_audit_by ON attache_audit (changed_by, seq);
CREATE INDEX attache_audit_action ON attache_audit (action, seq);

CREATE TABLE attache_usage (
    kind              TEXT COLLATE "C" NOT NULL,
    id                TEXT COLLATE "C" NOT NULL, -- account
    quarter           BIGINT NOT NULL, -- of an hour: Unix seconds / 900, when the requests began
    requests          BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    nanos             BIGINT NOT NULL,
    PRIMARY KEY (kind, id, quarter)
) WITH (fillfactor = 80);

-- So that a budget's window that began before this migration is not empty; older rows are for reports alone.
INSERT INTO attache_usage (kind, id, quarter, requests, prompt_tokens, completion_tokens, nanos)
SELECT 'key', key_hash, start_us / 900000000, COUNT(*),
    CAST(LEAST(SUM(prompt_tokens), 10000000000000000) AS BIGINT),
    CAST(LEAST(SUM(completion_tokens), 10000000000000000) AS BIGINT),
    CAST(LEAST(COALESCE(SUM(cost_nanos), 0), 10000000000000000) AS BIGINT)
FROM attache_spend
WHERE key_hash <> '' AND start_us >= (CAST(EXTRACT(EPOCH FROM NOW()) AS BIGINT) - 40 * 86400) * 1000000
GROUP BY key_hash, start_us / 900000000;

ALTER TABLE attache_spend ADD COLUMN user_id TEXT;
ALTER TABLE attache_spend ADD COLUMN team_id TEXT;
ALTER TABLE attache_spend ADD COLUMN organization_id TEXT;
ALTER TABLE attache_spend ADD COLUMN tags TEXT; -- JSON array
