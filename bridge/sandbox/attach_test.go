package sandbox

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"postern/connector/media"
)

// sendMedia makes Ada send a message with media and gives back what the partner gets.
func (l *lab) sendMedia(p *scripted, body map[string]any) (id string, m *waE2E.Message, typ, mediaType string) {
	l.t.Helper()
	body["to"] = matilda
	var out struct{ ID string }
	l.post("/v1/users/"+ada+"/messages", body, &out)
	n := p.want("message", tagIs("message"))
	return out.ID, p.open(n), n.Attr("type"), n.Child("enc").Attr("mediatype")
}

// fetchFrom downloads and decrypts what a message of a phone describes, as partners do.
func (l *lab) fetchFrom(m described, kind media.Kind) []byte {
	l.t.Helper()
	blob, status := fetchURL(l.t, l.info.MediaURL+m.GetDirectPath())
	if status != 200 {
		l.t.Fatalf("GET of media: %d", status)
	}
	d := media.Descriptor{Kind: kind, Length: int64(m.GetFileLength())}
	copy(d.Key[:], m.GetMediaKey())
	copy(d.SHA256[:], m.GetFileSHA256())
	copy(d.EncSHA256[:], m.GetFileEncSHA256())
	var plain bytes.Buffer
	must(l.t, media.Decrypt(&plain, bytes.NewReader(blob), int64(len(blob)), d))
	return plain.Bytes()
}

