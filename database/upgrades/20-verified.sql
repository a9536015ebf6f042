-- v19 -> v20: Whose safety numbers people have compared

-- The identity keys for which the person has looked at a chat's safety number, and confirmed it.
CREATE TABLE postern_verified (
	chat_id    TEXT   NOT NULL PRIMARY KEY REFERENCES postern_chat (id) ON DELETE CASCADE,
	account_id TEXT   NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	version    BIGINT NOT NULL, -- of the sealed column
	keys       bytea  NOT NULL, -- sealed
	at         BIGINT NOT NULL  -- Unix milliseconds
);
CREATE INDEX postern_verified_account ON postern_verified (account_id);
