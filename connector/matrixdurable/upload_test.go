package matrixdurable

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/appservice"
	"maunium.net/go/mautrix/bridgev2/matrix"
	"maunium.net/go/mautrix/event"
)

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// uploadsTo makes Uploads whose homeserver is a function.
func uploadsTo(t *testing.T, serve http.HandlerFunc) *Uploads {
	t.Helper()
	as := appservice.Create()
	as.HomeserverDomain, as.Registration = "test", &appservice.Registration{AppToken: "as-token"}
	if err := as.SetHomeserverURL("http://hs.test/below"); err != nil {
		t.Fatal(err)
	}
	as.HTTPClient.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		serve(w, r)
		resp := w.Result()
		resp.Request = r
		return resp, nil
	})
	u := NewUploads(&matrix.Connector{AS: as})
	u.matrix.MediaConfig.UploadSize = 1 << 20
	return u
}

func TestAFileIsUploadedAsTheOneItIsFrom(t *testing.T) {
	var got []byte
	var seen *http.Request
	u := uploadsTo(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r
		got, _ = io.ReadAll(r.Body)
		_, _ = w.Write([]byte(`{"content_uri":"mxc://test/1"}`))
	})
	file := make([]byte, 300_000)
	_, _ = rand.Read(file)
	up, err := u.Upload(t.Context(), "@ghost:test", File{Body: bytes.NewReader(file), Size: int64(len(file)), Mimetype: "image/png", Name: "a b.png"})
	if err != nil || up.URL != "mxc://test/1" || up.File != nil || !bytes.Equal(got, file) {
		t.Fatalf("%+v %v, %d bytes", up, err, len(got))
	}
	q := seen.URL.Query()
	if seen.URL.Path != "/below/_matrix/media/v3/upload" || q.Get("user_id") != "@ghost:test" || q.Get("filename") != "a b.png" ||
		seen.Header.Get("Authorization") != "Bearer as-token" || seen.Header.Get("Content-Type") != "image/png" || seen.ContentLength != int64(len(file)) {
		t.Errorf("%s %v, length %d", seen.URL, seen.Header, seen.ContentLength)
	}
}

func TestAnEncryptedFileTellsTheHomeserverNothing(t *testing.T) {
	var got []byte
	var seen *http.Request
	u := uploadsTo(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r
		got, _ = io.ReadAll(r.Body)
		_, _ = w.Write([]byte(`{"content_uri":"mxc://test/1"}`))
	})
	for _, file := range [][]byte{bytes.Repeat([]byte("secret"), 50_000), {}} {
		up, err := u.Upload(t.Context(), "@ghost:test", File{Body: bytes.NewReader(file), Size: int64(len(file)), Mimetype: "image/png", Name: "secret.png", Encrypt: true})
		if err != nil || up.URL != "" || up.File.URL != "mxc://test/1" {
			t.Fatalf("%+v %v", up, err)
		}
		if bytes.Contains(got, []byte("secret")) || strings.Contains(seen.URL.String(), "secret") || seen.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("told: %s %v", seen.URL, seen.Header)
		}
		var told event.EncryptedFileInfo // as a client reads it
		if raw, err := json.Marshal(up.File); err != nil || json.Unmarshal(raw, &told) != nil || told.PrepareForDecryption() != nil {
			t.Fatal(err)
		}
		stream := told.DecryptStream(bytes.NewReader(got))
		plain, err := io.ReadAll(stream)
		if err = errors.Join(err, stream.Close()); err != nil || !bytes.Equal(plain, file) {
			t.Errorf("decrypted to %d bytes, %v", len(plain), err)
		}
	}
}

func TestWhatTheHomeserverDoesNotTakeIsTold(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		check      func(err error) bool
	}{
		{"too large by status", "", 413, func(err error) bool { return errors.Is(err, ErrTooLargeForMatrix) }},
		{"too large by code", `{"errcode":"M_TOO_LARGE"}`, 400, func(err error) bool { return errors.Is(err, ErrTooLargeForMatrix) }},
		{"forbidden", `{"errcode":"M_FORBIDDEN"}`, 403, Permanent},
		{"out of order", "<html>", 502, func(err error) bool { var e mautrix.HTTPError; return errors.As(err, &e) && !Permanent(err) }},
		{"no address", `{}`, 200, func(err error) bool { return err != nil && !Permanent(err) }},
		{"no JSON", `x`, 200, func(err error) bool { return err != nil && !Permanent(err) }},
	} {
		u := uploadsTo(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		if _, err := u.Upload(t.Context(), "@g:test", File{Body: strings.NewReader("abc"), Size: 3}); !c.check(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	u := uploadsTo(t, func(w http.ResponseWriter, r *http.Request) { t.Error("the homeserver was asked") })
	if _, err := u.Upload(t.Context(), "@g:test", File{Body: strings.NewReader("abc"), Size: 1<<20 + 1}); !errors.Is(err, ErrTooLargeForMatrix) {
		t.Errorf("over the limit that the homeserver tells: %v", err)
	}
}

func TestAnErrorOfAnUploadDoesNotNameTheFile(t *testing.T) {
	u := uploadsTo(t, nil)
	u.client.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("dial 10.0.0.1: refused") })
	_, err := u.Upload(t.Context(), "@ghost:test", File{Body: strings.NewReader("abc"), Size: 3, Name: "secret.pdf"})
	if !errors.Is(err, ErrNoAnswer) || !Away(err) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "10.0") || strings.Contains(err.Error(), "ghost") {
		t.Errorf("the error says %v", err)
	}
}

func TestAnAnswerBeforeTheEndOfTheFileIsNoSuccess(t *testing.T) {
	u := uploadsTo(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 2))
		_, _ = w.Write([]byte(`{"content_uri":"mxc://test/1"}`))
	})
	if up, err := u.Upload(t.Context(), "@g:test", File{Body: strings.NewReader("abc"), Size: 3, Encrypt: true}); err == nil {
		t.Errorf("%+v", up)
	}
}

func TestAnUploadTakesAsLongAsItMakesProgress(t *testing.T) {
	for _, every := range []time.Duration{uploadStall * 3 / 4, uploadStall * 2} {
		synctest.Test(t, func(t *testing.T) {
			u := uploadsTo(t, func(w http.ResponseWriter, r *http.Request) {
				for range 8 {
					select {
					case <-time.After(every):
					case <-r.Context().Done():
						w.WriteHeader(500)
						return
					}
					if _, err := r.Body.Read(make([]byte, 1)); err != nil && err != io.EOF {
						w.WriteHeader(500)
						return
					}
				}
				_, _ = w.Write([]byte(`{"content_uri":"mxc://test/1"}`))
			})
			_, err := u.Upload(context.Background(), "@g:test", File{Body: strings.NewReader("12345678"), Size: 8})
			if slow := every > uploadStall; slow && !errors.Is(err, ErrStalled) || !slow && err != nil {
				t.Errorf("a byte each %v: %v", every, err)
			}
		})
	}
}