func TestEveryKindOfMediaIsSentAsAPhoneSendsIt(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 30, 20))))
	type body = map[string]any
	for _, c := range []struct {
		name, mediaType, mimetype string
		kind                      media.Kind
		body                      body
		of                        func(m *waE2E.Message) described // nil if it is not what it should be
	}{
		{"image", "image", "image/png", media.Image, body{"kind": "image", "data": picture.Bytes(), "mimetype": "image/png", "caption": "look", "thumbnail": smallJPEG(t)},
			func(m *waE2E.Message) described {
				if g := m.GetImageMessage(); g.GetCaption() == "look" && g.GetWidth() == 30 && g.GetHeight() == 20 && bytes.Equal(g.GetJPEGThumbnail(), smallJPEG(t)) && g.ViewOnce == nil {
					return g
				}
				return nil
			}},
		{"image to be seen once", "image", "image/jpeg", media.Image, body{"kind": "image", "data": []byte("x"), "view_once": true},
			func(m *waE2E.Message) described {
				if g := m.GetViewOnceMessageV2().GetMessage().GetImageMessage(); g.GetViewOnce() && g.JPEGThumbnail == nil {
					return g
				}
				return nil
			}},
		{"video", "video", "video/mp4", media.Video, body{"kind": "video", "data": someBytes(1000), "seconds": 3, "width": 640, "height": 480, "caption": "c"},
			func(m *waE2E.Message) described {
				if v := m.GetVideoMessage(); v.GetSeconds() == 3 && v.GetWidth() == 640 && v.GetHeight() == 480 && v.GetCaption() == "c" && !v.GetGifPlayback() {
					return v
				}
				return nil
			}},
		{"video to be seen once", "video", "video/mp4", media.Video, body{"kind": "video", "data": []byte("x"), "view_once": true},
			func(m *waE2E.Message) described { return m.GetViewOnceMessageV2().GetMessage().GetVideoMessage() }},
		{"video note", "ptv", "video/mp4", media.Video, body{"kind": "video_note", "data": []byte("x"), "seconds": 9},
			func(m *waE2E.Message) described {
				if v := m.GetPtvMessage(); v.GetSeconds() == 9 {
					return v
				}
				return nil
			}},
		{"gif", "gif", "video/mp4", media.Video, body{"kind": "gif", "data": []byte("x")},
			func(m *waE2E.Message) described {
				if v := m.GetVideoMessage(); v.GetGifPlayback() {
					return v
				}
				return nil
			}},
		{"voice", "ptt", "audio/ogg; codecs=opus", media.Audio, body{"kind": "voice", "data": []byte("x"), "seconds": 2, "waveform": []int{1, 2, 100}},
			func(m *waE2E.Message) described {
				if a := m.GetAudioMessage(); a.GetPTT() && a.GetSeconds() == 2 && bytes.Equal(a.GetWaveform(), []byte{1, 2, 100}) {
					return a
				}
				return nil
			}},
		{"voice to be heard once", "ptt", "audio/ogg; codecs=opus", media.Audio, body{"kind": "voice", "data": []byte("x"), "view_once": true, "waveform": base64.StdEncoding.EncodeToString([]byte{7})},
			func(m *waE2E.Message) described {
				if a := m.GetViewOnceMessageV2Extension().GetMessage().GetAudioMessage(); a.GetPTT() && a.GetViewOnce() && bytes.Equal(a.GetWaveform(), []byte{7}) {
					return a
				}
				return nil
			}},
		{"audio", "audio", "audio/aac", media.Audio, body{"kind": "audio", "data": []byte("x"), "mimetype": "audio/aac"},
			func(m *waE2E.Message) described {
				if a := m.GetAudioMessage(); !a.GetPTT() {
					return a
				}
				return nil
			}},
		{"document", "document", "text/plain", media.Document, body{"kind": "document", "data": []byte("x"), "mimetype": "text/plain", "file_name": "../ä.txt"},
			func(m *waE2E.Message) described {
				if d := m.GetDocumentMessage(); d.GetFileName() == "../ä.txt" && d.GetTitle() == d.GetFileName() {
					return d
				}
				return nil
			}},
		{"document with a caption", "document", "application/octet-stream", media.Document, body{"kind": "document", "data": []byte("x"), "caption": "read this"},
			func(m *waE2E.Message) described {
				if d := m.GetDocumentWithCaptionMessage().GetMessage().GetDocumentMessage(); d.GetCaption() == "read this" {
					return d
				}
				return nil
			}},
		{"sticker", "sticker", "image/webp", media.Image, body{"kind": "sticker", "data": []byte("x"), "animated": true, "width": 512, "height": 512},
			func(m *waE2E.Message) described {
				if s := m.GetStickerMessage(); s.GetIsAnimated() && s.GetWidth() == 512 {
					return s
				}
				return nil
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, m, typ, mediaType := l.sendMedia(p, c.body)
			d := c.of(m)
			if d == nil {
				t.Fatalf("%v", m)
			}
			if typ != "media" || mediaType != c.mediaType || d.GetMimetype() != c.mimetype {
				t.Errorf("%s %s %s", typ, mediaType, d.GetMimetype())
			}
			if now := time.Now().Unix(); d.GetMediaKeyTimestamp() > now || d.GetMediaKeyTimestamp() < now-60 {
				t.Errorf("time of the key %d", d.GetMediaKeyTimestamp())
			}
			if !strings.HasPrefix(d.GetDirectPath(), "/v/t") || !strings.HasPrefix(d.GetURL(), l.info.MediaURL+d.GetDirectPath()) {
				t.Errorf("%s, %s", d.GetDirectPath(), d.GetURL())
			}
			if got := l.fetchFrom(d, c.kind); !bytes.Equal(got, c.body["data"].([]byte)) {
				t.Errorf("%d bytes", len(got))
			}
		})
	}
	l.noComplaints()
}

