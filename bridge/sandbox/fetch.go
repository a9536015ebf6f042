package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// What media.error of a message event can be, besides an HTTP status of the partner.
const (
	wordPath        = "path"        // directPath is not of the form, or names another integrator
	wordLength      = "length"      // not as long as the message says, or too long
	wordHash        = "hash"        // of the encrypted file, or of the plaintext
	wordMAC         = "mac"         // not made with this key, or as another kind
	wordPadding     = "padding"     // the plaintext does not end as it must
	wordRange       = "range"       // an answer to a range request that is none
	wordRedirect    = "redirect"    //
	wordEncoding    = "encoding"    // Content-Encoding
	wordUnreachable = "unreachable" // no connection, or none that lasts
	wordDisk        = "disk"        // the sandbox could not keep it
	wordGone        = "gone"        // the phone has forgotten the message meanwhile
	wordWaiting     = "waiting"     // too much was waiting
)

// oddity is something about a partner's media to complain about.
type oddity struct {
	section, text string
	whileEnlisted bool // right once the account is not enlisted any more
}

// fetchError is why a file cannot be fetched. again: another try may help.
type fetchError struct {
	word  string
	again bool
}

func (e *fetchError) Error() string { return "fetch media: " + e.word }

// download is one encrypted file on its way from a partner, as the gatekeeper's proxy fetches it for a phone: a HEAD, then the
// file in ranges, each resumed where it broke off (PROTOCOL.md 7.2).
type download struct {
	s     *Server
	ctx   context.Context
	url   string
	want  int64 // bytes, as the message says; negative if it does not
	limit int64 // bytes
	spool *os.File

	size     int64 // bytes, as the partner says
	etag     string
	off      int64 // bytes that are in spool
	breaks   int
	oddities []oddity
}

// odd notes something once.
func (d *download) odd(section, text string) {
	for _, o := range d.oddities {
		if o.text == text {
			return
		}
	}
	d.oddities = append(d.oddities, oddity{section: section, text: text})
}

// blame is an error that is the partner's fault.
func (d *download) blame(word, text string) error {
	d.odd("7.2", text)
	return &fetchError{word: word}
}

// run fetches all of the file. The error is a *fetchError, or the context's.
func (d *download) run() error {
	if err := d.persist(d.probe); err != nil {
		return err
	}
	for d.off < d.size {
		if err := d.persist(d.piece); err != nil {
			return err
		}
	}
	return nil
}

// persist tries step again while that may help.
func (d *download) persist(step func() error) error {
	for failed := 0; ; {
		before := d.off
		err := step()
		var fe *fetchError
		if err == nil || !errors.As(err, &fe) || !fe.again {
			return err
		}
		if d.off > before {
			failed = 0
		}
		failed++
		if d.breaks++; failed > d.s.fetch.retries || d.breaks > d.s.fetch.breaks {
			return err
		}
		pause := time.NewTimer(d.s.fetch.backoff << (failed - 1))
		select {
		case <-pause.C:
		case <-d.ctx.Done():
			pause.Stop()
			return &fetchError{word: wordUnreachable}
		}
	}
}

func (d *download) ask(method string, header http.Header) (*http.Response, error) {
	resp, err := d.s.askPartner(d.ctx, method, d.url, header)
	if err != nil {
		return nil, &fetchError{word: wordUnreachable, again: d.ctx.Err() == nil}
	}
	return resp, nil
}

// probe is the HEAD: it finds length and ETag.
func (d *download) probe() error {
	resp, err := d.ask(http.MethodHead, http.Header{})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d.size = resp.ContentLength
	switch resp.StatusCode {
	case http.StatusOK:
		if err := d.headers(resp); err != nil {
			return err
		}
		if d.size < 0 {
			d.odd("7.2", "media without Content-Length")
		}
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		d.odd("7.2", "media that cannot be asked for with HEAD")
		d.size = -1
	default:
		return d.refused(resp.StatusCode)
	}
	if d.size < 0 {
		d.size = d.want
	}
	switch {
	case d.size < 0, d.size > d.limit:
		return d.blame(wordLength, "media of no known length, or longer than its kind may be")
	case d.want >= 0 && d.size != d.want:
		return d.blame(wordLength, "media whose length is not the one its message says")
	}
	return nil
}

