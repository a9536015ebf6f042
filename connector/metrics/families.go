package metrics

import "slices"

// Family describes one family of metrics.
type Family struct {
	// Name, Help and Type are as Prometheus has them; Type is counter, gauge or histogram.
	Name, Help, Type string
	// Labels are its labels.
	Labels []string
}

// Other is what a label's value is that is on no list.
const Other = "other"

// Values of labels. A value that is told and is not here counts as Other.
var (
	// States are those of a user's stream.
	States = []string{
		"new", "connecting", "live", "idle", "waiting", "banned", "replaced", "not_enlisted", "refused", "deleted", "storage",
		"internal_error", "back_pressure", "ended", "clock", "no_address",
	}
	// Contents are what messages are.
	Contents = []string{"text", "media", "reaction", "change", "notice"}
	// InStates are what becomes of what comes from the gatekeeper, OutStates how far what comes from Matrix has come.
	InStates  = []string{"delivered", "dead_letter", "dropped"}
	OutStates = []string{"accepted", "sent", "delivered", "read", "failed"}
	// Legs are the ways that a message goes.
	Legs = []string{"socket_to_disk", "disk_to_ack", "disk_to_matrix", "homeserver_to_queue", "queue_to_socket", "socket_to_ack", "matrix_to_receipt"}
	// Causes are why a stream ended, or could not be had; the codes of failure and stream:error are among them.
	Causes = []string{
		"closed", "unanswered", "login_timeout", "malformed", "no_address", "panic", "network", "timeout", "handshake", "token", "unexpected",
		"replaced", "code_400", "code_401", "code_402", "code_403", "code_405", "code_406", "code_409", "code_413", "code_414", "code_415",
		"code_418", "code_429", "code_500", "code_501", "code_503", "code_515",
	}
	// Codes are those of nacks.
	Codes = []string{
		"400", "401", "403", "404", "405", "406", "408", "410", "421", "429", "463", "475", "479", "487", "488", "489", "490", "491", "495", "496",
		"499", "500", "503", "550", "551", "552",
	}
	// Reasons are why outgoing events failed, or incoming ones became dead letters.
	Reasons = []string{
		"blocked", "gone", "may_not_start", "new_chat_cap", "bad_stanza", "unreadable", "rate_limited", "server_error", "no_answer", "no_keys",
		"internal", "account_stopped", "media", "media_gone", "media_other", "too_large", "quota", "damaged", "no_target",
		"not_confirmed", "forbidden", "not_found", "refused",
	}
	// Places are where a panic of an account was caught.
	Places = []string{
		"inbox", "mail", "news", "outbox", "receipts", "deliver", "status", "ack", "queued", "stanza", "typing", "chores", "keys",
		"blocks", "waits", "prepare", "attached", "giving up", "connection",
	}
	// Retried is what is tried again.
	Retried = []string{"to_matrix", "to_gatekeeper", "status"}
	// PushResults are what becomes of pushes.
	PushResults = []string{"good", "refused", "malformed", "unchecked"}
	// Queues are what waits on disk.
	Queues = []string{"to_matrix", "set_aside", "withheld", "resend", "to_gatekeeper", "homeserver", "notices", "incoming_media", "leavings"}
	// Requests are kinds of requests to the homeserver.
	Requests = []string{"send", "state", "create_room", "membership", "upload", "download", "sync", "profile", "account", Other}
	// Results are what becomes of those.
	Results = []string{"ok", "refused", "limited", "failed"}
	// Operations are kinds of work of the media store.
	Operations = []string{"stored", "served", "fetched", "uploaded"}
)

// Buckets, in seconds.
var (
	legBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}
	commitBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
	groupBuckets  = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

const (
	counterType   = "counter"
	gaugeType     = "gauge"
	histogramType = "histogram"
)

