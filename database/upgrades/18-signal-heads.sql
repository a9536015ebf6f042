-- v17 -> v18: What tells an earlier state of a session's or a key's row from the present one

-- One sealed row an account: sums over the names and versions of all rows of its Signal state (see rows.go).
CREATE TABLE postern_signal_head (
	account_id TEXT   NOT NULL PRIMARY KEY REFERENCES postern_account (id) ON DELETE CASCADE,
	version    BIGINT NOT NULL,
	sums       bytea  NOT NULL -- sealed
);

-- The same over the rows of postern_signal_head; sealed, NULL until they are there.
ALTER TABLE postern_epoch ADD COLUMN heads bytea;
