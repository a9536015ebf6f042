package connector

import (
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/convert"
	"postern/connector/media"
)

func TestTheReferenceOfEveryKindOfAttachmentIsFound(t *testing.T) {
	for _, role := range []convert.Role{
		convert.RoleImage, convert.RoleVideo, convert.RoleGIF, convert.RoleVoice, convert.RoleAudio, convert.RoleDocument, convert.RoleSticker,
	} {
		made := convert.Made{Role: role, DirectPath: "/interop/x/download/7/the-reference/", Media: media.Descriptor{Kind: role.MediaKind()}}
		msg, _ := convert.MediaMessage(made)
		if ref := attachedReference(msg); ref != "the-reference" {
			t.Errorf("%v: the reference is %q", role, ref)
		}
	}
	if ref := attachedReference(&waE2E.Message{Conversation: proto.String("words")}); ref != "" {
		t.Errorf("words refer to %q", ref)
	}
}
