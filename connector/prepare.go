package connector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/convert"
	"postern/connector/interop"
	"postern/connector/killpoint"
	"postern/connector/media"
	"postern/connector/mediastore"
	"postern/connector/transcode"
)

const (
	// progressEvery is how often the core is told that an attachment moves.
	progressEvery = time.Second
	// convertPatience bounds one conversion, and looking at what came out of it.
	convertPatience = 10 * time.Minute
	// anyType is the type of a file that nobody knows better.
	anyType = "application/octet-stream"
	// maxThumbnailFile is the most bytes of a thumbnail that an event brings along.
	maxThumbnailFile = 4 << 20
	// thumbnailPatience bounds fetching that.
	thumbnailPatience = 30 * time.Second
	// phoneThumbnailSide is the longer side of the small picture in a message, in pixels.
	phoneThumbnailSide = 160
	// copyBuffer is what a file is spooled through.
	copyBuffer = 32 << 10
)

// Prepare implements interop.Upcalls: an attachment is fetched from the homeserver, made showable if it has to be, and put into the media
// store, and the message for the phone is made of it. What can go as it is streams through in one pass; everything else goes through
// temporary files in the spool folder. Nothing of it can be fetched, and nothing counts, before the transaction that stores the message.
func (c *client) Prepare(ctx context.Context, p *interop.Preparing) (*interop.Prepared, error) {
	r, err := readRecipe(p.Recipe)
	if err != nil {
		return nil, &interop.Unsendable{Reason: interop.ReasonInternal, Err: err}
	}
	m := &move{client: c, Attachment: r.Attachment, progress: throttled(progressEvery, p.Progress)}
	object, err := m.run(ctx)
	if err != nil {
		return nil, c.unsendable(err)
	}
	msg, mediaType := convert.MediaMessage(m.made)
	parts, fallbacks, err := c.payloads([]*waE2E.Message{msg}, r.Quote)
	if err != nil {
		c.connector.media.Discard(ctx, object)
		return nil, &interop.Unsendable{Reason: interop.ReasonInternal, Err: err}
	}
	done := &interop.Prepared{
		Plaintext: parts[0], Type: "media", MediaType: mediaType,
		Also: func(ctx context.Context) error { return c.connector.media.Commit(ctx, object) },
	}
	if len(fallbacks) > 0 {
		done.Fallback = fallbacks[0]
	}
	return done, nil
}

// unsendable sorts what can go wrong into what is final and what is worth another try.
func (c *client) unsendable(err error) error {
	for _, final := range []struct {
		cause  error
		reason interop.Reason
	}{
		{errGone, interop.ReasonMediaGone}, {errOverLimit, interop.ReasonTooLarge}, {mediastore.ErrQuota, interop.ReasonQuota},
		{errBadFile, interop.ReasonMediaOther}, {errFetchRefused, interop.ReasonMedia},
	} {
		if errors.Is(err, final.cause) {
			return &interop.Unsendable{Reason: final.reason, Err: err}
		}
	}
	return err
}

// move is one attachment on its way from the homeserver to the media store.
type move struct {
	client *client
	convert.Attachment
	progress func()
	made     convert.Made
}

