-- v18 -> v19: Whom people ignore in their Matrix clients

-- The chats whose other side was on the person's list of ignored users when the bridge looked last. pending: the bridge is changing the list.
CREATE TABLE postern_ignored (
	chat_id    TEXT    NOT NULL PRIMARY KEY REFERENCES postern_chat (id) ON DELETE CASCADE,
	account_id TEXT    NOT NULL REFERENCES postern_account (id) ON DELETE CASCADE,
	pending    BOOLEAN NOT NULL
);
CREATE INDEX postern_ignored_account ON postern_ignored (account_id);
