-- v4 -> v5: The index of the media store

-- What the store of encrypted attachments holds. The reference by which one is fetched is not here: who reads this table
-- can fetch nothing. No foreign key, since the file goes before its row.
CREATE TABLE postern_media (
	ref_hash bytea  NOT NULL PRIMARY KEY, -- SHA-256 of the reference
	owner    TEXT   NOT NULL,             -- the account's local id
	size     BIGINT NOT NULL,             -- bytes of ciphertext
	sha256   bytea  NOT NULL,             -- of the ciphertext
	created  BIGINT NOT NULL,             -- Unix milliseconds
	expires  BIGINT NOT NULL              -- Unix milliseconds
);
CREATE INDEX postern_media_owner ON postern_media (owner);
CREATE INDEX postern_media_age ON postern_media (expires, ref_hash);