// run moves the attachment and fills made.
func (m *move) run(ctx context.Context) (*mediastore.Object, error) {
	c := m.client
	stream, err := c.connector.fetch.open(ctx, source{m.URI, m.File}, c.attachmentLimit(m.Role), m.progress)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	killpoint.Hit(killpoint.OutFileOpened)
	body := bufio.NewReaderSize(stream, transcode.SniffBytes)
	head, err := body.Peek(transcode.SniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m.made = convert.Made{
		Role: m.Role, Name: m.Name, Caption: m.Caption, Width: m.Width, Height: m.Height, Duration: m.Duration, Waveform: m.Waveform,
		KeyTime: time.Now(),
	}
	if m.passes(transcode.Sniff(head)) {
		return m.stream(ctx, body)
	}
	return m.spool(ctx, body)
}

// passes says whether the attachment goes as it is: its content is what phones take, and the event says all there is to say of it. made
// gets its type.
func (m *move) passes(found string) bool {
	known := m.client.profile.Media
	m.made.Mimetype = found
	switch m.Role {
	case convert.RoleDocument:
		// Files are not touched, whatever is in them: who sends one wants that one to arrive.
		switch {
		case m.Mimetype != "":
			m.made.Mimetype = m.Mimetype
		case found == "":
			m.made.Mimetype = anyType
		}
		return true
	case convert.RoleVideo, convert.RoleGIF:
		return slices.Contains(known.VideoTypes, found) && m.Width > 0 && m.Height > 0 && m.Duration > 0 && m.thumbnail().location() != ""
	case convert.RoleVoice:
		m.made.Mimetype = known.VoiceType
		return isVoice(found, known.VoiceType) && m.Duration > 0 && len(m.Waveform) > 0
	case convert.RoleAudio:
		return slices.Contains(known.AudioTypes, found) && m.Duration > 0
	}
	return false
}

// isVoice says whether a file that was looked at is of the type of voice messages.
func isVoice(found, voice string) bool {
	return strings.ReplaceAll(found, " ", "") == strings.ReplaceAll(voice, " ", "")
}

// thumbnail is where the event's own small picture is.
func (m *move) thumbnail() source { return source{m.ThumbnailURI, m.ThumbnailFile} }

// stream puts the attachment into the store in one pass.
func (m *move) stream(ctx context.Context, body io.Reader) (*mediastore.Object, error) {
	if m.Role != convert.RoleDocument {
		body = transcode.Scrub(m.made.Mimetype, body)
	}
	object, err := m.store(ctx, body)
	if err != nil {
		return nil, err
	}
	m.made.Thumbnail = m.broughtAlong(ctx)
	return object, nil
}

// store encrypts what body gives into the media store.
func (m *move) store(ctx context.Context, body io.Reader) (*mediastore.Object, error) {
	c := m.client
	row := c.current()
	quiet := func() {}
	object, err := c.connector.media.Put(ctx, row.ID, func(w io.Writer) (err error) {
		m.made.Media, err = media.Encrypt(w, body, m.made.Role.MediaKind(), media.NewKey())
		quiet = ticking(m.progress)
		return err
	})
	quiet()
	if err != nil {
		c.connector.moved("stored", 0, err)
		return nil, err
	}
	c.connector.moved("stored", object.Size, nil)
	m.made.DirectPath = fmt.Sprintf("/interop/%s/download/%d/%s/", c.profile.MediaPathProduct, row.Integrator, object.Ref)
	return object, nil
}

// ticking calls progress until it is told to be quiet. It stands for the end of a Put, which says nothing while the file goes to the disk or
// to an object store; the store ends by itself what does not move there.
func ticking(progress func()) (quiet func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				progress()
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// spool writes the attachment to a temporary file, makes it showable, finds out what there is to say of it, and puts it into the store.
func (m *move) spool(ctx context.Context, body io.Reader) (*mediastore.Object, error) {
	folder, err := os.MkdirTemp(m.client.connector.spool, "outgoing-")
	if err != nil {
		return nil, spoolError(err)
	}
	defer func() {
		if os.RemoveAll(folder) != nil {
			m.client.log.Warn().Msg("Could not remove temporary files; they are swept at the next start")
		}
	}()
	path := filepath.Join(folder, "received")
	if err = spoolTo(path, body); err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.OutFileSpooled)
	if path, err = m.showable(ctx, path); err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.OutFileConverted)
	file, err := os.Open(path)
	if err != nil {
		return nil, spoolError(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, spoolError(err)
	} else if info.Size() > m.client.attachmentLimit(m.made.Role) {
		return nil, errOverLimit
	}
	// Also what goes as a document only because it cannot be shown: who sends a picture does not mean to say where it was taken.
	return m.store(ctx, transcode.Scrub(m.made.Mimetype, reporting{file, m.progress}))
}

// showable makes a file one that a phone shows, and completes made with what it turns out to be. A file that cannot be made showable goes
// as a document.
func (m *move) showable(ctx context.Context, path string) (string, error) {
	c := m.client
	tools := c.connector.transcode
	shown, err := m.converted(ctx, path)
	if err != nil {
		return "", fmt.Errorf("connector: prepare: %w", err)
	}
	c.connector.sayOnce(*c.log, shown.Fallback)
	ctx, cancel := context.WithTimeout(ctx, convertPatience)
	defer cancel()
	m.made.Role, m.made.Mimetype = convert.Role(shown.Role), shown.Mimetype
	if m.made.Mimetype == "" {
		m.made.Mimetype = anyType
	}
	if info := shown.Info; info.Width > 0 && info.Height > 0 {
		m.made.Width, m.made.Height = info.Width, info.Height
	}
	if shown.Info.Duration > 0 {
		m.made.Duration = shown.Info.Duration
	}
	if m.made.Role == convert.RoleVoice {
		if waveform, err := tools.Waveform(ctx, shown.Path, c.profile.Media.WaveformSamples); err == nil && len(waveform) > 0 {
			m.made.Waveform = waveform
		}
	}
	switch m.made.Role {
	case convert.RoleImage, convert.RoleSticker, convert.RoleVideo, convert.RoleGIF:
		picture, _, _, err := tools.Thumbnail(ctx, shown.Path, c.profile.Media.MaxThumbnail, phoneThumbnailSide)
		if err != nil || len(picture) == 0 {
			picture = m.broughtAlong(ctx)
		}
		m.made.Thumbnail = picture
	}
	return shown.Path, nil
}

// converted makes a file one that a phone shows. What takes too long goes as it is, as a document.
func (m *move) converted(ctx context.Context, path string) (transcode.Made, error) {
	c := m.client
	working, cancel := context.WithTimeout(ctx, convertPatience)
	defer cancel()
	made, err := c.connector.transcode.ForPhone(working, path, transcode.Role(m.Role), c.profile.Media, m.progress)
	if err == nil || working.Err() == nil || ctx.Err() != nil {
		return made, err
	}
	made, err = c.connector.transcode.ForPhone(ctx, path, transcode.Document, c.profile.Media, m.progress)
	made.Fallback = &transcode.Fallback{Reason: transcode.ErrConvert}
	return made, err
}

// broughtAlong is the small picture that the event has with it, made as phones want it; nil if there is none or it cannot be had. An
// attachment is never held up by it.
func (m *move) broughtAlong(ctx context.Context) []byte {
	c := m.client
	from := m.thumbnail()
	if from.location() == "" || m.made.Role == convert.RoleVoice || m.made.Role == convert.RoleAudio {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, thumbnailPatience)
	defer cancel()
	picture, err := m.smallPicture(ctx, from)
	if err != nil {
		c.log.Debug().Err(err).Msg("An attachment goes without its thumbnail")
	}
	return picture
}

// smallPicture fetches an image and makes it as small as phones want it.
func (m *move) smallPicture(ctx context.Context, from source) ([]byte, error) {
	c := m.client
	stream, err := c.connector.fetch.open(ctx, from, maxThumbnailFile, m.progress)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	folder, err := os.MkdirTemp(c.connector.spool, "thumbnail-")
	if err != nil {
		return nil, spoolError(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // what is left is swept at the next start
	path := filepath.Join(folder, "received")
	if err = spoolTo(path, stream); err != nil {
		return nil, err
	}
	picture, _, _, err := c.connector.transcode.Thumbnail(ctx, path, c.profile.Media.MaxThumbnail, phoneThumbnailSide)
	return picture, err
}

// spoolTo writes a file, and nothing else into its error than what the stream or the disk say.
func spoolTo(path string, body io.Reader) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return spoolError(err)
	}
	buffer := make([]byte, copyBuffer)
	for {
		n, err := body.Read(buffer)
		if _, writeErr := file.Write(buffer[:n]); writeErr != nil {
			_ = file.Close()
			return spoolError(writeErr)
		}
		if err == io.EOF {
			break
		} else if err != nil {
			_ = file.Close()
			return err
		}
	}
	if err := file.Close(); err != nil {
		return spoolError(err)
	}
	return nil
}

// reporting calls progress for each piece that is read.
type reporting struct {
	from     io.Reader
	progress func()
}

// Read implements io.Reader.
func (r reporting) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.progress()
	return n, err
}

// sayOnce says the first time in the life of the process that a file goes as a document, and why.
func (c *Connector) sayOnce(log zerolog.Logger, f *transcode.Fallback) {
	if f == nil {
		return
	}
	c.fellBack.Do(func() {
		log.Warn().AnErr("reason", f.Reason).Msg("An attachment goes as a document, since it cannot be made showable; this is said only once")
	})
}
