package connector

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// mediaServer is a homeserver's media repository with what handle answers, and a fetcher for it.
func mediaServer(t *testing.T, handle http.HandlerFunc) *fetcher {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("%s without the token", r.URL.Path)
		}
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	bot, err := mautrix.NewClient(server.URL, "@bot:example.org", "token")
	if err != nil {
		t.Fatal(err)
	}
	return newFetcher(func() *mautrix.Client { return bot }, http.DefaultTransport)
}

// serve answers with a file.
func serve(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
}

// refuseWith answers with an error of the homeserver's.
func refuseWith(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"errcode":"`+code+`","error":"no"}`)
	}
}

func someBytes(t *testing.T, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// sealed encrypts a file as Matrix clients do.
func sealed(data []byte) ([]byte, *event.EncryptedFileInfo) {
	made := attachment.NewEncryptedFile()
	ciphertext := bytes.Clone(data)
	made.EncryptInPlace(ciphertext)
	// What an event says, without what the library remembers of its own making.
	file := attachment.EncryptedFile{Key: made.Key, InitVector: made.InitVector, Hashes: made.Hashes, Version: made.Version}
	return ciphertext, &event.EncryptedFileInfo{EncryptedFile: file, URL: "mxc://example.org/sealed"}
}

// fetchAll fetches a file of at most limit bytes.
func fetchAll(ctx context.Context, f *fetcher, s source, limit int64) ([]byte, error) {
	stream, err := f.open(ctx, s, limit, nil)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return io.ReadAll(stream)
}

const someURI id.ContentURIString = "mxc://example.org/abc"

func TestAFileIsFetchedWholeAndDecryptedIfItHasToBe(t *testing.T) {
	data := someBytes(t, 300_000)
	ciphertext, file := sealed(data)
	var told int
	f := mediaServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/_matrix/client/v1/media/download/example.org/abc":
			serve(data)(w, r)
		case "/_matrix/client/v1/media/download/example.org/sealed":
			serve(ciphertext)(w, r)
		default:
			t.Errorf("asked for %s", r.URL.Path)
		}
	})
	for name, s := range map[string]source{"in the clear": {uri: someURI}, "encrypted": {someURI, file}} {
		stream, err := f.open(t.Context(), s, int64(len(data)), func() { told++ })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(stream)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if _, err = stream.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: after the end: %v", name, err)
		}
		if err = stream.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	if told < 2 {
		t.Errorf("progress was told %d times", told)
	}
}

func TestAHomeserverWithoutTheNewEndpointIsAskedAtTheOldOne(t *testing.T) {
	f := mediaServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_matrix/media/v3/download/example.org/abc" {
			serve([]byte("old"))(w, r)
			return
		}
		refuseWith(404, "M_UNRECOGNIZED")(w, r)
	})
	if got, err := fetchAll(t.Context(), f, source{uri: someURI}, 10); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatCannotBeFetchedIsToldApart(t *testing.T) {
	data := someBytes(t, 1000)
	ciphertext, file := sealed(data)
	ciphertext[500] ^= 1
	chunked := func(w http.ResponseWriter, _ *http.Request) {
		for range 10 { // without a length
			_, _ = w.Write(data)
			_ = http.NewResponseController(w).Flush()
		}
	}
	short := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2000")
		_, _ = w.Write(data)
	}
	wrong := *file
	wrong.Version = "v9"
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		from   source
		want   error // nil: any that is worth another try
	}{
		"not there":                          {refuseWith(404, "M_NOT_FOUND"), source{uri: someURI}, errGone},
		"gone":                               {refuseWith(410, "M_NOT_FOUND"), source{uri: someURI}, errGone},
		"forbidden":                          {refuseWith(403, "M_FORBIDDEN"), source{uri: someURI}, errGone},
		"neither endpoint":                   {refuseWith(404, "M_UNRECOGNIZED"), source{uri: someURI}, errFetchRefused},
		"a bad request":                      {refuseWith(400, "M_INVALID_PARAM"), source{uri: someURI}, errFetchRefused},
		"no address of a file":               {serve(data), source{uri: "https://example.org/x"}, errFetchRefused},
		"nothing at all":                     {serve(data), source{}, errFetchRefused},
		"a fault of the homeserver":          {refuseWith(502, "M_UNKNOWN"), source{uri: someURI}, nil},
		"not uploaded yet":                   {refuseWith(504, "M_NOT_YET_UPLOADED"), source{uri: someURI}, nil},
		"too many requests":                  {refuseWith(429, "M_LIMIT_EXCEEDED"), source{uri: someURI}, nil},
		"a length over the limit":            {serve(someBytes(t, 1001)), source{uri: someURI}, errOverLimit},
		"more than the limit":                {chunked, source{uri: someURI}, errOverLimit},
		"less than announced":                {short, source{uri: someURI}, nil},
		"an encrypted file that was changed": {serve(ciphertext), source{file: file}, errBadFile},
		"an encryption that nobody knows":    {serve(ciphertext), source{file: &wrong}, errBadFile},
	} {
		limit := int64(1000)
		if name == "less than announced" {
			limit = 2000
		}
		f := mediaServer(t, c.handle)
		_, err := fetchAll(t.Context(), f, c.from, limit)
		final := errors.Is(err, errGone) || errors.Is(err, errFetchRefused) || errors.Is(err, errOverLimit) || errors.Is(err, errBadFile)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && final {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "abc") {
			t.Errorf("%s: the error says where: %v", name, err)
		}
	}
}

func TestAHomeserverThatCannotBeReachedIsNotNamed(t *testing.T) {
	f := mediaServer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := fetchAll(t.Context(), f, source{uri: someURI}, 10); !errors.Is(err, errNoAnswer) {
		t.Errorf("%v", err)
	}
}

func TestAFetchEndsWhenNothingComesAndNotBefore(t *testing.T) {
	for name, begin := range map[string]string{"before the first byte": "", "in the middle": "some"} {
		release := make(chan struct{})
		f := mediaServer(t, func(w http.ResponseWriter, r *http.Request) {
			if begin != "" {
				_, _ = io.WriteString(w, begin)
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
		f.stall = 20 * time.Millisecond
		if _, err := fetchAll(t.Context(), f, source{uri: someURI}, 10); !errors.Is(err, errStalled) {
			t.Errorf("%s: %v", name, err)
		}
		close(release)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := mediaServer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := fetchAll(ctx, f, source{uri: someURI}, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("a fetch that nobody wants any more: %v", err)
	}
}

func TestProgressIsToldNoMoreOftenThanWanted(t *testing.T) {
	told := 0
	report := throttled(time.Hour, func() { told++ })
	for range 1000 {
		report()
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	throttled(time.Second, nil)() // nobody wants to know
}
