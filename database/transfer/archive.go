package transfer

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.mau.fi/util/dbutil"

	"postern/database"
)

// archiveFormat is the version of the format; docs/BACKUP.md describes it.
const archiveFormat = 2

// Bounds, for who writes and for who reads; in bytes, where they do not count something.
const (
	maxManifest   = 1 << 23
	maxKeyFile    = 1024
	maxMAC        = 1024
	maxTables     = 1000
	maxColumns    = 1000 // of one table
	maxStatements = 10_000
)

// Names of what is in an archive.
const (
	manifestName = "manifest.json"
	macName      = "manifest.mac"
	keyName      = "postern.key"
	tableFolder  = "tables/"
	fileFolder   = "files/"
	fileList     = "files.sealed"
)

// Manifest says what is in an archive. It is its last part but one: an archive without it is not whole.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"`
	Made    time.Time `json:"made"`
	// Salt is drawn for each archive: the keys of its parts follow from it.
	Salt []byte `json:"salt"`
	// Dialect is the kind of database: sqlite3 or postgres.
	Dialect  string             `json:"dialect"`
	Versions map[string]Version `json:"versions"`
	// Setup makes the tables, and Finish what is to be made when their rows are there; both in the words of Dialect.
	Setup  []string    `json:"setup"`
	Finish []string    `json:"finish"`
	Tables []TablePart `json:"tables"`
	// Files is how many attachments are in it; a part of its own lists them.
	Files int `json:"files"`
	// Missing is how many attachments of the index were not there whole. FilesLeftOut: none were looked for.
	Missing      int  `json:"missing"`
	FilesLeftOut bool `json:"files_left_out"`
	// Key: the key file is in the archive.
	Key bool `json:"key"`
	// LeftOut are tables and indexes of the database that are not the bridge's, nor the framework's.
	LeftOut []string `json:"left_out"`
}

// TablePart is a table in an archive.
type TablePart struct {
	Table
	Rows int64 `json:"rows"`
	// Sum is over the rows as values, SHA256 over the lines of the part.
	Sum    string `json:"sum"`
	SHA256 string `json:"sha256"`
}

func (t *TablePart) part() string { return tableFolder + t.Name + ".sealed" }

// FilePart is an attachment in an archive, encrypted as it lies in the store.
type FilePart struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// hash reads a SHA-256 in hexadecimal digits, in the one form that they are written in.
func hash(text string) (sum [sha256.Size]byte, ok bool) {
	if len(text) != 2*len(sum) || strings.ToLower(text) != text {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(text))
	return sum, err == nil
}

// sound says whether an archive may have this manifest. What it says about the statements is changed to what is to be run.
//
//nolint:gocyclo // one case for each rule
func (m *Manifest) sound() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: manifest: %w", ErrArchive, fmt.Errorf(format, args...))
	}
	switch {
	case m.Format != archiveFormat:
		return fmt.Errorf("%w: its format is %d, and this program knows %d", ErrArchive, m.Format, archiveFormat)
	case len(m.Salt) != saltSize:
		return bad("no salt")
	case m.Dialect != dbutil.SQLite.String() && m.Dialect != dbutil.Postgres.String():
		return bad("a kind of database that is not known")
	case len(m.Tables) > maxTables, len(m.Setup) > maxStatements, len(m.Finish) > maxStatements, m.Files < 0, m.Missing < 0, m.FilesLeftOut && m.Files > 0:
		return bad("counts that cannot be")
	}
	names := map[string]bool{}
	for i := range m.Tables {
		t := &m.Tables[i]
		if !belongs(t.Name) || strings.ContainsAny(t.Name, "/\\\x00") || names[t.Name] || len(t.Columns) == 0 || len(t.Columns) > maxColumns {
			return bad("a table that cannot be")
		}
		names[t.Name] = true
		columns := map[string]bool{}
		for j := range t.Columns {
			if err := t.Columns[j].understand(t.Name); err != nil || columns[t.Columns[j].Name] {
				return bad("a column that cannot be (%w)", err)
			}
			columns[t.Columns[j].Name] = true
		}
	}
	for _, statements := range [][]string{m.Setup, m.Finish} {
		for i, statement := range statements {
			plain, err := plainStatement(statement)
			if err != nil {
				return bad("%w", err)
			}
			statements[i] = plain
		}
	}
	return nil
}