// headers looks at what every good answer has.
func (d *download) headers(resp *http.Response) error {
	if resp.Header.Get("Content-Type") != "application/octet-stream" {
		d.odd("7.2", "media that is not application/octet-stream")
	}
	control := strings.ToLower(resp.Header.Get("Cache-Control"))
	if !strings.Contains(control, "private") || !strings.Contains(control, "immutable") {
		d.odd("7.2", "media without Cache-Control: private, immutable")
	}
	if resp.Header.Get("Content-Encoding") != "" {
		return d.blame(wordEncoding, "media with Content-Encoding")
	}
	etag := resp.Header.Get("ETag")
	switch {
	case len(etag) < 2 || etag[0] != '"' || etag[len(etag)-1] != '"':
		d.odd("7.2", "media without a strong ETag")
	case d.etag == "":
		d.etag = etag
	case d.etag != etag:
		return d.blame(wordRange, "media that changes")
	}
	return nil
}

// refused is what a status means that brings no file.
func (d *download) refused(status int) error {
	word := strconv.Itoa(status)
	switch {
	case status >= 500 || status == http.StatusTooManyRequests:
		return &fetchError{word: word, again: true}
	case status >= 300 && status < 400:
		return d.blame(wordRedirect, "media answered with a redirect")
	case status == http.StatusNotFound || status == http.StatusGone:
		d.oddities = append(d.oddities, oddity{"7.3", "media that is not there", true})
		return &fetchError{word: word}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return d.blame(wordRange, "a range within the file that is refused")
	}
	return d.blame(word, "media refused with a status that has no place here")
}

// piece fetches the next range, or all of a small file.
func (d *download) piece() error {
	rules := d.s.fetch
	end, header := d.size, http.Header{}
	ranged := d.off > 0 || d.size > rules.first
	if ranged {
		step := rules.next
		if d.off < rules.first {
			step = rules.first - d.off
		}
		end = min(d.size, d.off+step)
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.off, end-1))
		if d.etag != "" {
			header.Set("If-Range", d.etag)
		}
	}
	resp, err := d.ask(http.MethodGet, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent && ranged:
		if resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", d.off, end-1, d.size) {
			return d.blame(wordRange, "a Content-Range that is not of the range asked for")
		}
	case resp.StatusCode == http.StatusPartialContent:
		return d.blame(wordRange, "a part of media when all was asked for")
	case resp.StatusCode == http.StatusOK:
		if ranged {
			d.odd("7.2", "a range request answered with the whole")
			d.off, end = 0, d.size
		}
	default:
		return d.refused(resp.StatusCode)
	}
	if err := d.headers(resp); err != nil {
		return err
	}
	if resp.ContentLength >= 0 && resp.ContentLength != end-d.off {
		return d.blame(wordLength, "an answer whose Content-Length is not that of its range")
	}
	return d.read(resp.Body, end)
}

// read takes the body of a piece up to end.
func (d *download) read(body io.Reader, end int64) error {
	buf := make([]byte, 32<<10)
	for d.off < end {
		n, err := body.Read(buf[:min(int64(len(buf)), end-d.off)])
		if n > 0 {
			if _, werr := d.spool.WriteAt(buf[:n], d.off); werr != nil {
				return &fetchError{word: wordDisk}
			}
			d.off += int64(n)
		}
		if err != nil && d.off < end {
			// Cut off, or ended too early: the rest is asked for again.
			return &fetchError{word: wordUnreachable, again: d.ctx.Err() == nil}
		}
	}
	if n, _ := io.ReadFull(body, buf[:1]); n > 0 {
		return d.blame(wordLength, "more bytes than the range has")
	}
	return nil
}
