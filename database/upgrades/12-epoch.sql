-- v11 -> v12: What tells an old copy of the database from the one that was used last

-- Counted up by every commit that changes Signal state, and compared with the epoch file (see epoch.go).
CREATE TABLE postern_epoch (
	id          INTEGER PRIMARY KEY CHECK (id = 1),
	database_id TEXT   NOT NULL, -- random, for ever
	branch      TEXT   NOT NULL, -- random, made anew when this was found to be an old copy
	counter     BIGINT NOT NULL,
	generation  BIGINT NOT NULL  -- how often this was found to be an old copy
);

-- A session of an earlier generation is an old copy's: nothing is encrypted in it any more.
ALTER TABLE postern_signal_session ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

-- What is still to be done about an old copy: the branch it became, '' for nothing.
ALTER TABLE postern_signal_counter ADD COLUMN renewal TEXT NOT NULL DEFAULT ''; -- the prekeys have to be replaced
ALTER TABLE postern_signal_counter ADD COLUMN untold  TEXT NOT NULL DEFAULT ''; -- the user has to be told
