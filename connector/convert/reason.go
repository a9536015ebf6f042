package convert

// Reason says why a payload gave no Matrix content.
type Reason string

// The reasons. All but Shown mean that the payload may be dropped: it has been
// read and there is nothing in it for a person.
const (
	// Shown: there is content.
	Shown Reason = ""
	// NoPayload: the message was nil or had no field set at all.
	NoPayload Reason = "no_payload"
	// NoText: a text message without a visible character.
	NoText Reason = "no_text"
	// KeyMaterial: keys for groups or devices, read by programs only.
	KeyMaterial Reason = "key_material"
	// Housekeeping: news between one person's own devices, or for a server.
	Housekeeping Reason = "housekeeping"
)
