-- v6 -> v7: What Matrix users have chosen for themselves, before and apart from any login

CREATE TABLE postern_person (
	mxid     TEXT NOT NULL PRIMARY KEY,
	language TEXT NOT NULL -- code of the language that they chose
);
