// Package metrics counts and times what the bridge does, and shows it to Prometheus.
//
// Layer: beneath connector, which fits it to the packages that tell it things: those declare what they tell in small interfaces of
// their own. It imports no other package of this project, and of other modules the Prometheus client alone.
//
// Nothing here has a label that grows with users, chats or rooms, and nothing names anybody: each label has its values from a list that
// is made with the program, whatever else is told counts as "other", and so the number of series is the same with one user and with
// ten thousand. What stands in the database is counted by whoever keeps it, now and then, and handed over (SetStored); no scrape
// asks the database anything.
//
// docs/METRICS.md lists the families; a test compares it with what is here.
package metrics
