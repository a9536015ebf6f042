-- v20 -> v21: Message statuses wait for Matrix like notices

-- Whether a row is a message status, and no message.
ALTER TABLE postern_notice ADD COLUMN status BOOLEAN NOT NULL DEFAULT false;
