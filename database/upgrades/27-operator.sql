-- v26 -> v27: What whoever runs the bridge has ordered, and what they are to be told

-- Orders that stand, and where the operator's room is, by name.
CREATE TABLE postern_operator (
	name    TEXT   NOT NULL PRIMARY KEY,
	version BIGINT NOT NULL,
	value   bytea  NOT NULL -- JSON, sealed
);

-- What the operator is told, once each; told in sums.
CREATE TABLE postern_operator_news (
	identity   TEXT    NOT NULL PRIMARY KEY, -- a hash
	kind       TEXT    NOT NULL,
	account_id TEXT    NOT NULL, -- the account's local id that it is about, '' for none
	detail     TEXT    NOT NULL, -- a word or number of the bridge's own
	at         BIGINT  NOT NULL, -- Unix milliseconds
	told       BOOLEAN NOT NULL
);
CREATE INDEX postern_operator_news_untold ON postern_operator_news (kind, at) WHERE NOT told;
CREATE INDEX postern_operator_news_account ON postern_operator_news (account_id);