func TestAnyKindCanBeAReplyAndMediaCanBeRepliedTo(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	to := p.find(ada)
	type body = map[string]any
	photo := l.store([]byte("photo"), media.Image).picture()
	photo.Caption, photo.ContextInfo = text("mine"), &waE2E.ContextInfo{StanzaID: text("X"), Participant: text(to.String())}
	mine := p.sealMessage(to, &waE2E.Message{ImageMessage: photo}, "media", "image")
	p.send(mine)
	l.event(ada, 0, "a photo", messageIs(mine.ID))
	hers, _, _, _ := l.sendMedia(p, body{"kind": "document", "data": []byte("x"), "caption": "hers"})

	context := func(m *waE2E.Message) *waE2E.ContextInfo {
		for _, c := range []*waE2E.ContextInfo{
			m.GetExtendedTextMessage().GetContextInfo(), m.GetImageMessage().GetContextInfo(), m.GetVideoMessage().GetContextInfo(), m.GetPtvMessage().GetContextInfo(),
			m.GetAudioMessage().GetContextInfo(), m.GetDocumentMessage().GetContextInfo(), m.GetStickerMessage().GetContextInfo(), m.GetLocationMessage().GetContextInfo(),
			m.GetContactMessage().GetContextInfo(), m.GetPollCreationMessageV3().GetContextInfo(),
			m.GetDocumentWithCaptionMessage().GetMessage().GetDocumentMessage().GetContextInfo(), m.GetViewOnceMessageV2().GetMessage().GetImageMessage().GetContextInfo(),
		} {
			if c != nil {
				return c
			}
		}
		return nil
	}
	for _, b := range []body{
		{"kind": "text", "text": "re"}, {"kind": "image", "data": []byte("x")}, {"kind": "image", "data": []byte("x"), "view_once": true},
		{"kind": "video", "data": []byte("x")}, {"kind": "video_note", "data": []byte("x")}, {"kind": "gif", "data": []byte("x")},
		{"kind": "voice", "data": []byte("x")}, {"kind": "audio", "data": []byte("x")}, {"kind": "document", "data": []byte("x")},
		{"kind": "document", "data": []byte("x"), "caption": "c"}, {"kind": "sticker", "data": []byte("x")}, {"kind": "location"},
		{"kind": "contact", "name": "Eve", "vcard": "BEGIN:VCARD"}, {"kind": "poll", "question": "?", "options": []string{"a", "b"}},
	} {
		b["reply_to"] = mine.ID
		_, m, _, _ := l.sendMedia(p, b)
		c := context(m)
		if c.GetStanzaID() != mine.ID || c.GetParticipant() != p.jid.String() {
			t.Fatalf("%v: %v", b["kind"], m)
		}
		if q := c.GetQuotedMessage().GetImageMessage(); q.GetCaption() != "mine" || q.GetContextInfo() != nil || !bytes.Equal(q.GetMediaKey(), photo.MediaKey) {
			t.Errorf("%v quotes %v", b["kind"], c.GetQuotedMessage())
		}
		b["reply_to"] = hers
		_, m, _, _ = l.sendMedia(p, b)
		if c = context(m); c.GetParticipant() != to.String() || c.GetQuotedMessage().GetDocumentMessage().GetCaption() != "hers" {
			t.Errorf("%v quotes %v", b["kind"], c)
		}
	}
	var answer struct{ Error string }
	if status := l.do("POST", "/v1/users/"+ada+"/messages", body{"to": matilda, "kind": "timer", "reply_to": mine.ID}, &answer); status != 400 || !strings.Contains(answer.Error, "reply") {
		t.Errorf("a timer in reply: %d %s", status, answer.Error)
	}
}

func TestTheMediaHostWantsItsQueryAndKnowsRanges(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	_, m, _, _ := l.sendMedia(p, map[string]any{"kind": "document", "data": someBytes(1000)})
	path := m.GetDocumentMessage().GetDirectPath()
	whole, _ := fetchURL(t, l.info.MediaURL+path)
	if part, status := fetchURL(t, l.info.MediaURL+path, "Range", "bytes=100-199"); status != 206 || !bytes.Equal(part, whole[100:200]) {
		t.Errorf("a range: %d, %d bytes", status, len(part))
	}
	l.noComplaints()
	if _, status := fetchURL(t, l.info.MediaURL+"/v/t62.7118-24/1_n.enc?oh=x"); status != 404 {
		t.Errorf("what is not there: %d", status)
	}
	l.noComplaints()
	if _, status := fetchURL(t, l.info.MediaURL+path+"&x=1"); status != 200 {
		t.Errorf("with more in the query: %d", status)
	}
	l.complained("another query")
	if _, status := fetchURL(t, l.info.MediaURL+pathOnly(path)); status != 403 {
		t.Errorf("without the query: %d", status)
	}
	l.complained("without the query")
	u, err := url.Parse(l.info.MediaURL + path)
	must(t, err)
	q := u.Query()
	q.Set("oh", "01_guess")
	u.RawQuery = q.Encode()
	if _, status := fetchURL(t, u.String()); status != 403 {
		t.Errorf("with another token: %d", status)
	}
}

