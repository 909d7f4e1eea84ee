-- The `updated_ms` that an entity has since a change: who has read it with this, or a higher one, has read the change.
-- What a sidecar writes that knows nothing of it is newer than everything.
ALTER TABLE attache_changes ADD COLUMN version BIGINT NOT NULL DEFAULT 9223372036854775807;
