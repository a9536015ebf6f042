-- v0 -> v1: Lease, key check, issuer keys, accounts, contacts, chats, Signal state

-- Who uses the database, and how many times it has changed hands (see lease.go).
CREATE TABLE postern_lease (
	id     INTEGER PRIMARY KEY CHECK (id = 1),
	holder TEXT   NOT NULL,
	epoch  BIGINT NOT NULL,
	since  BIGINT NOT NULL -- Unix milliseconds
);

-- A known text under the master key: tells a wrong key file at start.
CREATE TABLE postern_key_check (
	id     INTEGER PRIMARY KEY CHECK (id = 1),
	sealed bytea NOT NULL
);

-- All signing keys of the token issuer in one sealed document.
CREATE TABLE postern_issuer_keys (
	id      INTEGER PRIMARY KEY CHECK (id = 1),
	version BIGINT NOT NULL,
	sealed  bytea  NOT NULL
);

CREATE TABLE postern_account (
	id               TEXT    NOT NULL PRIMARY KEY, -- opaque local id
	version          BIGINT  NOT NULL,             -- of the sealed columns
	gatekeeper       TEXT    NOT NULL,             -- profile name
	mxid             TEXT    NOT NULL,
	identifier       bytea   NOT NULL,             -- sealed
	identifier_index bytea   NOT NULL,             -- keyed hash, for look-up
	login            TEXT    NOT NULL,             -- address the gatekeeper gave, '' before enlistment
	integrator       INTEGER NOT NULL,
	noise_key        bytea   NOT NULL,             -- sealed
	device           bytea   NOT NULL,             -- sealed
	hmac_key         bytea   NOT NULL,             -- sealed
	consent_version  INTEGER NOT NULL,
	consent_at       BIGINT  NOT NULL,             -- Unix milliseconds
	created_at       BIGINT  NOT NULL,
	enlisted_at      BIGINT  NOT NULL,             -- 0 before enlistment
	UNIQUE (gatekeeper, identifier_index)
);
CREATE UNIQUE INDEX postern_account_login ON postern_account (gatekeeper, login) WHERE login <> '';
CREATE INDEX postern_account_mxid ON postern_account (mxid);

CREATE TABLE postern_contact (
	id         TEXT   NOT NULL PRIMARY KEY, -- opaque local id
	version    BIGINT NOT NULL,
	gatekeeper TEXT   NOT NULL,
	jid        TEXT   NOT NULL,
	phone      bytea,                       -- sealed, NULL if not known
	name       TEXT   NOT NULL,
	created_at BIGINT NOT NULL,
	UNIQUE (gatekeeper, jid)
);

CREATE TABLE postern_chat (
	id         TEXT   NOT NULL PRIMARY KEY, -- opaque local id
	account_id TEXT   NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	contact_id TEXT   NOT NULL REFERENCES postern_contact (id) ON DELETE CASCADE,
	created_at BIGINT NOT NULL,
	UNIQUE (account_id, contact_id)
);
CREATE INDEX postern_chat_contact ON postern_chat (contact_id);

-- Key ids are never given out twice, also after the keys are gone.
CREATE TABLE postern_signal_counter (
	account_id         TEXT   NOT NULL PRIMARY KEY REFERENCES postern_account (id) ON DELETE CASCADE,
	next_prekey        BIGINT NOT NULL,
	next_signed_prekey BIGINT NOT NULL
);

CREATE TABLE postern_signal_session (
	account_id TEXT   NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	address    TEXT   NOT NULL,
	version    BIGINT NOT NULL,
	session    bytea  NOT NULL, -- sealed
	PRIMARY KEY (account_id, address)
);

CREATE TABLE postern_signal_identity (
	account_id TEXT   NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	address    TEXT   NOT NULL,
	version    BIGINT NOT NULL,
	identity   bytea  NOT NULL, -- sealed, so that a changed bit is noticed
	PRIMARY KEY (account_id, address)
);

CREATE TABLE postern_signal_prekey (
	account_id TEXT    NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	key_id     BIGINT  NOT NULL,
	uploaded   BOOLEAN NOT NULL,
	record     bytea   NOT NULL, -- sealed
	PRIMARY KEY (account_id, key_id)
);

CREATE TABLE postern_signal_signed_prekey (
	account_id TEXT   NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	key_id     BIGINT NOT NULL,
	created_at BIGINT NOT NULL, -- Unix milliseconds
	record     bytea  NOT NULL, -- sealed
	PRIMARY KEY (account_id, key_id)
);
