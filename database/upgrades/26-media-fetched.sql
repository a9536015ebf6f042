-- v25 -> v26: When the gatekeeper has fetched an attachment

-- When it was fetched whole for the first time, in Unix milliseconds; 0 for never.
ALTER TABLE postern_media ADD COLUMN fetched BIGINT NOT NULL DEFAULT 0;
