-- v21 -> v22: Whose suspension has ended is told so, whenever it ended

-- Whether the suspension has ended, and its user is still to be told.
ALTER TABLE postern_suspended ADD COLUMN ended BOOLEAN NOT NULL DEFAULT false;
