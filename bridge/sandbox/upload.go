package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	keptUploads = 100       // files that wait to be sent
	keepUpload  = time.Hour // and how long they do
)

// uploads are files that calls will send as media. They are not part of the state: a restart forgets them.
type uploads struct {
	mu   sync.Mutex
	list []upload
}

type upload struct {
	id, path string
	at       time.Time
}

// add takes a complete file and gives it a name.
func (u *uploads) add(path string, now time.Time) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.list) > 0 && (len(u.list) >= keptUploads || now.Sub(u.list[0].at) > keepUpload) {
		os.Remove(u.list[0].path)
		u.list = u.list[1:]
	}
	id := newID("", 16)
	u.list = append(u.list, upload{id, path, now})
	return id
}

// open opens the file with that name.
func (u *uploads) open(id string) (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, x := range u.list {
		if x.id == id {
			return os.Open(x.path)
		}
	}
	return nil, refusal(404, "there is no upload %q any more", id)
}

// serveUpload is POST /v1/uploads: it streams the body into a file.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request) {
	id, size, err := s.takeUpload(w, r)
	var no *refused
	switch {
	case errors.As(err, &no):
		writeJSON(w, no.status, map[string]string{"error": no.sentence})
	case err != nil:
		s.log.Error().Err(err).Msg("an upload failed")
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "the sandbox could not keep the file"})
	default:
		writeJSON(w, http.StatusOK, map[string]any{"upload": id, "bytes": size})
	}
}

func (s *Server) takeUpload(w http.ResponseWriter, r *http.Request) (id string, size int64, err error) {
	if fromWebPage(r) {
		return "", 0, refusal(http.StatusForbidden, "the control API is not for web pages")
	}
	f, err := s.depot.create()
	if err != nil {
		return "", 0, err
	}
	body := &readErrors{r: http.MaxBytesReader(w, r.Body, s.prof.Media.MaxDocument)}
	if size, err = io.Copy(f, body); err != nil {
		s.depot.discard(f)
		if body.err != nil {
			err = refusal(http.StatusBadRequest, "the body is longer than %d bytes or was cut off", s.prof.Media.MaxDocument)
		}
		return "", 0, err
	}
	if err = f.Close(); err != nil {
		s.depot.discard(f)
		return "", 0, fmt.Errorf("close upload: %w", err)
	}
	return s.uploads.add(f.Name(), s.now()), size, nil
}

// readErrors remembers that reading failed, and not writing.
type readErrors struct {
	r   io.Reader
	err error
}

func (e *readErrors) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}
