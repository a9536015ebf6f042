-- v27 -> v28: Tokens for the provisioning interface, and what was done through it and by the operator

CREATE TABLE postern_token (
	id      TEXT   NOT NULL PRIMARY KEY,
	mxid    TEXT   NOT NULL, -- whom it acts for
	scopes  TEXT   NOT NULL, -- separated by spaces
	hash    TEXT   NOT NULL, -- SHA-256 of the secret part, in hexadecimal
	at      BIGINT NOT NULL, -- Unix milliseconds
	expires BIGINT NOT NULL, -- Unix milliseconds
	revoked BIGINT NOT NULL DEFAULT 0 -- Unix milliseconds, 0 for not
);
CREATE INDEX postern_token_mxid ON postern_token (mxid);

-- Rows are only ever added, and deleted when they are too old or too many. One that says how something ended names the one that says that it began.
CREATE TABLE postern_audit (
	seq     BIGINT NOT NULL PRIMARY KEY,
	began   BIGINT NOT NULL, -- seq of the row of the beginning, 0 in that row itself
	at      BIGINT NOT NULL, -- Unix milliseconds
	actor   TEXT   NOT NULL,
	action  TEXT   NOT NULL,
	subject TEXT   NOT NULL, -- a local id, or ''
	outcome TEXT   NOT NULL
);
CREATE INDEX postern_audit_began ON postern_audit (began);
CREATE INDEX postern_audit_at ON postern_audit (at);
