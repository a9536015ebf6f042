-- v7 -> v8: Attachments that are to be fetched are read page by page, oldest first

DROP INDEX postern_incoming_media_wanted;
CREATE INDEX postern_incoming_media_wanted ON postern_incoming_media (account_id, timestamp, chat_id, message_id) WHERE state = 0;
