-- v22 -> v23: A database that a backup was put into, and one that has moved away

-- When a backup was put into this database, until a start has seen to it, and when it was moved to another one, after which no bridge starts on
-- it any more. Unix milliseconds, 0 for never.
ALTER TABLE postern_epoch ADD COLUMN restored BIGINT NOT NULL DEFAULT 0;
ALTER TABLE postern_epoch ADD COLUMN moved    BIGINT NOT NULL DEFAULT 0;
