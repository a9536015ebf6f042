package connector

import (
	"testing"

	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/transcode"
)

func TestWhatNoClientCanShowIsAFile(t *testing.T) {
	for name, x := range map[string]struct {
		told     event.MessageType
		mimetype string
		found    transcode.Info
		looked   bool
		want     event.MessageType
	}{
		"an image":                          {event.MsgImage, "image/jpeg", transcode.Info{Mimetype: "image/png"}, true, event.MsgImage},
		"an image that is a film":           {event.MsgImage, "image/jpeg", transcode.Info{Mimetype: "video/mp4"}, true, event.MsgFile},
		"an image of a form unknown":        {event.MsgImage, "image/jpeg", transcode.Info{}, true, event.MsgFile},
		"a video of a form unknown":         {event.MsgVideo, "video/mp4", transcode.Info{}, true, event.MsgFile},
		"an image that was not looked into": {event.MsgImage, "image/jpeg", transcode.Info{}, false, event.MsgImage},
		"a sound of a form unknown":         {event.MsgAudio, "audio/x", transcode.Info{}, true, event.MsgAudio},
		"a sound that is a picture":         {event.MsgAudio, "audio/x", transcode.Info{Mimetype: "image/png"}, true, event.MsgFile},
		"a sound in a film's form":          {event.MsgAudio, "audio/mp4", transcode.Info{Mimetype: "video/mp4", HasAudio: true}, true, event.MsgAudio},
		"a file":                            {event.MsgFile, "x/y", transcode.Info{}, true, event.MsgFile},
	} {
		d := &described{content: &event.MessageEventContent{MsgType: x.told, Info: &event.FileInfo{MimeType: x.mimetype}}}
		d.correct(x.found, x.looked, &convert.IncomingMedia{Role: convert.RoleImage})
		if d.content.MsgType != x.want {
			t.Errorf("%s: %s", name, d.content.MsgType)
		}
	}
}

func TestAnImageThatNobodyKnowsArrivesAsAFile(t *testing.T) {
	w := newWorld(t)
	data := []byte("\x01\x02 nothing that is a picture")
	w.deliver("A", w.host.image(t, "/v/t/62.7118-24/1_n.enc?oh=1", "look", data))
	content := w.expect("m.room.message look")[0].Content
	if content["msgtype"] != "m.file" || string(w.file(content)) != string(data) {
		t.Errorf("it is shown as %v", content)
	}
}
