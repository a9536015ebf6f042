-- v23 -> v24: Whose data this is, where there are several instances of the bridge

CREATE TABLE postern_instance (
	id    INTEGER PRIMARY KEY CHECK (id = 1),
	name  TEXT   NOT NULL,
	since BIGINT NOT NULL -- Unix milliseconds
);
