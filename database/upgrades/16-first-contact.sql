-- v15 -> v16: Whom people have asked whether they may write, brakes on abuse, and whom the operator has suspended

CREATE TABLE postern_reach (
	chat_id    TEXT     NOT NULL PRIMARY KEY REFERENCES postern_chat (id) ON DELETE CASCADE,
	account_id TEXT     NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	state      SMALLINT NOT NULL, -- 1 to be asked, 2 asked, 3 accepted, 4 declined, 5 off
	since      BIGINT   NOT NULL  -- of the state, Unix milliseconds
);
CREATE INDEX postern_reach_account ON postern_reach (account_id, state);

-- One row for each thing that is counted, for as long as it counts. They outlive logins, or leaving and joining would empty them.
CREATE TABLE postern_brake (
	id      TEXT     NOT NULL PRIMARY KEY,
	kind    SMALLINT NOT NULL, -- 1 new chat, 2 look-up, 3 letter with a code
	mxid    TEXT     NOT NULL,
	subject bytea    NOT NULL, -- keyed hash of the address that a letter went to; of the other kinds empty
	at      BIGINT   NOT NULL  -- Unix milliseconds
);
CREATE INDEX postern_brake_user ON postern_brake (kind, mxid, at);
CREATE INDEX postern_brake_all ON postern_brake (kind, at);

CREATE TABLE postern_suspended (
	mxid    TEXT   NOT NULL PRIMARY KEY,
	version BIGINT NOT NULL,
	reason  bytea  NOT NULL, -- sealed: the operator's words
	at      BIGINT NOT NULL  -- Unix milliseconds
);
