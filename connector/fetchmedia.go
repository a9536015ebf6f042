package connector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/convert"
	"postern/connector/killpoint"
	"postern/connector/matrixdurable"
	"postern/connector/media"
	"postern/connector/words"
)

// errMediaPanic: the bridge made a mistake with the file.
var errMediaPanic = errors.New("connector: attachment: panic")

// uploadTries is how often an upload is tried, and uploadPause the first wait between two tries, uploadPauseMax the longest.
const (
	uploadTries    = 5
	uploadPause    = 2 * time.Second
	uploadPauseMax = time.Minute
)

// fault says in a word why an attachment is missing. The words are stored.
type fault string

const (
	faultGone        fault = "gone"         // the media host does not have it
	faultBroken      fault = "broken"       // what came is not what the sender has sent
	faultTooLarge    fault = "too_large"    // over a limit of ours
	faultMatrixLarge fault = "matrix_large" // over the homeserver's limit
	faultRefused     fault = "refused"      // the homeserver does not take it
	faultStorage     fault = "storage"      // no place for it here
	faultAway        fault = "unreachable"  // the media host or the homeserver did not answer
	faultInternal    fault = "internal"     // a mistake of ours
	faultAsked       fault = "asked"        // the person has not accepted its sender yet
)

// mediaFault is why an attachment is missing.
func mediaFault(err error) fault {
	switch {
	case errors.Is(err, errMediaGone), errors.Is(err, errMediaPath), errors.Is(err, errMediaElsewhere):
		return faultGone
	case errors.Is(err, errMediaTooLarge):
		return faultTooLarge
	case errors.Is(err, errMediaLong), errors.Is(err, media.ErrLength), errors.Is(err, media.ErrHash), errors.Is(err, media.ErrMAC),
		errors.Is(err, media.ErrPadding), errors.Is(err, media.ErrPlainHash), errors.Is(err, media.ErrKind):
		return faultBroken
	case errors.Is(err, matrixdurable.ErrTooLargeForMatrix):
		return faultMatrixLarge
	case matrixdurable.Permanent(err):
		return faultRefused
	case errors.Is(err, errSpool):
		return faultStorage
	case errors.Is(err, errMediaPanic), errors.Is(err, errNotMedia):
		return faultInternal
	}
	return faultAway
}

// words say to a person why an attachment is missing.
func (f fault) words(w words.Words, gatekeeper string) string {
	switch f {
	case faultGone:
		return w.Text("fault.gone", "gatekeeper", gatekeeper)
	case faultBroken:
		return w.Text("fault.broken", "gatekeeper", gatekeeper)
	case faultTooLarge:
		return w.Text("fault.too-large")
	case faultMatrixLarge:
		return w.Text("fault.matrix-large")
	case faultRefused:
		return w.Text("fault.refused")
	case faultStorage:
		return w.Text("fault.storage")
	case faultInternal:
		return w.Text("fault.internal")
	}
	return w.Text("fault.late")
}

// errMediaTooLarge: the attachment is over a limit of ours.
var errMediaTooLarge = errors.New("connector: attachment: over the limit")

// mediaLimit is the most bytes of an attachment that are taken.
func (c *client) mediaLimit(role convert.Role) int64 {
	limits := c.profile.Media
	limit := limits.MaxDocument
	switch role.MediaKind() {
	case media.Image:
		limit = limits.MaxImage
	case media.Video:
		limit = limits.MaxVideo
	case media.Audio:
		limit = limits.MaxAudio
	}
	if most := c.connector.Config.Media.maxDownload; most > 0 {
		limit = min(limit, most)
	}
	return limit
}

// fetchMedia brings an attachment into the homeserver: encrypted to the spool folder, checked, decrypted to a second file there, looked at,
// uploaded. Both files are gone when it returns. The content is that of the event that shows it.
func (c *client) fetchMedia(ctx context.Context, m *convert.IncomingMedia, room id.RoomID, ghost id.UserID) (*event.MessageEventContent, error) {
	limit := c.mediaLimit(m.Role)
	switch most := c.connector.uploads.Limit(); {
	case m.Media.Length > limit:
		return nil, errMediaTooLarge
	case most > 0 && m.Media.Length > most:
		return nil, matrixdurable.ErrTooLargeForMatrix
	case m.Media.Length >= 0:
		limit = m.Media.Length
	}
	plain, size, err := c.download(ctx, m, media.EncryptedLength(limit))
	if err != nil {
		return nil, err
	}
	defer plain.remove()
	killpoint.Hit(killpoint.InFileOpened)
	content := c.describe(ctx, plain, size, m)
	if err = c.uploadThumbnail(ctx, room, ghost, content); err != nil {
		return nil, err
	}
	uploaded, err := c.connector.upload(ctx, room, ghost, plain, size, content.content.Info.MimeType, m.Name, true)
	if err != nil {
		return nil, err
	}
	killpoint.Hit(killpoint.InFileUploaded)
	content.content.URL, content.content.File = uploaded.URL, uploaded.File
	return content.content, nil
}

