-- v5 -> v6: Attachments of others: those that Matrix does not have yet, and what the events of the newest say

CREATE TABLE postern_incoming_media (
	chat_id    TEXT     NOT NULL REFERENCES postern_chat (id) ON DELETE CASCADE,
	message_id TEXT     NOT NULL, -- the gatekeeper's id of the message
	account_id TEXT     NOT NULL,
	version    BIGINT   NOT NULL, -- of the sealed column
	state      SMALLINT NOT NULL, -- 0 to be fetched, 1 missing, 2 shown
	reason     TEXT     NOT NULL, -- why it is missing
	tries      INTEGER  NOT NULL, -- how often it was found missing
	payload    bytea    NOT NULL, -- sealed
	timestamp  BIGINT   NOT NULL, -- the gatekeeper's, Unix milliseconds
	expires    BIGINT   NOT NULL, -- Unix milliseconds
	PRIMARY KEY (chat_id, message_id)
);
CREATE INDEX postern_incoming_media_wanted ON postern_incoming_media (account_id) WHERE state = 0;
CREATE INDEX postern_incoming_media_age ON postern_incoming_media (expires);
