package faults_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/media"
	"postern/connector/mediastore"
)

// file is an attachment, known by its caption, which is a text of the ledger's.
type file struct {
	data  []byte
	image bool // shown as a picture, which is looked at on its way; anything else goes untouched
}

func (f *file) sum() string { return fmt.Sprintf("%x", sha256.Sum256(f.data)) }

// newFile makes a file that is like no other: a small picture, or bytes that some phones fetch in one piece and some in two.
func newFile(picture bool) (*file, error) {
	if !picture {
		f := &file{data: make([]byte, 1+rand.IntN(130<<10))}
		for i := range f.data {
			f.data[i] = byte(rand.Uint32())
		}
		return f, nil
	}
	img := image.NewNRGBA(image.Rect(0, 0, 32, 24))
	for i := range img.Pix {
		img.Pix[i] = byte(rand.Uint32())
	}
	img.SetNRGBA(0, 0, color.NRGBA{A: 255})
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	var out bytes.Buffer
	err := png.Encode(&out, img)
	return &file{data: out.Bytes(), image: true}, err
}

func (l *ledger) hasFile(text string, f *file) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files == nil {
		l.files = map[string]*file{}
	}
	l.files[text] = f
}

func (l *ledger) file(text string) *file {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[text]
}

// attach lets alice send an attachment. Her client repeats what the homeserver did not take.
func (c *chat) attach(picture bool) (event string, err error) {
	r := c.r
	text := c.matrixText()
	f, err := newFile(picture)
	if err != nil {
		return "", err
	}
	mimetype, kind := "application/x-test", "m.file"
	if picture {
		mimetype, kind = "image/png", "m.image"
	}
	c.hasFile(text, f)
	uri := ""
	for uri == "" && r.ctx.Err() == nil {
		uri, err = r.alice.Upload(r.ctx, f.data, mimetype, "file")
	}
	for r.ctx.Err() == nil {
		event, err = r.alice.Send(r.ctx, c.room, "m.room.message", text, map[string]any{
			"msgtype": kind, "body": text, "filename": "a file", "url": uri, "info": map[string]any{"mimetype": mimetype, "size": len(f.data)},
		})
		if err == nil {
			c.wroteMatrix(text, event)
			return event, nil
		}
	}
	return "", err
}

// loadFiles is load with an attachment in place of every fourth text, each way.
func (r *rig) loadFiles(chats []*chat, count int) (done <-chan struct{}) {
	var senders sync.WaitGroup
	for _, c := range chats {
		senders.Go(func() {
			for i := range count {
				if i%4 != 3 {
					c.writeMatrix(r.ctx, 1)
				} else if _, err := c.attach(i%8 == 3); err != nil {
					r.t.Errorf("alice cannot attach a file: %v", err)
				}
			}
		})
		senders.Go(func() {
			for i := range count {
				if i%4 != 3 {
					c.writePhone(r.ctx, 1)
				} else if _, _, err := c.attachPhone(i%8 == 3); err != nil {
					r.t.Errorf("the phone cannot attach a file: %v", err)
				}
			}
		})
	}
	all := make(chan struct{})
	go func() { senders.Wait(); close(all) }()
	return all
}

// fileFromMatrix is attach for the test's goroutine.
func (c *chat) fileFromMatrix(picture bool) string {
	c.r.t.Helper()
	return must(c.attach(picture))(c.r.t)
}

// attachPhone lets the phone send an attachment.
func (c *chat) attachPhone(picture bool) (text, id string, err error) {
	text = c.phoneText()
	f, err := newFile(picture)
	if err != nil {
		return "", "", err
	}
	c.hasFile(text, f)
	content := parts.Content{To: c.r.identifier, Kind: "document", Data: f.data, Mimetype: "application/x-test", FileName: "a file", Caption: text}
	if picture {
		content.Kind, content.Mimetype, content.FileName = "image", "image/png", ""
	}
	id, err = c.r.Gatekeeper.Send(c.r.ctx, c.ben.Phone, content)
	if err == nil {
		c.wrotePhone(text, id)
	}
	return text, id, err
}

func (c *chat) fileFromPhone(picture bool) string {
	c.r.t.Helper()
	text, _, err := c.attachPhone(picture)
	c.r.ok(err)
	return text
}

// awaitFiles waits until the phone shows what alice has sent: it does so when it has fetched the files before.
func (c *chat) awaitFiles() {
	r := c.r
	r.t.Helper()
	c.mu.Lock()
	with, texts := len(c.files) > 0, texts(c.matrix)
	c.mu.Unlock()
	if !with || len(texts) == 0 {
		return
	}
	wanted := map[string]bool{}
	for _, text := range texts {
		wanted[text] = true
	}
	must(r.Gatekeeper.Expect(r.ctx, c.ben.Phone, "all of alice's messages on the phone", func(e *parts.PhoneEvent) bool {
		if e.Kind == "message" {
			delete(wanted, e.Text)
		}
		return len(wanted) == 0
	}))(r.t)
}

