-- Money is integer nano-dollars, times are integers since the Unix epoch (unit in the name).
-- Kept equal to migrations/sqlite: both backends share their statements.
CREATE TABLE attache_keys (
    hash             TEXT    NOT NULL PRIMARY KEY,
    name             TEXT    NOT NULL,
    alias            TEXT    UNIQUE,
    models           TEXT    NOT NULL, -- JSON array
    user_id          TEXT,
    team_id          TEXT,
    expires_ms       BIGINT,
    metadata         TEXT    NOT NULL, -- JSON
    max_budget_nanos BIGINT,
    rpm_limit        BIGINT,
    tpm_limit        BIGINT,
    created_by       TEXT,
    blocked          BOOLEAN NOT NULL DEFAULT FALSE,
    spend_nanos      BIGINT  NOT NULL DEFAULT 0,
    created_ms       BIGINT  NOT NULL,
    updated_ms       BIGINT  NOT NULL
);

CREATE TABLE attache_spend (
    call_id           TEXT    NOT NULL PRIMARY KEY,
    request_id        TEXT    NOT NULL,
    key_hash          TEXT    NOT NULL,
    endpoint          TEXT    NOT NULL,
    model             TEXT    NOT NULL,
    model_group       TEXT    NOT NULL,
    deployment        TEXT    NOT NULL,
    provider          TEXT    NOT NULL,
    provider_model    TEXT    NOT NULL,
    end_user          TEXT,
    stream            BOOLEAN NOT NULL,
    status            BIGINT  NOT NULL,
    outcome           TEXT    NOT NULL,
    attempts          BIGINT  NOT NULL,
    fallbacks         BIGINT  NOT NULL,
    prompt_tokens     BIGINT  NOT NULL,
    completion_tokens BIGINT  NOT NULL,
    total_tokens      BIGINT  NOT NULL,
    cached_tokens     BIGINT  NOT NULL,
    reasoning_tokens  BIGINT  NOT NULL,
    estimated         BOOLEAN NOT NULL,
    cost_nanos        BIGINT,
    start_us          BIGINT  NOT NULL,
    duration_us       BIGINT  NOT NULL,
    first_event_us    BIGINT
);

CREATE INDEX attache_spend_newest ON attache_spend (start_us DESC, call_id DESC);
CREATE INDEX attache_spend_newest_of_key ON attache_spend (key_hash, start_us DESC, call_id DESC);
