-- v1 -> v2: Journal of what the homeserver handed over, notices, message status

-- Ids of accepted transactions, so that a repeated one is known as such.
CREATE TABLE postern_as_transaction (
	txn_id      TEXT   NOT NULL PRIMARY KEY,
	received_at BIGINT NOT NULL -- Unix milliseconds
);
CREATE INDEX postern_as_transaction_age ON postern_as_transaction (received_at);

-- Events that the homeserver handed over. seq is the order in which they are handled.
CREATE TABLE postern_as_event (
	seq         BIGINT  NOT NULL PRIMARY KEY,
	kind        TEXT    NOT NULL,               -- room or ephemeral
	event_id    TEXT    UNIQUE,                 -- NULL for ephemeral
	room_id     TEXT    NOT NULL,
	body        bytea,                          -- sealed, NULL once finished
	handed      BOOLEAN NOT NULL DEFAULT false, -- a command that was given to its handler
	finished_at BIGINT                          -- Unix milliseconds, NULL until then
);
CREATE INDEX postern_as_event_unfinished ON postern_as_event (seq) WHERE finished_at IS NULL;
CREATE INDEX postern_as_event_age ON postern_as_event (finished_at);

-- How far the homeserver has been asked for missed events and room keys.
CREATE TABLE postern_sync_token (
	name  TEXT NOT NULL PRIMARY KEY,
	token TEXT NOT NULL
);

-- What people have to be told in a room, until Matrix has it.
CREATE TABLE postern_notice (
	id         TEXT    NOT NULL PRIMARY KEY,
	room_id    TEXT    NOT NULL,
	content    bytea,                          -- sealed, NULL once sent
	tried      BOOLEAN NOT NULL DEFAULT false,
	created_at BIGINT  NOT NULL,               -- Unix milliseconds
	sent_at    BIGINT                          -- Unix milliseconds, NULL until then
);
CREATE INDEX postern_notice_waiting ON postern_notice (created_at) WHERE sent_at IS NULL;
CREATE INDEX postern_notice_age ON postern_notice (sent_at);

-- Rooms that began with the notice on encryption, and the name that the person gave the chat.
CREATE TABLE postern_chat_room (
	chat_id TEXT   NOT NULL PRIMARY KEY REFERENCES postern_chat (id) ON DELETE CASCADE,
	version BIGINT NOT NULL, -- of the sealed column
	room_id TEXT   NOT NULL, -- the room that has the notice, '' for none yet
	title   bytea            -- sealed, NULL for none
);

-- When the account was enlisted again because the gatekeeper had forgotten it: Unix milliseconds, 0 for never.
ALTER TABLE postern_account ADD COLUMN reenlisted_at BIGINT NOT NULL DEFAULT 0;