func TestFaultsOfTheMediaHostActOnWhatThePartnerDownloads(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	_, m, _, _ := l.sendMedia(p, map[string]any{"kind": "document", "data": someBytes(200_000)})
	at := l.info.MediaURL + m.GetDocumentMessage().GetDirectPath()
	whole, _ := fetchURL(t, at)
	l.fault(map[string]any{"kind": "media_404", "count": 2, "identifier": matilda})
	l.fault(map[string]any{"kind": "media_404", "count": -1, "identifier": "other@example.org"})
	for i, want := range []int{404, 404, 200} {
		if _, status := fetchURL(t, at); status != want {
			t.Errorf("request %d: %d", i, status)
		}
	}
	l.fault(map[string]any{"kind": "media_corrupt"})
	if got, status := fetchURL(t, at); status != 200 || len(got) != len(whole) || got[0] != whole[0]^1 || !bytes.Equal(got[1:], whole[1:]) {
		t.Errorf("not corrupted: %d", status)
	}
	l.fault(map[string]any{"kind": "media_cut"})
	if _, status := fetchURL(t, at); status != -1 {
		t.Errorf("not cut off: %d", status)
	}
	l.fault(map[string]any{"kind": "media_slow", "delay_ms": 20})
	start := time.Now()
	if got, status := fetchURL(t, at); status != 200 || !bytes.Equal(got, whole) || time.Since(start) < 80*time.Millisecond {
		t.Errorf("%d after %v", status, time.Since(start)) // before the answer, and before three further pieces
	}
	l.fault(map[string]any{"kind": "media_slow", "delay_ms": 1})
	if got, status := fetchURL(t, at, "Range", "bytes=5-9"); status != 206 || !bytes.Equal(got, whole[5:10]) {
		t.Errorf("a range: %d, %d bytes", status, len(got))
	}
	if got, status := fetchURL(t, at); status != 200 || !bytes.Equal(got, whole) {
		t.Errorf("afterwards: %d", status)
	}
	l.noComplaints()
}

func TestMediaOfPhonesSurvivesARestartAndGoesAfterThirtyDays(t *testing.T) {
	clock, dir := newClock(), t.TempDir()
	l := newLab(t, func(c *Config) { c.Dir, c.Now = dir, clock.now })
	p := l.ready()
	_, m, _, _ := l.sendMedia(p, map[string]any{"kind": "document", "data": []byte("x")})
	at := m.GetDocumentMessage().GetDirectPath()
	must(t, l.s.Close())
	l.start(Config{Dir: dir, Now: clock.now})
	if _, status := fetchURL(t, l.info.MediaURL+at); status != 200 {
		t.Fatalf("after a restart: %d", status)
	}
	clock.add(keepFor + time.Hour)
	l.s.state.update(func(c change) { c.sweep(l.s) })
	if _, status := fetchURL(t, l.info.MediaURL+at); status != 404 {
		t.Errorf("after 30 days: %d", status)
	}
	if files := l.s.depotFiles(t); len(files) != 0 {
		t.Errorf("%q", files)
	}
}

func TestAMessageThatIsNotSentLeavesNoFile(t *testing.T) {
	l := newLab(t)
	l.ready()
	if status := l.do("POST", "/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "kind": "image", "data": []byte("x"), "reply_to": "Y"}, nil); status != 404 {
		t.Fatal(status)
	}
	if files := l.s.depotFiles(t); len(files) != 0 {
		t.Errorf("%q", files)
	}
}

func TestTheOldestFilesMakeRoom(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	l.sendMedia(p, map[string]any{"kind": "document", "data": []byte("old")})
	old := l.s.depotFiles(t)
	l.s.state.update(func(c change) { c.state.fileBytes = keptFileBytes })
	l.sendMedia(p, map[string]any{"kind": "document", "data": []byte("new")})
	if files := l.s.depotFiles(t); len(files) != 1 || slices.Equal(files, old) {
		t.Errorf("%q, was %q", files, old)
	}
	if _, err := os.Stat(l.s.depot.dir); err != nil {
		t.Error(err)
	}
}

