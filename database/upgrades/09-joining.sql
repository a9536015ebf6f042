-- v8 -> v9: What people agreed to, the names they asked for, names that the admin assigns, and where people are

-- One row for each time that somebody agreed; the newest is the one in force.
CREATE TABLE postern_consent (
	account_id TEXT   NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	at         BIGINT NOT NULL, -- Unix milliseconds
	wording    TEXT   NOT NULL, -- hash of the words
	document   bytea  NOT NULL, -- sealed
	PRIMARY KEY (account_id, at)
);

-- The identifiers as they were asked for, where the gatekeeper has answered with another form.
CREATE TABLE postern_account_alias (
	gatekeeper       TEXT  NOT NULL,
	identifier_index bytea NOT NULL, -- keyed hash, for look-up
	account_id       TEXT  NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	PRIMARY KEY (gatekeeper, identifier_index)
);
CREATE INDEX postern_account_alias_account ON postern_account_alias (account_id);

CREATE TABLE postern_assigned (
	mxid             TEXT   NOT NULL PRIMARY KEY,
	version          BIGINT NOT NULL,
	identifier       bytea  NOT NULL, -- sealed
	identifier_index bytea  NOT NULL UNIQUE,
	at               BIGINT NOT NULL -- Unix milliseconds
);

CREATE TABLE postern_region (
	mxid     TEXT   NOT NULL PRIMARY KEY,
	version  BIGINT NOT NULL,
	country  bytea  NOT NULL, -- sealed: what they declared themselves
	declared BIGINT NOT NULL, -- Unix milliseconds, 0 for never
	checked  BIGINT NOT NULL, -- when a gate last let them in, Unix milliseconds, 0 for never
	until    BIGINT NOT NULL  -- how long that holds, Unix milliseconds, 0 for as long as the gate says so
);
