-- v16 -> v17: What people have reported to whoever runs the bridge

-- A report outlives the account of its reporter, without them: account_id and chat_id are '' then, and quoted is gone.
CREATE TABLE postern_report (
	id         TEXT   NOT NULL PRIMARY KEY,
	account_id TEXT   NOT NULL,
	chat_id    TEXT   NOT NULL,
	gatekeeper TEXT   NOT NULL,
	about      bytea  NOT NULL, -- keyed hash of the reported person's address
	at         BIGINT NOT NULL, -- Unix milliseconds
	closed     BIGINT NOT NULL, -- Unix milliseconds, 0 for open
	subject    bytea  NOT NULL, -- sealed: who is reported
	reason     bytea,           -- sealed: the reporter's words
	quoted     bytea            -- sealed: a message that the reporter has pointed at
);
CREATE INDEX postern_report_account ON postern_report (account_id, at);
CREATE INDEX postern_report_about ON postern_report (about);
