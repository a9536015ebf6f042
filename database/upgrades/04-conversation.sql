-- v3 -> v4: Attachments to be prepared, fall-backs, items that wait for others, read receipts

-- state 4: set aside until what the item is about has come.
ALTER TABLE postern_in ADD COLUMN read_receipt SMALLINT NOT NULL DEFAULT 0; -- 0 none, 1 due, 2 acked, 3 not wanted
-- What came before this version was read when no read receipts were sent yet.
UPDATE postern_in SET read_receipt = 3 WHERE state = 1 OR state = 2;
DROP INDEX postern_in_work;
CREATE INDEX postern_in_work ON postern_in (account_id, state, chat_id, seq) WHERE state = 0 OR state = 3 OR state = 4;
CREATE INDEX postern_in_unread ON postern_in (chat_id, seq) WHERE read_receipt = 0 AND state = 1 AND kind = 'message';
CREATE INDEX postern_in_read ON postern_in (account_id, seq) WHERE read_receipt = 1 AND state = 1;

-- state 8: replaced by the row of its fall-back.
ALTER TABLE postern_out ADD COLUMN recipe bytea;   -- sealed: what a part is to be made of; NULL once it is made, or failed
ALTER TABLE postern_out ADD COLUMN fallback bytea; -- sealed: the plaintext to send instead if the phone cannot read the first
CREATE INDEX postern_out_replaced ON postern_out (account_id) WHERE state = 8;