// checkFiles compares what was attached with what the other end has, byte for byte.
func (c *chat) checkFiles() {
	r := c.r
	r.t.Helper()
	for _, e := range r.phoneEvents(c.ben) {
		f := c.file(e.Text)
		switch {
		case e.Kind != "message":
		case (f == nil) != (e.Media == nil):
			r.t.Errorf("%q is on the phone with the attachment %+v", e.Text, e.Media)
		case f != nil && e.Media.Error == "unreachable": // it was tried while the bridge was dead, and can be tried again
			c.checkFetchable(&e)
		case f != nil && (e.Media.Error != "" || e.Media.SHA256 != f.sum() || e.Media.Bytes != int64(len(f.data))):
			r.t.Errorf("the phone has for %q %d bytes with hash %s and the error %q, sent were %d with %s", e.Text, e.Media.Bytes, e.Media.SHA256,
				e.Media.Error, len(f.data), f.sum())
		}
	}
	for _, e := range c.shown() {
		if e.Sender != r.alice.UserID {
			c.checkShown(&e)
		}
	}
}

// edited is the new content of an event that replaces another one, and which.
func edited(e *homeserver.Event) (target string, content json.RawMessage) {
	var edit struct {
		New     json.RawMessage `json:"m.new_content"`
		Relates struct {
			Kind  string `json:"rel_type"`
			Event string `json:"event_id"`
		} `json:"m.relates_to"`
	}
	if e.Type != "m.room.message" || json.Unmarshal(e.Content, &edit) != nil || edit.Relates.Kind != "m.replace" {
		return "", nil
	}
	return edit.Relates.Event, edit.New
}

// shown are the chat's messages as clients show them, in order: with their last content, where something has replaced the first.
func (c *chat) shown() []homeserver.Event {
	at := map[string]int{}
	var list []homeserver.Event
	for _, e := range c.r.hs.Events(c.room, "m.room.message") {
		if target, content := edited(&e); target != "" {
			if i, there := at[target]; there && e.Sender == list[i].Sender {
				list[i].Content = content
			}
		} else if strings.Contains(e.Body(), c.mark) {
			at[e.ID] = len(list)
			list = append(list, e)
		}
	}
	return list
}

// edits is how often an event was replaced.
func (c *chat) edits(event string) (n int) {
	for _, e := range c.r.hs.Events(c.room, "m.room.message") {
		if target, _ := edited(&e); target == event {
			n++
		}
	}
	return n
}

// expectBody waits for a message of the other side's with a caption in it, as clients show it, and returns its event.
func (c *chat) expectBody(caption string, is func(body string) bool) (event string) {
	r := c.r
	r.t.Helper()
	r.until(fmt.Sprintf("%q", caption), func() bool {
		for _, e := range c.shown() {
			if e.Sender != r.alice.UserID && strings.HasSuffix(e.Body(), caption) && is(e.Body()) {
				event = e.ID
				return true
			}
		}
		return false
	})
	return event
}

// checkFetchable fetches what a phone has given up as it would: by what the message says.
func (c *chat) checkFetchable(e *parts.PhoneEvent) {
	r := c.r
	r.t.Helper()
	s := &stored{url: r.Bridge.PublicBase + "/media/" + path.Base(strings.TrimSuffix(e.Media.DirectPath, "/"))}
	got := s.ask(r, "GET", nil)
	if sum := sha256.Sum256(got.body); got.StatusCode != 200 || hex.EncodeToString(sum[:]) != e.Media.EncSHA256 {
		r.t.Errorf("what the phone could not reach for %q is answered with %d and %d bytes", e.Text, got.StatusCode, len(got.body))
	}
}

// urlOf is where the file of an event is, "" for none.
func urlOf(e *homeserver.Event) string {
	var content struct{ URL string }
	if json.Unmarshal(e.Content, &content) != nil {
		return ""
	}
	return content.URL
}

func (c *chat) checkShown(e *homeserver.Event) {
	r := c.r
	r.t.Helper()
	f, url := c.file(e.Body()), urlOf(e)
	switch {
	case (f == nil) != (url == ""):
		r.t.Errorf("%q is in the room with the attachment %q", e.Body(), url)
	case f != nil:
		if got := must(r.alice.Download(r.ctx, url))(r.t); !bytes.Equal(got, f.data) {
			r.t.Errorf("the room has for %q another file: %d bytes, sent were %d", e.Body(), len(got), len(f.data))
		}
	}
}

func (r *rig) storeDir() string { return filepath.Join(filepath.Dir(r.Bridge.ConfigPath()), "media") }
func (r *rig) spoolDir() string { return filepath.Join(filepath.Dir(r.Bridge.ConfigPath()), "spool") }