// manifestMAC is what says that an archive was made by whoever has the master key.
func manifestMAC(key [database.KeySize]byte, manifest []byte) string {
	derived := hmac.New(sha256.New, key[:])
	derived.Write([]byte("postern backup archives"))
	mac := hmac.New(sha256.New, derived.Sum(nil))
	mac.Write(manifest)
	return hex.EncodeToString(mac.Sum(nil))
}

// archiveWriter writes an archive under another name, which becomes its own when all of it is on disk.
type archiveWriter struct {
	Manifest
	path string
	key  [database.KeySize]byte
	file *os.File
	zip  *zip.Writer
}

func createArchive(path string, key [database.KeySize]byte) (*archiveWriter, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("transfer: %s: %w", path, fs.ErrExist)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("transfer: create archive: %w", err)
	}
	a := &archiveWriter{path: path, key: key, file: file, zip: zip.NewWriter(file)}
	a.Salt = make([]byte, saltSize)
	_, _ = rand.Read(a.Salt) // never fails
	return a, nil
}

// part writes a part as it is.
func (a *archiveWriter) part(name string, fill func(w io.Writer) error) error {
	w, err := a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: a.Made})
	if err != nil {
		return fmt.Errorf("transfer: write archive: %w", err)
	}
	return fill(w)
}

// sealed writes a part that nobody reads without the key, and returns the hash of what was sealed.
func (a *archiveWriter) sealed(name string, fill func(w io.Writer) error) (string, error) {
	aead, err := partCipher(a.key, a.Salt, name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	err = a.part(name, func(w io.Writer) error {
		return sealTo(w, aead, func(w io.Writer) error { return fill(io.MultiWriter(w, sum)) })
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

func (a *archiveWriter) text(name string, text []byte) error {
	return a.part(name, func(w io.Writer) error { _, err := w.Write(text); return err })
}

// end writes the manifest, reads all of the archive again, and gives it its name.
func (a *archiveWriter) end(ctx context.Context) error {
	raw, err := json.MarshalIndent(&a.Manifest, "", "\t")
	if err == nil && len(raw) > maxManifest {
		err = errors.New("so many tables cannot be described")
	}
	if err == nil {
		err = a.text(manifestName, raw)
	}
	if err == nil {
		err = a.text(macName, []byte(manifestMAC(a.key, raw)+"\n"))
	}
	if err == nil {
		err = a.zip.Close()
	}
	if err == nil {
		err = a.file.Sync()
	}
	if err == nil {
		err = a.file.Close()
	}
	if err == nil {
		err = a.again(ctx)
	}
	if err == nil {
		var named bool
		if named, err = name(a.file.Name(), a.path, func() error { return nil }); named && err != nil {
			err = errors.Join(err, os.Remove(a.path)) // nothing stays of what was not finished
		}
	}
	if err != nil {
		return fmt.Errorf("transfer: write archive: %w", err)
	}
	return nil
}

// again reads what was written as whoever restores it will.
func (a *archiveWriter) again(ctx context.Context) error {
	written, err := OpenArchive(a.file.Name(), func([]byte) ([database.KeySize]byte, error) { return a.key, nil })
	if err != nil {
		return err
	}
	return errors.Join(written.Check(ctx), written.Close())
}

// name gives a whole file its name, unless something has it, and returns when that is on disk. named says that the file has it, also if there is an
// error: then the name, or the end of the other one, may not be on disk. linked is called when it has both names.
func name(from, to string, linked func() error) (named bool, err error) {
	err = os.Link(from, to)
	if err == nil {
		if err = linked(); err == nil {
			err = os.Remove(from)
		}
		if err != nil {
			return true, err
		}
	} else if !errors.Is(err, fs.ErrExist) { // a file system without links
		if _, there := os.Lstat(to); !errors.Is(there, fs.ErrNotExist) {
			return false, fs.ErrExist
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return false, err
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return true, err
	}
	return true, errors.Join(folder.Sync(), folder.Close())
}

// abort leaves nothing behind.
func (a *archiveWriter) abort() {
	_ = a.file.Close()
	_ = os.Remove(a.file.Name())
}

// tableBytes writes rows as they lie in an archive.
type tableBytes struct {
	w   io.Writer
	buf bytes.Buffer
}

func (b *tableBytes) row(row []any) error {
	line, err := encodeRow(row)
	if err == nil && len(line) > maxLine-sealChunk {
		err = errors.New("transfer: a row is too long for an archive")
	}
	if err != nil {
		return err
	}
	if b.buf.Write(line); b.buf.Len() < 1<<16 {
		return nil
	}
	return b.flush()
}

func (b *tableBytes) flush() error {
	_, err := b.buf.WriteTo(b.w)
	return err
}
