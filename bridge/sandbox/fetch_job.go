package sandbox

import (
	"context"
	"errors"
	"os"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/media"
)

// fetchJob is one attachment of a partner that a phone fetches.
type fetchJob struct {
	url   string
	d     media.Descriptor
	limit int64 // most bytes of the encrypted file
}

// fetched is what came of it: a decrypted file in the depot, or a word that says why there is none.
type fetched struct {
	name     string
	size     int64
	word     string
	oddities []oddity
}

// fetchJob makes the job for an event that waits; word is why there is nothing to fetch.
func (c change) fetchJob(s *Server, w *waiting) (job fetchJob, word string) {
	h := c.users[w.Phone].phone.heard[heardKey{w.Account, w.Body.ID}]
	if h == nil || w.Body.Media == nil {
		return job, wordGone
	}
	msg := &waE2E.Message{}
	if proto.Unmarshal(h.Plain, msg) != nil {
		return job, wordGone
	}
	att := attachmentOf(msg)
	if att == nil {
		return job, wordGone
	}
	a := c.accountOf(w)
	integrator, reference, ok := relayPath(s.prof.MediaPathProduct, att.described.GetDirectPath())
	in := c.integrators[integrator]
	if !ok || in == nil || integrator != a.Integrator {
		return job, wordPath
	}
	job = fetchJob{url: in.MediaBase + "/" + reference, d: att.descriptor()}
	most := s.maxPlain(att.kind)
	if job.d.Length > most {
		return job, wordLength
	}
	job.limit = media.EncryptedLength(most)
	return job, ""
}

// maxPlain is how many bytes of plaintext a kind of attachment has at most.
func (s *Server) maxPlain(kind media.Kind) int64 {
	m := s.prof.Media
	switch kind {
	case media.Image:
		return m.MaxImage
	case media.Video:
		return m.MaxVideo
	case media.Audio:
		return m.MaxAudio
	default:
		return m.MaxDocument
	}
}

// run fetches, verifies and decrypts. It needs the disk twice the size of the file for a moment, and memory for
// a few buffers.
func (j fetchJob) run(s *Server) fetched {
	spool, err := s.depot.create()
	if err != nil {
		s.log.Error().Err(err).Msg("no file for media")
		return fetched{word: wordDisk}
	}
	defer s.depot.discard(spool)
	d := &download{s: s, url: j.url, want: -1, limit: j.limit, spool: spool}
	if j.d.Length >= 0 {
		d.want = media.EncryptedLength(j.d.Length)
	}
	bytes := max(d.want, 0)
	if d.want < 0 {
		bytes = d.limit
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.fetch.overall+time.Duration(bytes/s.fetch.slowest)*time.Second)
	defer cancel()
	d.ctx = ctx
	if err := d.run(); err != nil {
		word := wordUnreachable
		var fe *fetchError
		if errors.As(err, &fe) {
			word = fe.word
		}
		return fetched{word: word, oddities: d.oddities}
	}
	out := j.decrypt(s, d, spool)
	out.oddities = d.oddities
	return out
}

// decrypt verifies what was fetched and makes the file that is kept.
func (j fetchJob) decrypt(s *Server, d *download, spool *os.File) fetched {
	plain, err := s.depot.create()
	if err != nil {
		s.log.Error().Err(err).Msg("no file for media")
		return fetched{word: wordDisk}
	}
	if err := media.Decrypt(plain, spool, d.size, j.d); err != nil {
		s.depot.discard(plain)
		for _, known := range []struct {
			err        error
			word, text string
		}{
			{media.ErrLength, wordLength, "media whose length is not that of its plaintext"},
			{media.ErrHash, wordHash, "media whose fileEncSHA256 is another"},
			{media.ErrMAC, wordMAC, "media whose MAC is wrong"},
			{media.ErrPadding, wordPadding, "media whose padding is wrong"},
			{media.ErrPlainHash, wordHash, "media whose fileSHA256 is another"},
		} {
			if errors.Is(err, known.err) {
				d.odd("7.1", known.text)
				return fetched{word: known.word}
			}
		}
		s.log.Error().Err(err).Msg("media could not be decrypted")
		return fetched{word: wordDisk}
	}
	info, err := plain.Stat()
	if err != nil {
		s.depot.discard(plain)
		return fetched{word: wordDisk}
	}
	name, err := s.depot.keep(plain)
	if err != nil {
		s.log.Error().Err(err).Msg("media could not be kept")
		return fetched{word: wordDisk}
	}
	return fetched{name: name, size: info.Size()}
}