// The families.
var (
	buildInfo     = Family{"postern_build_info", "Always 1; its labels say which program runs.", gaugeType, []string{"version", "commit", "goversion"}}
	users         = Family{"postern_users", "Logins in use, by the state of their stream to the gatekeeper. idle is connected too: the stream rests because nobody needs it.", gaugeType, []string{"gatekeeper", "state"}}
	usersStored   = Family{"postern_accounts", "Accounts in the database: enlisted ones and those that are suspended or leaving.", gaugeType, []string{"gatekeeper"}}
	checks        = Family{"postern_check_ok", "1 while a check of /_matrix/mau/ready finds nothing wrong, else 0.", gaugeType, []string{"check"}}
	ready         = Family{"postern_ready", "1 while all checks of /_matrix/mau/ready find nothing wrong, else 0.", gaugeType, nil}
	connects      = Family{"postern_stream_connects_total", "Attempts to open a stream.", counterType, []string{"gatekeeper"}}
	logins        = Family{"postern_stream_logins_total", "Streams that the gatekeeper has let in.", counterType, []string{"gatekeeper"}}
	loginSeconds  = Family{"postern_stream_login_seconds", "From the beginning of an attempt until the gatekeeper has let the stream in.", histogramType, []string{"gatekeeper"}}
	failures      = Family{"postern_stream_failures_total", "Streams that ended, or were not had, against our will, by cause. code_ is what the gatekeeper gave as the reason.", counterType, []string{"gatekeeper", "cause"}}
	incoming      = Family{"postern_incoming_total", "What came from the gatekeeper for Matrix, by what it is and what became of it. Notices are what the bridge tells by itself of a message that nobody can read, or of new keys.", counterType, []string{"gatekeeper", "content", "state"}}
	received      = Family{"postern_received_total", "Messages that came from the gatekeeper and are on disk, each once.", counterType, []string{"gatekeeper"}}
	outgoing      = Family{"postern_outgoing_total", "Events from Matrix, by what they are and how far they came. Each counts once in every state up to its last: accepted is on our disk, sent is with the gatekeeper, delivered and read are with the phone.", counterType, []string{"gatekeeper", "content", "state"}}
	failed        = Family{"postern_outgoing_failed_total", "Events from Matrix that failed for good, by reason.", counterType, []string{"gatekeeper", "reason"}}
	buried        = Family{"postern_dead_letters_total", "What came from the gatekeeper and was given up, by reason.", counterType, []string{"gatekeeper", "reason"}}
	legs          = Family{"postern_leg_seconds", "How long a message took for one leg of its way. In: socket_to_disk, disk_to_ack, disk_to_matrix. Out: homeserver_to_queue (from the event's time at the homeserver), queue_to_socket, socket_to_ack; and the whole of it, matrix_to_receipt, from that time to the receipt of the phone.", histogramType, []string{"gatekeeper", "leg"}}
	retries       = Family{"postern_retries_total", "Attempts that failed and are made again.", counterType, []string{"gatekeeper", "what"}}
	resends       = Family{"postern_retry_receipts_total", "Requests to send a message again because it could not be read: in from phones, out to them.", counterType, []string{"gatekeeper", "direction"}}
	nacks         = Family{"postern_nacks_total", "Refusals of messages: in what the gatekeeper or a phone refused of ours, out what we refused.", counterType, []string{"gatekeeper", "direction", "code"}}
	preKeysUp     = Family{"postern_prekeys_uploaded_total", "One-time prekeys that were uploaded.", counterType, []string{"gatekeeper"}}
	preKeysUsed   = Family{"postern_prekeys_used_total", "One-time prekeys that were used up by messages.", counterType, []string{"gatekeeper"}}
	preKeysLow    = Family{"postern_prekeys_low_total", "How often the gatekeeper said that an account has few one-time prekeys left.", counterType, []string{"gatekeeper"}}
	panics        = Family{"postern_panics_total", "Panics that were caught and cost one account a moment, by where. Each is a mistake in the program.", counterType, []string{"gatekeeper", "where"}}
	pushes        = Family{"postern_pushes_total", "Pushes of gatekeepers, by what became of them.", counterType, []string{"result"}}
	pushSeconds   = Family{"postern_push_to_live_seconds", "From a push for a user without a stream until the stream has brought what waited there.", histogramType, []string{"gatekeeper"}}
	transactions  = Family{"postern_homeserver_events_total", "Events that the homeserver handed over and that are journalled.", counterType, nil}
	journalled    = Family{"postern_journal_seconds", "How long it took to put a transaction of the homeserver on disk; it is answered after that.", histogramType, nil}
	journalFailed = Family{"postern_journal_failures_total", "Transactions of the homeserver that could not be put on disk, and will be repeated.", counterType, nil}
	requests      = Family{"postern_homeserver_requests_total", "Requests to the homeserver, by kind and result. failed is no answer or one of 500 and above, limited is 429, refused any other of 400 and above.", counterType, []string{"kind", "result"}}
	requestTimes  = Family{"postern_homeserver_request_seconds", "How long the homeserver took to answer.", histogramType, []string{"kind"}}
	mediaBytes    = Family{"postern_media_bytes_total", "Bytes of attachments: stored for the gatekeeper and served to it, fetched from it and uploaded to the homeserver.", counterType, []string{"operation"}}
	mediaFiles    = Family{"postern_media_files_total", "How often that was done.", counterType, []string{"operation"}}
	mediaFailures = Family{"postern_media_failures_total", "How often that failed. What fails is tried again unless the file itself is to blame.", counterType, []string{"operation"}}
	commits       = Family{"postern_database_commits_total", "Commits of the bridge's own tables, by result.", counterType, []string{"result"}}
	commitTimes   = Family{"postern_database_commit_seconds", "How long a commit took, without what was done in the transaction.", histogramType, nil}
	waits         = Family{"postern_database_wait_seconds", "From asking for a transaction to its commit.", histogramType, nil}
	groups        = Family{"postern_database_commit_jobs", "How many pieces of work shared a commit.", histogramType, nil}
	queries       = Family{"postern_database_query_seconds", "How long queries took, of the framework's tables and of ours.", histogramType, []string{"pool"}}
	queueItems    = Family{"postern_queue_items", "What waits on disk. to_matrix and to_gatekeeper are the two ways of messages, set_aside waits for another message, withheld for the user's decision, resend for the sender, homeserver are events not dealt with yet.", gaugeType, []string{"queue"}}
	queueAge      = Family{"postern_queue_oldest_seconds", "The age of the oldest that waits there, 0 if nothing does.", gaugeType, []string{"queue"}}
	letters       = Family{"postern_dead_letters", "Dead letters that are kept for the operator.", gaugeType, []string{"direction"}}
	preKeys       = Family{"postern_prekeys", "One-time prekeys in the database that were uploaded and not used.", gaugeType, nil}
	dbBytes       = Family{"postern_database_bytes", "The size of the database.", gaugeType, nil}
	storeBytes    = Family{"postern_media_store_bytes", "What the attachments in the media store take.", gaugeType, nil}
	storeFiles    = Family{"postern_media_store_files", "How many they are.", gaugeType, nil}
	counted       = Family{"postern_counted_timestamp_seconds", "When the database was last counted: the figures of queues, dead letters, prekeys, accounts and sizes are of that time.", gaugeType, nil}
)

// Families lists all but those of the Go runtime and the process, by name.
func Families() []Family {
	list := []Family{
		buildInfo, users, usersStored, checks, ready, connects, logins, loginSeconds, failures, received, incoming, outgoing, failed, buried, legs, retries,
		resends, nacks, preKeysUp, preKeysUsed, preKeysLow, panics, pushes, pushSeconds, transactions, journalled, journalFailed, requests,
		requestTimes, mediaBytes, mediaFiles, mediaFailures, commits, commitTimes, waits, groups, queries, queueItems, queueAge, letters, preKeys,
		dbBytes, storeBytes, storeFiles, counted,
	}
	slices.SortFunc(list, func(a, b Family) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}
