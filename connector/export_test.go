package connector

import (
	"encoding/json"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

func TestWhatIsExportedCanBeReadAndHasNoKeys(t *testing.T) {
	message, err := proto.Marshal(&waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
		Caption: proto.String("the words"), MediaKey: []byte("0123456789abcdef0123456789abcdef"), FileName: proto.String("a file"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		table, column string
		raw           []byte
		has           []string
	}{
		{"postern_in", "payload", message, []string{"the words", "a file"}},
		{"postern_out", "plaintext", message, []string{"the words", "a file"}},
		{"postern_out", "recipe", []byte(`{"caption":"x","file":{"url":"mxc://a/b","key":{"alg":"A256CTR","k":"c2VjcmV0"}},"list":[{"k":"c2VjcmV0"}]}`), []string{"mxc://a/b", "A256CTR"}},
		{"postern_account", "identifier", []byte("alice"), []string{"alice"}},
		{"postern_media", "sha256", []byte{0xff, 0}, []string{"/wA="}},
	} {
		raw, err := json.Marshal(readable(c.table, c.column, c.raw))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range c.has {
			if !strings.Contains(string(raw), part) {
				t.Errorf("%s.%s: %q is not in %s", c.table, c.column, part, raw)
			}
		}
		for _, part := range []string{"mediaKey", "c2VjcmV0", "MDEyMzQ1"} {
			if strings.Contains(string(raw), part) {
				t.Errorf("%s.%s: %q is in %s", c.table, c.column, part, raw)
			}
		}
	}
}
