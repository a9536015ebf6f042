package database_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// The two vectors of the C2SP XAES-256-GCM specification (one for each value of the derivation's branch).
func TestSealedColumnsUseXAESAsPublished(t *testing.T) {
	nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
	for _, c := range []struct {
		key       byte
		aad, want string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		got, err := database.XAES([32]byte(bytes.Repeat([]byte{c.key}, 32)), nonce, []byte("XAES-256-GCM"), []byte(c.aad))
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("key %d: %x (%v), want %s", c.key, got, err, c.want)
		}
	}
}

func TestASealedValueOpensOnlyInItsPlace(t *testing.T) {
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	plaintext := []byte("the plaintext")
	sealed := db.Seal("t.c", "row", 7, plaintext)
	if len(sealed) != len(plaintext)+database.SealOverhead || bytes.Contains(sealed, plaintext) {
		t.Errorf("sealed to %x", sealed)
	}
	if got, err := db.Unseal("t.c", "row", 7, sealed); err != nil || !bytes.Equal(got, plaintext) {
		t.Fatalf("%q, %v", got, err)
	}
	if bytes.Equal(sealed, db.Seal("t.c", "row", 7, plaintext)) {
		t.Error("two seals of one value are equal")
	}
	for _, c := range []struct {
		what, column, row string
		version           int
	}{
		{"another row", "t.c", "rov", 7}, {"another column", "t.d", "row", 7}, {"an older version", "t.c", "row", 6},
		{"a newer version", "t.c", "row", 8}, {"shifted names", "t.cr", "ow", 7}, {"no row", "t.c", "", 7}, {"negative version", "t.c", "row", -7},
	} {
		if _, err := db.Unseal(c.column, c.row, c.version, sealed); !errors.Is(err, database.ErrSealBroken) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := db.Unseal("t.c", "row", 7, bad); !errors.Is(err, database.ErrSealBroken) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := db.Unseal("t.c", "row", 7, sealed[:i]); !errors.Is(err, database.ErrSealBroken) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := db.Unseal("t.c", "row", 7, append(sealed, 0)); !errors.Is(err, database.ErrSealBroken) {
		t.Error("a trailing byte was accepted")
	}
	if got, err := db.Unseal("t.c", "", 0, db.Seal("t.c", "", 0, nil)); err != nil || len(got) != 0 {
		t.Errorf("nothing sealed: %q, %v", got, err)
	}
}

func TestRowKeysAndIndexesKeepTheirPartsApart(t *testing.T) {
	if database.RowKey("a", "bc") == database.RowKey("ab", "c") || database.RowKey("a") == database.RowKey("a", "") {
		t.Error("two keys are equal")
	}
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	a := db.BlindIndex("t.c", "value")
	if !bytes.Equal(a, db.BlindIndex("t.c", "value")) || bytes.Equal(a, db.BlindIndex("t.d", "value")) || bytes.Equal(a, db.BlindIndex("t.", "cvalue")) {
		t.Error("the index does not tell values of different columns apart")
	}
}

func TestAnotherMasterKeyIsRefusedInWords(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		if err := databasetest.Open(t, cfg).Close(); err != nil {
			t.Fatal(err)
		}
		wrong := cfg
		wrong.MasterKey[31] ^= 1
		if _, err := database.Open(t.Context(), wrong); !errors.Is(err, database.ErrWrongKey) {
			t.Errorf("the wrong key got %v", err)
		}
		databasetest.Open(t, cfg) // and the right one still opens it
	})
}

func TestAKeyFileIsMadeOnceAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var keys [8][database.KeySize]byte
	var wg sync.WaitGroup
	for i := range keys { // several processes at their first start
		wg.Go(func() {
			var err error
			if keys[i], err = database.LoadOrCreateKeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] || k == [database.KeySize]byte{} {
			t.Fatal("the keys differ")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

func TestABadKeyFileIsRefusedAndNeverOverwritten(t *testing.T) {
	good := "postern-key-1:" + strings.Repeat("A", 43) + "=\n"
	for _, c := range []struct {
		name, text string
		mode       fs.FileMode
		want       error
	}{
		{"a good one", good, 0o600, nil},
		{"a good one, read-only", good, 0o400, nil},
		{"without the last line end", strings.TrimSpace(good), 0o600, nil},
		{"readable for the group", good, 0o640, database.ErrKeyFilePermissions},
		{"readable for all", good, 0o604, database.ErrKeyFilePermissions},
		{"writable for all", good, 0o602, database.ErrKeyFilePermissions},
		{"empty", "", 0o600, database.ErrKeyFileFormat},
		{"another prefix", "postern-key-2:" + good[14:], 0o600, database.ErrKeyFileFormat},
		{"too short", "postern-key-1:AAAA\n", 0o600, database.ErrKeyFileFormat},
		{"two lines", good + good, 0o600, database.ErrKeyFileFormat},
		{"far too long", good + strings.Repeat("\n", 1<<16), 0o600, database.ErrKeyFileFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := database.LoadOrCreateKeyFile(path); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != c.text {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := database.LoadOrCreateKeyFile(t.TempDir()); !errors.Is(err, database.ErrKeyFileFormat) {
		t.Errorf("a folder got %v", err)
	}
	if _, err := database.LoadOrCreateKeyFile(filepath.Join(t.TempDir(), "none", "key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder got %v", err)
	}
}
