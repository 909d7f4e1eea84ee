-- The ledger by days, sums per day of all that reports ask for, and what `attache spend verify` needs to begin with.
-- Kept equal to migrations/postgres, but for partitions and types.
ALTER TABLE attache_spend RENAME TO attache_spend_old;
DROP INDEX attache_spend_newest;
DROP INDEX attache_spend_newest_of_key;

-- Numbers first: no padding between them. A record that is sent again has the same start, so a call is one row.
CREATE TABLE attache_spend (
    start_us           BIGINT  NOT NULL,
    duration_us        BIGINT  NOT NULL,
    first_event_us     BIGINT,
    cost_nanos         BIGINT,
    prompt_tokens      BIGINT  NOT NULL,
    completion_tokens  BIGINT  NOT NULL,
    total_tokens       BIGINT  NOT NULL,
    cached_tokens      BIGINT  NOT NULL,
    cache_write_tokens BIGINT  NOT NULL DEFAULT 0,
    reasoning_tokens   BIGINT  NOT NULL,
    status             BIGINT  NOT NULL,
    attempts           BIGINT  NOT NULL,
    fallbacks          BIGINT  NOT NULL,
    stream             BOOLEAN NOT NULL,
    estimated          BOOLEAN NOT NULL,
    call_id            TEXT    NOT NULL,
    request_id         TEXT    NOT NULL,
    key_hash           TEXT    NOT NULL,
    user_id            TEXT,
    team_id            TEXT,
    organization_id    TEXT,
    end_user           TEXT,
    tags               TEXT, -- JSON array
    charged            TEXT, -- whom it is charged to (store/sql/charged.rs); null: older than this column
    endpoint           TEXT    NOT NULL,
    model              TEXT    NOT NULL,
    model_group        TEXT    NOT NULL,
    deployment         TEXT    NOT NULL,
    provider           TEXT    NOT NULL,
    provider_model     TEXT    NOT NULL,
    outcome            TEXT    NOT NULL,
    lines              TEXT, -- what each attempt cost (store/sql/lines.rs); null: none, or older than this column
    PRIMARY KEY (call_id, start_us)
);

CREATE INDEX attache_spend_newest ON attache_spend (start_us DESC, call_id DESC);
CREATE INDEX attache_spend_newest_of_key ON attache_spend (key_hash, start_us DESC, call_id DESC);
CREATE INDEX attache_spend_newest_of_team ON attache_spend (team_id, start_us DESC) WHERE team_id IS NOT NULL;
CREATE INDEX attache_spend_newest_of_user ON attache_spend (user_id, start_us DESC) WHERE user_id IS NOT NULL;

-- Clocks beyond the year 9999 are no clocks.
UPDATE attache_spend_old SET start_us = MIN(MAX(start_us, 0), 253402300799999999)
WHERE start_us < 0 OR start_us > 253402300799999999;

INSERT INTO attache_spend (start_us, duration_us, first_event_us, cost_nanos, prompt_tokens, completion_tokens,
    total_tokens, cached_tokens, reasoning_tokens, status, attempts, fallbacks, stream, estimated, call_id, request_id,
    key_hash, user_id, team_id, organization_id, end_user, tags, endpoint, model, model_group, deployment, provider,
    provider_model, outcome)
SELECT start_us, duration_us, first_event_us, CASE WHEN cost_nanos < 0 THEN 0 ELSE cost_nanos END, prompt_tokens, completion_tokens,
    total_tokens, cached_tokens, reasoning_tokens, status, attempts, fallbacks, stream, estimated, call_id, request_id,
    key_hash, user_id, team_id, organization_id, end_user, tags, endpoint, model, model_group, deployment, provider,
    provider_model, outcome
FROM attache_spend_old;

DROP TABLE attache_spend_old;

