-- The ledger by days, sums per day of all that reports ask for, and what `attache spend verify` needs to begin with.
-- Kept equal to migrations/sqlite, but for partitions and types.
ALTER TABLE attache_spend RENAME TO attache_spend_old;
ALTER TABLE attache_spend_old DROP CONSTRAINT attache_spend_pkey;
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
    call_id            TEXT COLLATE "C" NOT NULL,
    request_id         TEXT    NOT NULL,
    key_hash           TEXT COLLATE "C" NOT NULL,
    user_id            TEXT COLLATE "C",
    team_id            TEXT COLLATE "C",
    organization_id    TEXT COLLATE "C",
    end_user           TEXT COLLATE "C",
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
) PARTITION BY RANGE (start_us);

CREATE INDEX attache_spend_newest ON attache_spend (start_us DESC, call_id DESC);
CREATE INDEX attache_spend_newest_of_key ON attache_spend (key_hash, start_us DESC, call_id DESC);
CREATE INDEX attache_spend_newest_of_team ON attache_spend (team_id, start_us DESC) WHERE team_id IS NOT NULL;
CREATE INDEX attache_spend_newest_of_user ON attache_spend (user_id, start_us DESC) WHERE user_id IS NOT NULL;

-- Makes the partition of a Unix day, if it is not there: apart, then attached, so that readers and writers of other
-- days go on meanwhile. Two that want the same day take turns.
CREATE FUNCTION attache_spend_day(day BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    part TEXT := 'attache_spend_' || TO_CHAR(DATE '1970-01-01' + day::integer, 'YYYYMMDD');
    first_us BIGINT := day * 86400000000;
    end_us BIGINT := (day + 1) * 86400000000;
BEGIN
    PERFORM PG_ADVISORY_XACT_LOCK(1635017059, 1);
    IF EXISTS (
        SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'attache_spend'::regclass AND c.relname = part
    ) THEN
        RETURN;
    END IF;
    EXECUTE FORMAT(
        'CREATE TABLE %I (LIKE attache_spend INCLUDING DEFAULTS, '
            'CONSTRAINT of_its_day CHECK (start_us >= %s AND start_us < %s))',
        part, first_us, end_us
    );
    EXECUTE FORMAT('ALTER TABLE attache_spend ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', part, first_us, end_us);
    EXECUTE FORMAT('ALTER TABLE %I DROP CONSTRAINT of_its_day', part);
END
$$;

-- Clocks beyond the year 9999 are no clocks.
UPDATE attache_spend_old SET start_us = LEAST(GREATEST(start_us, 0), 253402300799999999)
WHERE start_us < 0 OR start_us > 253402300799999999;

SELECT attache_spend_day(day) FROM (SELECT DISTINCT start_us / 86400000000 AS day FROM attache_spend_old) AS days;

-- Names that are in indexes are bounded to 512 bytes from now on.
INSERT INTO attache_spend (start_us, duration_us, first_event_us, cost_nanos, prompt_tokens, completion_tokens,
    total_tokens, cached_tokens, reasoning_tokens, status, attempts, fallbacks, stream, estimated, call_id, request_id,
    key_hash, user_id, team_id, organization_id, end_user, tags, endpoint, model, model_group, deployment, provider,
    provider_model, outcome)
SELECT start_us, duration_us, first_event_us, CASE WHEN cost_nanos < 0 THEN 0 ELSE cost_nanos END, prompt_tokens, completion_tokens,
    total_tokens, cached_tokens, reasoning_tokens, status, attempts, fallbacks, stream, estimated, call_id, request_id,
    key_hash,
    CASE WHEN OCTET_LENGTH(user_id) > 512 THEN LEFT(user_id, 128) ELSE user_id END,
    CASE WHEN OCTET_LENGTH(team_id) > 512 THEN LEFT(team_id, 128) ELSE team_id END,
    CASE WHEN OCTET_LENGTH(organization_id) > 512 THEN LEFT(organization_id, 128) ELSE organization_id END,
    CASE WHEN OCTET_LENGTH(end_user) > 512 THEN LEFT(end_user, 128) ELSE end_user END,
    tags, LEFT(endpoint, 32), model,
    CASE WHEN OCTET_LENGTH(model_group) > 512 THEN LEFT(model_group, 128) ELSE model_group END,
    deployment, LEFT(provider, 16),
    CASE WHEN OCTET_LENGTH(provider_model) > 512 THEN LEFT(provider_model, 128) ELSE provider_model END,
    outcome
FROM attache_spend_old;

DROP TABLE attache_spend_old;

-- Sums of the rows of a UTC day (of when they began): `total` (id and key ''), by `key`, and for each user, team,
-- organization, customer (end user) and tag that a row names.
CREATE TABLE attache_daily (
    kind               TEXT COLLATE "C" NOT NULL,
    id                 TEXT COLLATE "C" NOT NULL,
    day                BIGINT NOT NULL, -- Unix days
    key_hash           TEXT COLLATE "C" NOT NULL,
    model              TEXT COLLATE "C" NOT NULL, -- at the provider
    model_group        TEXT COLLATE "C" NOT NULL,
    provider           TEXT COLLATE "C" NOT NULL,
    endpoint           TEXT COLLATE "C" NOT NULL,
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
) WITH (fillfactor = 80);

-- For reports over all teams, users, ... of some days.
CREATE INDEX attache_daily_of_day ON attache_daily (kind, day);

WITH new AS (SELECT * FROM attache_spend)
INSERT INTO attache_daily (kind, id, day, key_hash, model, model_group, provider, endpoint, requests, successes,
    failures, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, nanos, unpriced, estimated,
    duration_us)
SELECT kind, id, start_us / 86400000000, of_key, provider_model, model_group, provider, endpoint, COUNT(*),
    SUM(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END), SUM(CASE WHEN outcome = 'failure' THEN 1 ELSE 0 END),
    CAST(LEAST(SUM(prompt_tokens), 10000000000000000) AS BIGINT),
    CAST(LEAST(SUM(completion_tokens), 10000000000000000) AS BIGINT),
    CAST(LEAST(SUM(cached_tokens), 10000000000000000) AS BIGINT),
    CAST(LEAST(SUM(cache_write_tokens), 10000000000000000) AS BIGINT),
    CAST(LEAST(SUM(COALESCE(cost_nanos, 0)), 10000000000000000) AS BIGINT),
    SUM(CASE WHEN cost_nanos IS NULL THEN 1 ELSE 0 END), SUM(CASE WHEN estimated THEN 1 ELSE 0 END),
    CAST(LEAST(SUM(duration_us), 10000000000000000) AS BIGINT)
FROM (
    SELECT 'total' AS kind, '' AS id, '' AS of_key, new.* FROM new
    UNION ALL SELECT 'key', key_hash, key_hash, new.* FROM new
    UNION ALL SELECT 'user', user_id, key_hash, new.* FROM new WHERE user_id <> ''
    UNION ALL SELECT 'team', team_id, key_hash, new.* FROM new WHERE team_id <> ''
    UNION ALL SELECT 'organization', organization_id, key_hash, new.* FROM new WHERE organization_id <> ''
    UNION ALL SELECT 'customer', end_user, key_hash, new.* FROM new WHERE end_user <> ''
    UNION ALL SELECT 'tag', tag.value, key_hash, new.* FROM new
        CROSS JOIN LATERAL (SELECT DISTINCT value FROM JSON_ARRAY_ELEMENTS_TEXT(new.tags::json) AS t (value)) AS tag
        WHERE new.tags IS NOT NULL AND tag.value <> ''
) AS counted
GROUP BY kind, id, start_us / 86400000000, of_key, provider_model, model_group, provider, endpoint;

-- Verifying and pruning go by time, everything else by whose it is.
CREATE INDEX attache_daily_by_day ON attache_daily USING BRIN (day) WITH (pages_per_range = 16);
CREATE INDEX attache_usage_by_quarter ON attache_usage USING BRIN (quarter) WITH (pages_per_range = 16);

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
