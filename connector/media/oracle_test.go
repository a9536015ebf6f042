package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/util/cbcutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
)

// needOpenssl skips the test where there is no openssl; where everything must be there, its absence is an error.
func needOpenssl(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing (on Debian: apt-get install openssl)")
	}
}

func TestOpensslAloneDecryptsWhatWeEncrypt(t *testing.T) {
	needOpenssl(t)
	plain := plaintext(3*chunk + 21)
	file, d := encrypted(t, plain, Video)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "file"), filepath.Join(dir, "plain")
	run := func(file []byte) (string, error) {
		if err := os.WriteFile(in, file, 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command("sh", "testdata/decrypt.sh", in, hex.EncodeToString(d.Key[:]), "WhatsApp Video Keys", out).CombinedOutput()
		return strings.TrimSpace(string(said)), err
	}
	said, err := run(file)
	if err != nil || said != hex.EncodeToString(d.SHA256[:]) {
		t.Fatalf("%v: %s", err, said)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%v, or another plaintext", err)
	}
	file[100] ^= 1
	if said, err = run(file); err == nil || said != "wrong MAC" {
		t.Errorf("a changed file: %v: %s", err, said)
	}
}

func TestAnotherClientsLibraryReadsAndWritesTheSame(t *testing.T) {
	for _, n := range []int{0, 1, 16, chunk - 1, chunk, 2*chunk + 7} {
		plain := plaintext(n)
		key := testKey()
		expanded := hkdfutil.SHA256(key[:], nil, []byte("WhatsApp Document Keys"), 112)
		iv, cipherKey, macKey := expanded[:16], expanded[16:48], expanded[48:80]

		var theirs bytes.Buffer
		sum, encSum, size, _, err := cbcutil.EncryptStream(cipherKey, iv, macKey, bytes.NewReader(plain), &theirs)
		if err != nil {
			t.Fatal(err)
		}
		ours, d := encrypted(t, plain, Document)
		if !bytes.Equal(ours, theirs.Bytes()) || !bytes.Equal(sum, d.SHA256[:]) || !bytes.Equal(encSum, d.EncSHA256[:]) || int64(size) != d.Length {
			t.Errorf("%d bytes: another file", n)
		}
		got, err := cbcutil.Decrypt(cipherKey, iv, bytes.Clone(ours[:len(ours)-macSize]))
		if err != nil || sha256.Sum256(got) != d.SHA256 {
			t.Errorf("%d bytes: %v, or another plaintext", n, err)
		}
	}
}