// spooled is a temporary file in the spool folder.
type spooled struct{ *os.File }

// newSpooled makes an empty temporary file that nobody else can read.
func (c *Connector) newSpooled() (*spooled, error) {
	f, err := os.CreateTemp(c.spool, "in-*")
	if err != nil {
		return nil, spoolError(err)
	}
	return &spooled{f}, nil
}

// remove ends the file.
func (s *spooled) remove() {
	if s == nil {
		return
	}
	_ = s.Close()           // nothing of it is needed
	_ = os.Remove(s.Name()) // what is left is swept at the next start
}

// empty makes the file as if new.
func (s *spooled) empty() error {
	if err := s.Truncate(0); err != nil {
		return spoolError(err)
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		return spoolError(err)
	}
	return nil
}

// spoolWriter tells failures of the spool folder from others.
type spoolWriter struct{ to io.Writer }

// Write implements io.Writer.
func (w spoolWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		err = spoolError(err)
	}
	return n, err
}

// download fetches and decrypts an attachment of at most limit bytes of ciphertext.
func (c *client) download(ctx context.Context, m *convert.IncomingMedia, limit int64) (*spooled, int64, error) {
	sealed, err := c.connector.newSpooled()
	if err != nil {
		return nil, 0, err
	}
	defer sealed.remove()
	killpoint.Hit(killpoint.InFileWanted)
	n, err := c.mediaHost.download(ctx, m.DirectPath, limit, func() (io.Writer, error) { return sealed, sealed.empty() })
	c.connector.moved("fetched", n, err)
	if errors.Is(err, errMediaLong) && m.Media.Length < 0 {
		return nil, 0, errMediaTooLarge
	} else if err != nil {
		return nil, 0, err
	}
	killpoint.Hit(killpoint.InFileFetched)
	plain, err := c.connector.newSpooled()
	if err != nil {
		return nil, 0, err
	}
	if err = media.Decrypt(spoolWriter{plain}, sealed, n, m.Media); err != nil {
		plain.remove()
		return nil, 0, err
	}
	size, err := plain.Seek(0, io.SeekCurrent)
	if err != nil {
		plain.remove()
		return nil, 0, spoolError(err)
	}
	return plain, size, nil
}

// upload uploads a file into the homeserver, encrypted if the room is. patient: a homeserver that is away is waited for, however long it takes;
// one that answers that it cannot, is not.
func (c *Connector) upload(ctx context.Context, room id.RoomID, as id.UserID, body io.ReadSeeker, size int64, mimetype, name string, patient bool) (matrixdurable.Uploaded, error) {
	encrypt, err := c.uploads.Encrypted(ctx, room)
	if err != nil {
		return matrixdurable.Uploaded{}, err
	}
	pause, try := c.uploadPause, 0
	for {
		if _, err = body.Seek(0, io.SeekStart); err != nil {
			return matrixdurable.Uploaded{}, spoolError(err)
		}
		uploaded, err := c.uploads.Upload(ctx, as, matrixdurable.File{
			Body: body, Size: size, Mimetype: mimetype, Name: name, Encrypt: encrypt,
		})
		c.moved("uploaded", size, err)
		if !patient || !matrixdurable.Away(err) {
			try++
		}
		if err == nil || try == uploadTries || matrixdurable.Permanent(err) || errors.Is(err, matrixdurable.ErrTooLargeForMatrix) || ctx.Err() != nil {
			return uploaded, err
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, uploadPauseMax)
		case <-ctx.Done():
			return matrixdurable.Uploaded{}, context.Cause(ctx)
		}
	}
}

// uploadBytes is upload for what is in memory.
func (c *Connector) uploadBytes(ctx context.Context, room id.RoomID, as id.UserID, data []byte, mimetype, name string, patient bool) (matrixdurable.Uploaded, error) {
	return c.upload(ctx, room, as, bytes.NewReader(data), int64(len(data)), mimetype, name, patient)
}

// uploadThumbnail uploads the small picture of a file, if there is one. A homeserver that does not take it gets the file without.
func (c *client) uploadThumbnail(ctx context.Context, room id.RoomID, ghost id.UserID, d *described) error {
	if d.thumbnail == nil {
		return nil
	}
	uploaded, err := c.connector.uploadBytes(ctx, room, ghost, d.thumbnail, "image/jpeg", "thumbnail.jpg", true)
	switch {
	case err == nil:
	case matrixdurable.Permanent(err), errors.Is(err, matrixdurable.ErrTooLargeForMatrix):
		return nil
	default:
		return fmt.Errorf("connector: thumbnail: %w", err)
	}
	info := d.content.Info
	info.ThumbnailURL, info.ThumbnailFile = uploaded.URL, uploaded.File
	info.ThumbnailInfo = &event.FileInfo{MimeType: "image/jpeg", Size: len(d.thumbnail), Width: d.thumbnailWidth, Height: d.thumbnailHeight}
	return nil
}
