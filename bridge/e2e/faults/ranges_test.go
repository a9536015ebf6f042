package faults_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"

	"postern/bridge/parts"
)

// The row F-36: what the gatekeeper's media proxy may ask the public listener for, on the running program.

// stored is an attachment as it lies in the store: what the phone was told of it, and its ciphertext.
type stored struct {
	url, tag string
	data     []byte
}

// store lets alice send a file and fetches its ciphertext from the public listener.
func (c *chat) store(size int) *stored {
	r := c.r
	r.t.Helper()
	text := c.matrixText()
	f := &file{data: make([]byte, size)}
	for i := range f.data {
		f.data[i] = byte(rand.Uint32())
	}
	c.hasFile(text, f)
	uri := must(r.alice.Upload(r.ctx, f.data, "application/x-test", "file"))(r.t)
	event := must(r.alice.Send(r.ctx, c.room, "m.room.message", text, map[string]any{
		"msgtype": "m.file", "body": text, "filename": "a file", "url": uri, "info": map[string]any{"size": size},
	}))(r.t)
	c.wroteMatrix(text, event)
	e := must(r.Gatekeeper.Expect(r.ctx, c.ben.Phone, "the file on the phone", func(e *parts.PhoneEvent) bool { return e.Text == text }))(r.t)
	s := &stored{url: r.Bridge.PublicBase + "/media/" + path.Base(strings.TrimSuffix(e.Media.DirectPath, "/"))}
	whole := s.ask(r, http.MethodGet, nil)
	s.tag, s.data = whole.Header.Get("ETag"), whole.body
	if sum := sha256.Sum256(s.data); whole.StatusCode != 200 || hex.EncodeToString(sum[:]) != e.Media.EncSHA256 || len(s.data) < size {
		r.t.Fatalf("the listener answers %d with %d bytes of hash %x; the phone was told %s", whole.StatusCode, len(s.data), sum, e.Media.EncSHA256)
	}
	if len(s.tag) < 3 || s.tag[0] != '"' {
		r.t.Errorf("the tag %s is not a strong one", s.tag)
	}
	return s
}

// asked is an answer with its body.
type asked struct {
	*http.Response
	body []byte
}

func (s *stored) ask(r *rig, method string, fields map[string]string) asked {
	r.t.Helper()
	req := must(http.NewRequestWithContext(r.ctx, method, s.url, nil))(r.t)
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	resp := must(http.DefaultClient.Do(req))(r.t)
	defer resp.Body.Close()
	return asked{resp, must(io.ReadAll(resp.Body))(r.t)}
}

