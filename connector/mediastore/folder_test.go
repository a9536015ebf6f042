package mediastore_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"postern/connector/mediastore"
)

// TestABlobThatIsPutBackReplacesADamagedOneAndNoSoundOne: by size and hash.
func TestABlobThatIsPutBackReplacesADamagedOneAndNoSoundOne(t *testing.T) {
	dir := t.TempDir()
	backend, err := mediastore.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	name, content := mediastore.NameOf("a"), []byte("the attachment as it was")
	path := filepath.Join(dir, name.String()[:2], name.String()[2:4], name.String())
	for there, taken := range map[string]bool{"": true, "the attachment as it was": false, "the attachment is it was": true, "the": true, "the attachment as it was, and more": true} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if there != "" {
			if err := os.WriteFile(path, []byte(there), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		from := bytes.NewReader(content)
		if err := mediastore.PutInto(t.Context(), backend, name, int64(len(content)), sha256.Sum256(content), from); err != nil {
			t.Errorf("over %q: %v", there, err)
		}
		if (from.Len() == 0) != taken {
			t.Errorf("over %q: taken from the backup: %v, want %v", there, !taken, taken)
		}
		r, err := mediastore.OpenIn(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if r.Close(); err != nil || !bytes.Equal(got, content) {
			t.Errorf("over %q: %q (%v)", there, got, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
