-- v2 -> v3: The in-queue and the out-queue of the accounts

-- What came in. With its payload until Matrix has it, afterwards as the memory for dedupe.
-- A chat belongs to one account, so chat and id name a row.
CREATE TABLE postern_in (
	chat_id    TEXT     NOT NULL REFERENCES postern_chat (id) ON DELETE CASCADE,
	class      SMALLINT NOT NULL, -- 0 message, 1 anything else: ids of messages are their senders' choice
	item_id    TEXT     NOT NULL,
	account_id TEXT     NOT NULL,
	seq        BIGINT   NOT NULL, -- the order in the chat
	version    BIGINT   NOT NULL, -- of the sealed column
	hash       bytea,             -- SHA-256 of the ciphertext handled last
	kind       TEXT     NOT NULL,
	state      SMALLINT NOT NULL, -- 0 pending, 1 done, 2 dead letter, 3 waiting for the sender's repetition
	timestamp  BIGINT   NOT NULL, -- the gatekeeper's, Unix seconds
	received   BIGINT   NOT NULL, -- Unix milliseconds
	payload    bytea,             -- sealed; NULL once it is not needed
	sts        TEXT     NOT NULL,
	receipt    SMALLINT NOT NULL, -- 0 none, 1 due, 2 acked
	nack       INTEGER  NOT NULL,
	retries    INTEGER  NOT NULL,
	since      BIGINT   NOT NULL, -- Unix milliseconds
	late       BOOLEAN  NOT NULL,
	PRIMARY KEY (chat_id, class, item_id)
);
CREATE INDEX postern_in_work ON postern_in (account_id, state, chat_id, seq) WHERE state = 0 OR state = 3;
CREATE INDEX postern_in_receipt ON postern_in (account_id, seq) WHERE receipt = 1;

-- What goes out, one row for each part of a Matrix event. With its plaintext for the retry window, with the finished
-- stanza while that is unacked, afterwards as the memory for receipts.
CREATE TABLE postern_out (
	account_id TEXT     NOT NULL,
	stanza_id  TEXT     NOT NULL,
	seq        BIGINT   NOT NULL, -- the order in the chat
	chat_id    TEXT     NOT NULL REFERENCES postern_chat (id) ON DELETE CASCADE,
	event_id   TEXT     NOT NULL,
	room_id    TEXT     NOT NULL,
	part       INTEGER  NOT NULL,
	parts      INTEGER  NOT NULL,
	type       TEXT     NOT NULL,
	media_type TEXT     NOT NULL,
	plaintext  bytea,             -- sealed
	stanza     bytea,             -- sealed
	state      SMALLINT NOT NULL, -- 0 queued, 1 encrypted, 2 sent, 3 delivered, 4 read, 9 failed
	work       SMALLINT NOT NULL, -- 0 none, 1 to be sent, 2 to be sent again on request
	due        BOOLEAN  NOT NULL, -- the state changed and Matrix was not told yet
	reported   SMALLINT NOT NULL, -- the event's state that Matrix was told
	created    BIGINT   NOT NULL, -- Unix milliseconds
	changed    BIGINT   NOT NULL, -- Unix milliseconds
	reason     TEXT     NOT NULL,
	code       INTEGER  NOT NULL,
	retry      bytea,             -- the unanswered retry request, NULL for none
	retry_last TEXT     NOT NULL, -- fingerprint of the last request taken
	answers    INTEGER  NOT NULL,
	PRIMARY KEY (account_id, stanza_id)
);
CREATE INDEX postern_out_work ON postern_out (account_id, work, chat_id, seq) WHERE work <> 0;
CREATE INDEX postern_out_due ON postern_out (account_id, seq) WHERE due;
CREATE INDEX postern_out_chat ON postern_out (chat_id);
