-- v9 -> v10: When accounts were connected

-- The gatekeeper forgets an account that has not connected for 30 days. Unix milliseconds, 0 for never.
ALTER TABLE postern_account ADD COLUMN last_connected BIGINT NOT NULL DEFAULT 0;
