-- v14 -> v15: Whom people have blocked

-- What holds for a chat's other side. pending: the gatekeeper has not been told yet; a chat that is neither blocked nor pending has no row.
CREATE TABLE postern_block (
	chat_id    TEXT    NOT NULL PRIMARY KEY REFERENCES postern_chat (id) ON DELETE CASCADE,
	account_id TEXT    NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	blocked    BOOLEAN NOT NULL,
	pending    BOOLEAN NOT NULL,
	at         BIGINT  NOT NULL -- Unix milliseconds
);
CREATE INDEX postern_block_account ON postern_block (account_id);
