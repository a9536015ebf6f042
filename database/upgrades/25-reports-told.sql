-- v24 -> v25: Who has reported somebody is told that it was seen to

-- Whether the reporter knows that the report was closed. Those that are closed already are left alone.
ALTER TABLE postern_report ADD COLUMN told BOOLEAN NOT NULL DEFAULT true;