func TestF36RangesOfEveryKind(t *testing.T) {
	const size = 300_001
	each(t, func(r *rig) {
		c := r.newChat()
		s := c.store(size)
		n := len(s.data)
		last := strconv.Itoa(n - 1)
		all := [][2]int{}
		for _, row := range []struct {
			ranges, condition string
			status            int
			spans             [][2]int // first byte and length
		}{
			{"bytes=0-0", "", 206, [][2]int{{0, 1}}},
			{"bytes=0-65535", "", 206, [][2]int{{0, 65536}}},
			{"bytes=65536-", "", 206, [][2]int{{65536, n - 65536}}},
			{"bytes=" + last + "-" + last, "", 206, [][2]int{{n - 1, 1}}},
			{"bytes=-1", "", 206, [][2]int{{n - 1, 1}}},
			{"bytes=-1000", "", 206, [][2]int{{n - 1000, 1000}}},
			{"bytes=-99999999999", "", 206, [][2]int{{0, n}}},
			{"bytes=100-99999999999", "", 206, [][2]int{{100, n - 100}}},
			{fmt.Sprintf("bytes=%d-", n), "", 416, nil},
			{"bytes=99999999999-", "", 416, nil},
			{"bytes=-0", "", 416, nil},
			{"bytes=2-1", "", 416, nil},
			{"bytes=x-y", "", 416, nil},
			{"bytes=0-1,10-19,-5", "", 206, [][2]int{{0, 2}, {10, 10}, {n - 5, 5}}},
			{"bytes=10-19,0-1", "", 206, [][2]int{{10, 10}, {0, 2}}},
			{"bytes=0-1,99999999999-", "", 206, [][2]int{{0, 2}}},
			{"bytes=0-,0-", "", 200, all}, // more than there is: all of it once
			{"bytes=" + strings.Repeat("0-0,", 40) + "1-1", "", 416, nil},
			{"lines=1-2", "", 200, all},
			{"bytes=5-9", s.tag, 206, [][2]int{{5, 5}}},
			{"bytes=5-9", `"another"`, 200, all},
			{"bytes=5-9", "W/" + s.tag, 200, all},
			{"bytes=5-9", "Sun, 22 Nov 2026 07:00:00 GMT", 200, all},
			{"bytes=" + strconv.Itoa(n) + "-", `"another"`, 200, all},
		} {
			fields := map[string]string{"Range": row.ranges}
			if row.condition != "" {
				fields["If-Range"] = row.condition
			}
			got := s.ask(r, http.MethodGet, fields)
			name := row.ranges[:min(len(row.ranges), 40)] + " " + row.condition
			if got.StatusCode != row.status {
				r.t.Errorf("%s: %d, want %d", name, got.StatusCode, row.status)
				continue
			}
			s.compare(r, name, got, row.spans)
			head := s.ask(r, http.MethodHead, fields)
			if head.StatusCode != 200 || head.ContentLength != int64(n) || len(head.body) != 0 || head.Header.Get("ETag") != s.tag {
				r.t.Errorf("%s: HEAD is answered with %d, %d bytes and %s", name, head.StatusCode, head.ContentLength, head.Header.Get("ETag"))
			}
		}
		if got := s.ask(r, http.MethodGet, map[string]string{"If-None-Match": s.tag}); got.StatusCode != 304 || len(got.body) != 0 {
			r.t.Errorf("If-None-Match: %d with %d bytes", got.StatusCode, len(got.body))
		}
		if got := s.ask(r, http.MethodGet, map[string]string{"If-Match": `"another"`}); got.StatusCode != 412 {
			r.t.Errorf("If-Match: %d", got.StatusCode)
		}
		c.check()
	})
}

// compare holds an answer to what RFC 9110 says of it: 14.4 and 15.3.7 for one span, 14.6 for several, 15.5.17 for none that is there.
func (s *stored) compare(r *rig, name string, got asked, spans [][2]int) {
	r.t.Helper()
	n := len(s.data)
	if got.Header.Get("Accept-Ranges") != "bytes" && got.StatusCode != 416 {
		r.t.Errorf("%s: ranges are not offered", name)
	}
	contentRange := func(at [2]int) string { return fmt.Sprintf("bytes %d-%d/%d", at[0], at[0]+at[1]-1, n) }
	switch {
	case got.StatusCode == 416:
		if got.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", n) {
			r.t.Errorf("%s: Content-Range is %q", name, got.Header.Get("Content-Range"))
		}
	case len(spans) == 0:
		if !bytes.Equal(got.body, s.data) || got.Header.Get("Content-Range") != "" {
			r.t.Errorf("%s: %d other bytes", name, len(got.body))
		}
	case len(spans) == 1:
		at := spans[0]
		if !bytes.Equal(got.body, s.data[at[0]:at[0]+at[1]]) || got.Header.Get("Content-Range") != contentRange(at) || got.ContentLength != int64(at[1]) {
			r.t.Errorf("%s: %d other bytes as %s", name, len(got.body), got.Header.Get("Content-Range"))
		}
	default:
		kind, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/byteranges" || got.Header.Get("Content-Range") != "" || got.ContentLength != int64(len(got.body)) {
			r.t.Errorf("%s: %s, %v", name, kind, err)
			return
		}
		list := multipart.NewReader(bytes.NewReader(got.body), params["boundary"])
		for _, at := range spans {
			part := must(list.NextRawPart())(r.t)
			if body := must(io.ReadAll(part))(r.t); !bytes.Equal(body, s.data[at[0]:at[0]+at[1]]) || part.Header.Get("Content-Range") != contentRange(at) {
				r.t.Errorf("%s: a part of %d other bytes as %s", name, len(body), part.Header.Get("Content-Range"))
			}
		}
		if _, err := list.NextRawPart(); !errors.Is(err, io.EOF) {
			r.t.Errorf("%s: there is more behind the last part: %v", name, err)
		}
	}
}