// blobs are the files of the media store under their final names, with their sizes. What has another name lies in its folder for
// temporary files.
func (r *rig) blobs() map[string]int64 {
	r.t.Helper()
	found := map[string]int64{}
	r.ok(filepath.WalkDir(r.storeDir(), func(at string, entry os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // removed or renamed meanwhile
		} else if err != nil || entry.IsDir() {
			return err
		}
		if name := entry.Name(); filepath.Base(filepath.Dir(at)) != "tmp" {
			info, err := entry.Info()
			if os.IsNotExist(err) {
				return nil
			} else if err != nil {
				return err
			}
			if _, err := hex.DecodeString(name); err != nil || len(name) != 64 || at != r.blobPath(name) {
				r.t.Errorf("the media store has the file %s", at)
			}
			found[name] = info.Size()
		}
		return nil
	}))
	return found
}

func (r *rig) blobPath(name string) string {
	return filepath.Join(r.storeDir(), name[:2], name[2:4], name)
}

// openDatabase opens the bridge's database beside it.
func (r *rig) openDatabase() *sql.DB {
	r.t.Helper()
	driver, uri := "sqlite3-fk-wal", "file:"+r.Bridge.DatabasePath()
	if r.database == postgres {
		driver, uri = "postgres", r.uri
	}
	return must(sql.Open(driver, uri))(r.t)
}

// index is what the database says the media store has: hashes of the files by their names.
func (r *rig) index() map[string]string {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	rows := must(db.QueryContext(r.ctx, "SELECT ref_hash, sha256 FROM postern_media"))(r.t)
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, sum []byte
		r.ok(rows.Scan(&name, &sum))
		out[hex.EncodeToString(name)] = hex.EncodeToString(sum)
	}
	r.ok(rows.Err())
	return out
}

// count asks the bridge's database for a number.
func (r *rig) count(query string, args ...any) (n int) {
	r.t.Helper()
	db := r.openDatabase()
	defer db.Close()
	r.ok(db.QueryRowContext(r.ctx, query, args...).Scan(&n))
	return n
}

// soundStore looks at the media store of a bridge that is dead or does nothing: each file with a final name is a whole one, what the index has is
// there as the index says, and a message is prepared exactly if its file is in the index. It returns the files that nothing refers to.
func (c *chat) soundStore() (orphans []string) {
	r := c.r
	r.t.Helper()
	index, blobs := r.index(), r.blobs()
	for name, sum := range index {
		if _, there := blobs[name]; !there {
			r.t.Errorf("the index has %s, and there is no such file", name)
			continue
		}
		raw := must(os.ReadFile(r.blobPath(name)))(r.t)
		if got := sha256.Sum256(raw); hex.EncodeToString(got[:]) != sum {
			r.t.Errorf("the file %s of %d bytes is not the one in the index", name, len(raw))
		}
	}
	whole := map[int64]bool{}
	c.mu.Lock()
	for _, f := range c.files {
		whole[media.EncryptedLength(int64(len(f.data)))] = true
	}
	c.mu.Unlock()
	for name, size := range blobs {
		if index[name] != "" {
			continue
		}
		orphans = append(orphans, name)
		if !whole[size] {
			r.t.Errorf("%s has its final name and %d bytes, which no attachment has", name, size)
		}
	}
	if n := r.count("SELECT COUNT(*) FROM postern_out WHERE type='media' AND recipe IS NULL AND state<>9"); n != len(index) {
		r.t.Errorf("%d messages refer to a file, and the index has %d", n, len(index))
	}
	for _, e := range r.phoneEvents(c.ben) {
		if e.Media == nil || e.Media.DirectPath == "" {
			continue
		}
		name := mediastore.NameOf(path.Base(strings.TrimSuffix(e.Media.DirectPath, "/"))).String()
		if index[name] == "" {
			r.t.Errorf("the phone refers to %s, which the index does not have", name)
		}
	}
	return orphans
}

// age makes files look as if they had lain there for more than a day.
func (r *rig) age(names []string) {
	r.t.Helper()
	old := time.Now().Add(-25 * time.Hour)
	for _, name := range names {
		r.ok(os.Chtimes(r.blobPath(name), old, old))
	}
}

// until waits for a condition of the file system or the database.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// tidy fails unless the spool folder and the store's own for temporary files are empty.
func (r *rig) tidy() {
	r.t.Helper()
	for _, dir := range []string{r.spoolDir(), filepath.Join(r.storeDir(), "tmp")} {
		var left []string
		r.until("an empty folder "+dir, func() bool {
			left = nil
			for _, e := range must(os.ReadDir(dir))(r.t) {
				if !strings.HasPrefix(e.Name(), ".") {
					left = append(left, e.Name())
				}
			}
			return len(left) == 0
		})
	}
}