-- Sums of the rows of a UTC day (of when they began): `total` (id and key ''), by `key`, and for each user, team,
-- organization, customer (end user) and tag that a row names.
CREATE TABLE attache_daily (
    kind               TEXT    NOT NULL,
    id                 TEXT    NOT NULL,
    day                BIGINT NOT NULL, -- Unix days
    key_hash           TEXT    NOT NULL,
    model              TEXT    NOT NULL, -- at the provider
    model_group        TEXT    NOT NULL,
    provider           TEXT    NOT NULL,
    endpoint           TEXT    NOT NULL,
    requests           BIGINT NOT NULL,
    successes          BIGINT NOT NULL,
    failures           BIGINT NOT NULL,
    prompt_tokens      BIGINT NOT NULL,
    completion_tokens  BIGINT NOT NULL,
    cached_tokens      BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    nanos              BIGINT NOT NULL,
    unpriced           BIGINT NOT NULL, -- requests whose cost is not known
    estimated          BIGINT NOT NULL, -- requests whose tokens are an estimate
    duration_us        BIGINT NOT NULL,
    PRIMARY KEY (kind, id, day, key_hash, model, model_group, provider, endpoint)
) WITHOUT ROWID;

-- For reports over all teams, users, ... of some days.
CREATE INDEX attache_daily_of_day ON attache_daily (kind, day);

WITH new AS (SELECT * FROM attache_spend)
INSERT INTO attache_daily (kind, id, day, key_hash, model, model_group, provider, endpoint, requests, successes,
    failures, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, nanos, unpriced, estimated,
    duration_us)
SELECT kind, id, start_us / 86400000000, of_key, provider_model, model_group, provider, endpoint, COUNT(*),
    SUM(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END), SUM(CASE WHEN outcome = 'failure' THEN 1 ELSE 0 END),
    CAST(MIN(SUM(prompt_tokens), 10000000000000000) AS BIGINT),
    CAST(MIN(SUM(completion_tokens), 10000000000000000) AS BIGINT),
    CAST(MIN(SUM(cached_tokens), 10000000000000000) AS BIGINT),
    CAST(MIN(SUM(cache_write_tokens), 10000000000000000) AS BIGINT),
    CAST(MIN(SUM(COALESCE(cost_nanos, 0)), 10000000000000000) AS BIGINT),
    SUM(CASE WHEN cost_nanos IS NULL THEN 1 ELSE 0 END), SUM(CASE WHEN estimated THEN 1 ELSE 0 END),
    CAST(MIN(SUM(duration_us), 10000000000000000) AS BIGINT)
FROM (
    SELECT 'total' AS kind, '' AS id, '' AS of_key, new.* FROM new
    UNION ALL SELECT 'key', key_hash, key_hash, new.* FROM new
    UNION ALL SELECT 'user', user_id, key_hash, new.* FROM new WHERE user_id <> ''
    UNION ALL SELECT 'team', team_id, key_hash, new.* FROM new WHERE team_id <> ''
    UNION ALL SELECT 'organization', organization_id, key_hash, new.* FROM new WHERE organization_id <> ''
    UNION ALL SELECT 'customer', end_user, key_hash, new.* FROM new WHERE end_user <> ''
    UNION ALL SELECT 'tag', tag.value, key_hash, new.* FROM new
        JOIN JSON_EACH(new.tags) AS tag
        WHERE new.tags IS NOT NULL AND tag.value <> ''
) AS counted
GROUP BY kind, id, start_us / 86400000000, of_key, provider_model, model_group, provider, endpoint;

-- Verifying and pruning go by time, everything else by whose it is.
CREATE INDEX attache_daily_by_day ON attache_daily (day);
CREATE INDEX attache_usage_by_quarter ON attache_usage (quarter);

-- Spend is this much plus all use in attache_usage.
ALTER TABLE attache_entities ADD COLUMN spend_offset_nanos BIGINT NOT NULL DEFAULT 0;
UPDATE attache_entities SET spend_offset_nanos = spend_nanos - COALESCE((
    SELECT CAST(SUM(u.nanos) AS BIGINT) FROM attache_usage AS u
    WHERE u.kind = attache_entities.kind AND u.id = attache_entities.account), 0);

-- `rows_since`: Unix day from which all rows are there; `usage_since`: quarter from which all use is there.
CREATE TABLE attache_ledger (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO attache_ledger (name, value) VALUES ('rows_since', 0), ('usage_since', 0);
