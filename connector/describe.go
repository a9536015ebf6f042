package connector

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"

	"postern/connector/convert"
	"postern/connector/transcode"
)

const (
	// thumbnailSide and thumbnailBytes bound the small picture of an attachment; what is no larger itself gets none.
	thumbnailSide  = 800
	thumbnailBytes = 256 << 10
	// describeTime bounds the look at a file. A file that nobody can look at is shown as the sender described it.
	describeTime = 45 * time.Second
)

// described is an attachment's content with what was found out about the file.
type described struct {
	content *event.MessageEventContent
	// thumbnail is a JPEG, nil for none.
	thumbnail                       []byte
	thumbnailWidth, thumbnailHeight int
}

// describe makes the content of an attachment's event from what the sender told and what the file is. What the sender told is
// shown only where the file itself says nothing.
func (c *client) describe(ctx context.Context, plain *spooled, size int64, m *convert.IncomingMedia) *described {
	ctx, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	content := clone(m.Content)
	info := *m.Content.Info
	content.Info = &info
	info.Size = int(size)
	d := &described{content: content}
	found, err := c.connector.transcode.Probe(ctx, plain.Name())
	if err != nil && !errors.Is(err, transcode.ErrNoTool) {
		zerolog.Ctx(ctx).Debug().Err(err).Str("role", string(m.Role)).Msg("An attachment cannot be looked into")
	}
	d.correct(found, err == nil || errors.Is(err, transcode.ErrNoTool), m)
	if strings.HasPrefix(info.MimeType, "image/") || strings.HasPrefix(info.MimeType, "video/") {
		d.picture(ctx, c.connector.transcode, plain.Name(), m)
	}
	if m.Role == convert.RoleVoice && content.MSC1767Audio != nil && len(content.MSC1767Audio.Waveform) == 0 {
		if waveform, err := c.connector.transcode.Waveform(ctx, plain.Name(), c.profile.Media.WaveformSamples); err == nil {
			content.MSC1767Audio = &event.MSC1767Audio{Duration: info.Duration, Waveform: loudness(waveform)}
		}
	}
	return d
}

// correct puts what the file is in place of what was told. looked says that the file could be looked into.
func (d *described) correct(found transcode.Info, looked bool, m *convert.IncomingMedia) {
	content, info := d.content, d.content.Info
	if found.Mimetype != "" && m.Role != convert.RoleDocument {
		// A type with its codec says more than the same type without.
		if told, _, _ := strings.Cut(info.MimeType, ";"); told != found.Mimetype {
			info.MimeType = found.Mimetype
		}
	}
	if found.Width > 0 && found.Height > 0 {
		info.Width, info.Height = found.Width, found.Height
	}
	if found.Duration > 0 {
		info.Duration = int(found.Duration.Milliseconds())
		if content.MSC1767Audio != nil {
			audio := *content.MSC1767Audio
			audio.Duration = info.Duration
			content.MSC1767Audio = &audio
		}
	}
	d.form(found, looked)
}

// form makes a file of what is not what the event says. Clients show a picture or play a video by that: one that is neither is a file, and so is
// one of a form that nobody knows. Sounds have more forms than can be told by their beginning.
func (d *described) form(found transcode.Info, looked bool) {
	content, info := d.content, d.content.Info
	wanted := map[event.MessageType]string{event.MsgImage: "image/", event.MsgVideo: "video/", event.MsgAudio: "audio/"}[content.MsgType]
	other := found.Mimetype != "" && !strings.HasPrefix(info.MimeType, wanted) && !(wanted == "audio/" && found.HasAudio && !found.HasVideo)
	strange := looked && found.Mimetype == "" && wanted != "audio/"
	if wanted != "" && (other || strange) {
		content.MsgType, content.MSC3245Voice, content.MSC1767Audio = event.MsgFile, nil, nil
	}
}

// loudness puts values from 0 to 100 into those that Matrix clients know, from 0 to 1024 (MSC3246).
func loudness(waveform []byte) []int {
	values := make([]int, len(waveform))
	for i, v := range waveform {
		values[i] = int(min(v, 100)) * 1024 / 100
	}
	return values
}

// picture adds the blurhash and the small picture.
func (d *described) picture(ctx context.Context, tool *transcode.Tool, path string, m *convert.IncomingMedia) {
	info := d.content.Info
	if hash, err := tool.Blurhash(ctx, path); err == nil {
		info.AnoaBlurhash = hash
	}
	small := strings.HasPrefix(info.MimeType, "image/") && info.Width <= thumbnailSide && info.Height <= thumbnailSide && info.Size <= thumbnailBytes
	if small {
		return
	}
	var err error
	if d.thumbnail, d.thumbnailWidth, d.thumbnailHeight, err = tool.Thumbnail(ctx, path, thumbnailBytes, thumbnailSide); err == nil && len(d.thumbnail) > 0 {
		return
	}
	d.thumbnail = nil
	d.inline(m.Thumbnail)
}

// inline takes the small picture that came with the message, if it is one.
func (d *described) inline(data []byte) {
	if len(data) == 0 {
		return
	}
	cfg, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil || cfg.Width <= 0 || cfg.Height <= 0 {
		return
	}
	d.thumbnail, d.thumbnailWidth, d.thumbnailHeight = data, cfg.Width, cfg.Height
}
