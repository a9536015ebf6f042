-- v12 -> v13: Accounts that are being deleted

-- The wish to leave, from when it is said until everything is gone. The row goes with its account.
CREATE TABLE postern_leaving (
	account_id TEXT    NOT NULL PRIMARY KEY REFERENCES postern_account (id) ON DELETE CASCADE,
	room_id    TEXT    NOT NULL, -- where the person is told at the end, '' for not known
	reason     TEXT    NOT NULL, -- '' for the person's own wish
	asked      BIGINT  NOT NULL, -- Unix milliseconds
	outcome    TEXT    NOT NULL, -- what the gatekeeper has said, '' for nothing yet
	emptied    BOOLEAN NOT NULL, -- what does not need the gatekeeper is gone
	counts     TEXT    NOT NULL  -- how much that was, JSON
);