// TestF36FiftyAtOnceBrokenOffAndResumed: each of fifty fetches the file, is cut off again and again, also by a kill of the bridge, and
// goes on where it was; what each has in the end is the file, and the bridge's memory has not grown with them.
func TestF36FiftyAtOnceBrokenOffAndResumed(t *testing.T) {
	const size, readers = 4 << 20, 50
	const allowed = 16 << 20
	each(t, func(r *rig) {
		c := r.newChat()
		s := c.store(size)
		before := r.memory()
		var grown int64
		var measure sync.Mutex
		var readersDone sync.WaitGroup
		sums := make([][sha256.Size]byte, readers)
		for i := range readers {
			readersDone.Go(func() {
				sums[i] = s.resume(r, i, func() {
					measure.Lock()
					defer measure.Unlock()
					grown = max(grown, r.memory()-before)
				})
			})
		}
		readersDone.Wait()
		want := sha256.Sum256(s.data)
		for i, sum := range sums {
			if sum != want {
				r.t.Errorf("reader %d has another file", i)
			}
		}
		if grown > allowed {
			r.t.Errorf("memory has grown by %d MiB with %d readers of %d MiB, want %d at most", grown>>20, readers, size>>20, allowed>>20)
		} else {
			r.t.Logf("memory has grown by %d KiB with %d readers of %d MiB", grown>>10, readers, size>>20)
		}
		// Broken off by a kill.
		half := s.ask(r, http.MethodGet, map[string]string{"Range": "bytes=0-999999"})
		r.again()
		rest := s.ask(r, http.MethodGet, map[string]string{"Range": "bytes=1000000-", "If-Range": s.tag})
		if got := append(half.body, rest.body...); rest.StatusCode != 206 || !bytes.Equal(got, s.data) {
			r.t.Errorf("resumed after a kill: %d, %d bytes", rest.StatusCode, len(got))
		}
		c.check()
	})
}

// resume fetches all of the file, with breaks at places of its own, and returns its hash.
func (s *stored) resume(r *rig, seed int, measure func()) [sha256.Size]byte {
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	sum := sha256.New()
	client := &http.Client{Transport: &http.Transport{}} // a connection of its own
	defer client.CloseIdleConnections()
	for at := 0; at < len(s.data); {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, s.url, nil)
		if err != nil {
			r.t.Error(err)
			return [sha256.Size]byte{}
		}
		if at > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", at))
			req.Header.Set("If-Range", s.tag)
		}
		resp, err := client.Do(req)
		if err != nil {
			r.t.Error(err)
			return [sha256.Size]byte{}
		}
		if want := map[bool]int{true: 206, false: 200}[at > 0]; resp.StatusCode != want {
			r.t.Errorf("reader %d at %d: %d, want %d", seed, at, resp.StatusCode, want)
		}
		n, err := io.Copy(sum, io.LimitReader(resp.Body, int64(1+random.IntN(2<<20))))
		if err != nil {
			r.t.Errorf("reader %d at %d: %v", seed, at, err)
		}
		at += int(n)
		if seed%10 == 0 {
			measure()
		}
		_ = resp.Body.Close() // broken off
		if r.ctx.Err() != nil || r.t.Failed() {
			break
		}
	}
	return [sha256.Size]byte(sum.Sum(nil))
}
