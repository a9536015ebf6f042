package connector

import (
	"encoding/json"
	"errors"

	"postern/connector/convert"
	"postern/connector/interop"
)

// recipe is what is queued of an attachment: what the event says of it, and what it answers. It is all that Prepare has after a
// restart.
type recipe struct {
	Attachment convert.Attachment `json:"attachment"`
	Quote      *convert.Quote     `json:"quote,omitempty"`
}

// errNoRecipe: an event stands in the queue as a recipe that this version does not write.
var errNoRecipe = errors.New("connector: prepare: a recipe that this version does not write")

// errNoMedia: the gatekeeper takes no attachments.
var errNoMedia = errors.New("connector: send: the gatekeeper has no attachments")

// refusalKinds name the roles for package convert's words.
var refusalKinds = map[convert.Role]convert.Kind{
	convert.RoleImage: convert.KindImage, convert.RoleVideo: convert.KindVideo, convert.RoleGIF: convert.KindImage,
	convert.RoleVoice: convert.KindVoice, convert.RoleAudio: convert.KindAudio, convert.RoleDocument: convert.KindFile,
	convert.RoleSticker: convert.KindSticker,
}

// recipe writes down how an attachment is to be sent, or refuses it: before anything is fetched, as far as the event says how large it is.
func (c *client) recipe(a *convert.Attachment, quote *convert.Quote) ([]byte, error) {
	if !c.profile.Features.Media {
		return nil, refusal(errNoMedia, unsupported(c.words(), refusalKinds[a.Role]))
	}
	if a.Size > c.attachmentLimit(a.Role) {
		return nil, c.tooLarge(a.Role)
	}
	raw, err := json.Marshal(recipe{Attachment: *a, Quote: quote})
	if err != nil {
		return nil, refusal(err, c.explain(err))
	} else if len(raw) > interop.MaxRecipe {
		return nil, refusal(interop.ErrBadOutgoing, c.words().Text("refused.caption"))
	}
	return raw, nil
}

// readRecipe reads what recipe has written.
func readRecipe(raw []byte) (*recipe, error) {
	r := &recipe{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, errNoRecipe
	}
	return r, nil
}