func TestAPhoneCanRefuseRepliesAloneOrMediaAlone(t *testing.T) {
	l := newLab(t, quickRules(nil))
	p := l.ready()
	to := p.find(ada)
	hers := l.say(ada, matilda, "hers")
	p.open(p.want("message", tagIs("message")))
	l.fault(map[string]any{"kind": "nack", "code": 491, "match": "reply"})
	l.fault(map[string]any{"kind": "nack", "code": 415, "match": "media"})
	plain := p.seal(to, "plain")
	p.send(plain)
	l.event(ada, 0, "plain text", messageIs(plain.ID))
	reply := func() *waE2E.Message {
		return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: text("re"), ContextInfo: &waE2E.ContextInfo{
			StanzaID: &hers, Participant: text(to.String()), QuotedMessage: &waE2E.Message{Conversation: text("hers")},
		}}}
	}
	first := p.sealMessage(to, reply(), "text", "")
	p.send(first)
	p.want("ack", isAck("message", first.ID))
	if a := p.want("nack", isAck("message", first.ID)); a.Attr("error") != "491" {
		t.Fatalf("%+v", a)
	}
	second := p.sealMessage(to, reply(), "text", "")
	p.send(second)
	l.event(ada, 0, "the next reply", messageIs(second.ID))
	file := p.sendFile(l.store([]byte("x"), media.Document).document("a"))
	p.want("ack", isAck("message", file))
	if a := p.want("nack", isAck("message", file)); a.Attr("error") != "415" {
		t.Fatalf("%+v", a)
	}
	l.noComplaints()
}

func TestAFileIsUploadedAsItIsAndSentByItsName(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	var up struct {
		Upload string
		Bytes  int
	}
	data := someBytes(70_000)
	l.post("/v1/uploads", string(data), &up)
	if up.Bytes != len(data) {
		t.Fatalf("%+v", up)
	}
	for range 2 {
		_, m, _, _ := l.sendMedia(p, map[string]any{"kind": "video", "upload": up.Upload})
		if got := l.fetchFrom(m.GetVideoMessage(), media.Video); !bytes.Equal(got, data) {
			t.Errorf("%d bytes", len(got))
		}
	}
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 30, 20))))
	l.post("/v1/uploads", picture.String(), &up)
	if _, m, _, _ := l.sendMedia(p, map[string]any{"kind": "image", "upload": up.Upload}); m.GetImageMessage().GetWidth() != 30 {
		t.Errorf("%v", m)
	}
	for _, body := range []map[string]any{{"upload": up.Upload, "data": []byte("x")}, {"upload": "gone"}} {
		body["to"], body["kind"] = matilda, "image"
		if status := l.do("POST", "/v1/users/"+ada+"/messages", body, nil); status != 400 && status != 404 {
			t.Errorf("%v: %d", body, status)
		}
	}
	l.s.prof.Media.MaxVideo = 69_999
	if status := l.do("POST", "/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "kind": "video", "data": data}, nil); status != 400 {
		t.Errorf("a video that is too large: %d", status)
	}
	l.noComplaints()
}

func TestOnlySoManyUploadsAreKeptAndNotForLong(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	var u uploads
	add := func() string {
		f, err := os.CreateTemp(dir, "")
		must(t, err)
		f.Close()
		return u.add(f.Name(), now)
	}
	first := add()
	for range keptUploads {
		add()
	}
	if _, err := u.open(first); err == nil || len(u.list) != keptUploads {
		t.Errorf("%d uploads, %v", len(u.list), err)
	}
	now = now.Add(keepUpload + time.Second)
	last := add()
	f, err := u.open(last)
	must(t, err)
	f.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || len(u.list) != 1 {
		t.Errorf("%d files, %v", len(left), err)
	}
}

func TestAnyMessageCanBeWrapped(t *testing.T) {
	l := newLab(t)
	p := l.ready()
	_, m, _, mediaType := l.sendMedia(p, map[string]any{"kind": "sticker", "data": []byte("x"), "wrap": []string{"lottieStickerMessage", "ephemeralMessage"}})
	s := m.GetEphemeralMessage().GetMessage().GetLottieStickerMessage().GetMessage().GetStickerMessage()
	if s == nil || mediaType != "sticker" || string(l.fetchFrom(s, media.Image)) != "x" {
		t.Errorf("%v", m)
	}
	_, m, _, _ = l.sendMedia(p, map[string]any{"text": "x", "wrap": []string{"groupMentionedMessage"}})
	if m.GetGroupMentionedMessage().GetMessage().GetConversation() != "x" {
		t.Errorf("%v", m)
	}
	for _, wrap := range [][]string{{"imageMessage"}, {"conversation"}, {"nothing"}, make([]string, maxWrappers+1)} {
		if status := l.do("POST", "/v1/users/"+ada+"/messages", map[string]any{"to": matilda, "text": "x", "wrap": wrap}, nil); status != 400 {
			t.Errorf("%v: %d", wrap, status)
		}
	}
}
