package connector

import (
	"context"
	"errors"
	"path"
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/interop"
	"postern/connector/mediastore"
)

// Attached implements interop.Upcalls: a message whose attachment has got lost since it was prepared is not sent, so that no phone is
// referred to what is not there.
func (c *client) Attached(ctx context.Context, plaintext []byte) error {
	var message waE2E.Message
	if err := proto.Unmarshal(plaintext, &message); err != nil {
		return &interop.Unsendable{Reason: interop.ReasonInternal, Err: err}
	}
	ref := attachedReference(&message)
	if ref == "" {
		return nil
	}
	err := c.connector.media.Check(ctx, ref)
	if errors.Is(err, mediastore.ErrNotFound) && c.connector.instances != nil { // it was prepared before the user was moved here
		switch there, away := c.connector.othersHave(ctx, ref); {
		case there:
			return nil
		case away != nil:
			return away
		}
	}
	if errors.Is(err, mediastore.ErrNotFound) || errors.Is(err, mediastore.ErrDamaged) {
		return &interop.Unsendable{Reason: interop.ReasonMedia, Err: err}
	}
	return err
}

// attachedReference is the reference of the attachment of a message that convert.MediaMessage has made, "" if it has none.
func attachedReference(m *waE2E.Message) string {
	for _, part := range []interface{ GetDirectPath() string }{
		m.GetImageMessage(), m.GetVideoMessage(), m.GetAudioMessage(), m.GetDocumentMessage(), m.GetStickerMessage(),
	} {
		if at := part.GetDirectPath(); at != "" {
			return path.Base(strings.TrimSuffix(at, "/"))
		}
	}
	return ""
}
