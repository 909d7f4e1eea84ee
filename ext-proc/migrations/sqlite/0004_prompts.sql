-- What was asked and answered, where the configuration has it stored (`store_prompts_in_spend_logs`). Apart from the rows
-- of the ledger, which stay narrow, and with a life of its own.
CREATE TABLE attache_prompts (
    call_id  TEXT   NOT NULL PRIMARY KEY,
    start_us BIGINT NOT NULL,
    request  TEXT,
    response TEXT
);

CREATE INDEX attache_prompts_by_start ON attache_prompts (start_us);
