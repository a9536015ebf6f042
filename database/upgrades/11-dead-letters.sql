-- v10 -> v11: Dead letters

-- What Matrix has refused for good, or could not be read from disk, keeps its payload for as long as it has a letter.
ALTER TABLE postern_in ADD COLUMN letter      TEXT    NOT NULL DEFAULT ''; -- opaque id of the dead letter, '' for none
ALTER TABLE postern_in ADD COLUMN dead_reason TEXT    NOT NULL DEFAULT '';
ALTER TABLE postern_in ADD COLUMN dead_at     BIGINT  NOT NULL DEFAULT 0;  -- Unix milliseconds
ALTER TABLE postern_in ADD COLUMN deaths      INTEGER NOT NULL DEFAULT 0;  -- how often it has become a dead letter
CREATE INDEX postern_in_letter ON postern_in (letter) WHERE letter <> '';
CREATE INDEX postern_in_dead ON postern_in (account_id, dead_at) WHERE state = 2 AND letter <> '';

-- All failed parts of one event have one letter.
ALTER TABLE postern_out ADD COLUMN letter TEXT NOT NULL DEFAULT ''; -- opaque id of the dead letter, '' for none
CREATE INDEX postern_out_letter ON postern_out (letter) WHERE letter <> '';
CREATE INDEX postern_out_failed ON postern_out (account_id, changed) WHERE state = 9 AND letter <> '';
