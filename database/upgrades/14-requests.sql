-- v13 -> v14: First contacts that the user decides about

CREATE TABLE postern_request (
	chat_id    TEXT     PRIMARY KEY REFERENCES postern_chat (id) ON DELETE CASCADE,
	account_id TEXT     NOT NULL,
	state      SMALLINT NOT NULL, -- 1 asked, 2 accepted, 3 declined, 4 held back, 5 refused
	since      BIGINT   NOT NULL, -- of the state, Unix milliseconds
	asked      BIGINT   NOT NULL, -- when the user was asked, Unix milliseconds; 0 for never
	dropped    BIGINT   NOT NULL, -- messages that were not kept
	closing    BOOLEAN  NOT NULL  -- declined, and the room is still to be closed
);
CREATE INDEX postern_request_open ON postern_request (account_id, since) WHERE state <> 2;
CREATE INDEX postern_request_asked ON postern_request (account_id, asked) WHERE asked > 0;
-- Who had a chat before is no stranger.
INSERT INTO postern_request (chat_id, account_id, state, since, asked, dropped, closing)
	SELECT id, account_id, 2, created_at, 0, 0, false FROM postern_chat;

-- state 5: kept until the user decides about its sender; receipt 4: sent when the user accepts.
CREATE INDEX postern_in_withheld ON postern_in (account_id, chat_id, seq) WHERE state = 5;
CREATE INDEX postern_in_held_receipt ON postern_in (chat_id, seq) WHERE receipt = 4;
