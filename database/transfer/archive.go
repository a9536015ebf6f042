package transfer

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/hmac"
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

	"postern/database"
)

// archiveFormat is the version of the format; docs/BACKUP.md describes it.
const archiveFormat = 1

// maxManifest bounds the manifest, in bytes: it has a line for each attachment.
const maxManifest = 1 << 28

// Names of what is in an archive.
const (
	manifestName = "manifest.json"
	macName      = "manifest.mac"
	keyName      = "postern.key"
	tableFolder  = "tables/"
	fileFolder   = "files/"
)

// Manifest says what is in an archive. It is its last part but one: an archive without it is not whole.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"`
	Made    time.Time `json:"made"`
	// Dialect is the kind of database: sqlite3 or postgres.
	Dialect  string             `json:"dialect"`
	Versions map[string]Version `json:"versions"`
	// Setup makes the tables, and Finish what is to be made when their rows are there; both in the words of Dialect.
	Setup  []string    `json:"setup"`
	Finish []string    `json:"finish"`
	Tables []TablePart `json:"tables"`
	Files  []FilePart  `json:"files"`
	// Missing is how many attachments of the index were not there whole. FilesLeftOut: none were looked for.
	Missing      int  `json:"missing"`
	FilesLeftOut bool `json:"files_left_out"`
	// Key: the key file is in the archive.
	Key bool `json:"key"`
}

// TablePart is a table in an archive.
type TablePart struct {
	Table
	Rows int64 `json:"rows"`
	// Sum is over the rows as values, SHA256 over the part as bytes.
	Sum    string `json:"sum"`
	SHA256 string `json:"sha256"`
}

// FilePart is an attachment in an archive, encrypted as it lies in the store.
type FilePart struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
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
	file *os.File
	zip  *zip.Writer
}

func createArchive(path string) (*archiveWriter, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("transfer: %s: %w", path, fs.ErrExist)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("transfer: create archive: %w", err)
	}
	return &archiveWriter{path: path, file: file, zip: zip.NewWriter(file)}, nil
}

// part writes a part and returns its hash.
func (a *archiveWriter) part(name string, method uint16, fill func(w io.Writer) error) (string, error) {
	w, err := a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: method, Modified: a.Made})
	if err != nil {
		return "", fmt.Errorf("transfer: write archive: %w", err)
	}
	hash := sha256.New()
	if err := fill(io.MultiWriter(w, hash)); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (a *archiveWriter) text(name string, text []byte) error {
	_, err := a.part(name, zip.Deflate, func(w io.Writer) error { _, err := w.Write(text); return err })
	return err
}

// end writes the manifest and gives the archive its name.
func (a *archiveWriter) end(key [database.KeySize]byte) error {
	raw, err := json.MarshalIndent(&a.Manifest, "", "\t")
	if err == nil {
		err = a.text(manifestName, raw)
	}
	if err == nil {
		err = a.text(macName, []byte(manifestMAC(key, raw)+"\n"))
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
		err = name(a.file.Name(), a.path)
	}
	if err != nil {
		return fmt.Errorf("transfer: write archive: %w", err)
	}
	return nil
}

// name gives a whole file its name, unless something has it, and returns when that is on disk.
func name(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		err = os.Remove(from)
	} else if !errors.Is(err, fs.ErrExist) { // a file system without links
		if _, there := os.Lstat(to); !errors.Is(there, fs.ErrNotExist) {
			return fs.ErrExist
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// abort leaves nothing behind.
func (a *archiveWriter) abort() {
	_ = a.file.Close()
	_ = os.Remove(a.file.Name())
}

// Archive is an archive that is read.
type Archive struct {
	Manifest
	zip *zip.ReadCloser
	raw []byte // the manifest's bytes
	mac string
}

// OpenArchive opens an archive and reads what it says about itself, which is not believed before Check. ErrArchive if it is not whole, or an archive of another
// format.
func OpenArchive(path string) (*Archive, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("transfer: open archive: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrArchive, path)
	}
	reader, err := zip.OpenReader(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("transfer: open archive: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	a := &Archive{zip: reader}
	mac, err := a.read(macName, 1024)
	if err == nil {
		a.mac = strings.TrimSpace(string(mac))
		a.raw, err = a.read(manifestName, maxManifest)
	}
	if err == nil {
		if err = json.Unmarshal(a.raw, &a.Manifest); err != nil {
			err = fmt.Errorf("%w: %w", ErrArchive, err)
		} else if a.Format != archiveFormat {
			err = fmt.Errorf("%w: its format is %d, and this program knows %d", ErrArchive, a.Format, archiveFormat)
		}
	}
	for i := range a.Tables {
		for j := range a.Tables[i].Columns {
			if err == nil {
				err = a.Tables[i].Columns[j].understand(a.Tables[i].Name)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	return a, nil
}

// Close closes the file.
func (a *Archive) Close() error { return a.zip.Close() }

func (a *Archive) open(name string) (io.ReadCloser, error) {
	for _, part := range a.zip.File {
		if part.Name == name {
			r, err := part.Open()
			if err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
			}
			return r, nil
		}
	}
	return nil, fmt.Errorf("%w: %s is not there", ErrArchive, name)
}

// read reads a small part.
func (a *Archive) read(name string, limit int64) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = errors.New("too long")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
	}
	return raw, nil
}

// KeyFile is the key file in the archive, nil if there is none.
func (a *Archive) KeyFile() ([]byte, error) {
	if !a.Key {
		return nil, nil
	}
	return a.read(keyName, 1024)
}

// Check reads all of the archive and says whether it is as it was made, under this key: ErrKey, ErrArchive.
func (a *Archive) Check(ctx context.Context, key [database.KeySize]byte) error {
	if !hmac.Equal([]byte(a.mac), []byte(manifestMAC(key, a.raw))) {
		return ErrKey
	}
	parts := map[string]string{}
	for _, t := range a.Tables {
		parts[tableFolder+t.Name+".jsonl"] = t.SHA256
	}
	for _, f := range a.Files {
		parts[fileFolder+f.Name] = f.SHA256
	}
	found := map[string]*zip.File{}
	for _, part := range a.zip.File {
		found[part.Name] = part
	}
	for name, want := range parts {
		part := found[name]
		if part == nil {
			return fmt.Errorf("%w: %s is not there", ErrArchive, name)
		}
		hash := sha256.New()
		r, err := part.Open()
		if err == nil {
			_, err = io.Copy(hash, withContext(ctx, r))
			err = errors.Join(err, r.Close())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
		}
		if hex.EncodeToString(hash.Sum(nil)) != want {
			return fmt.Errorf("%w: %s is not what was written", ErrArchive, name)
		}
	}
	return nil
}

// readerFunc is a Read.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

// rows gives fn each row of a table.
func (a *Archive) rows(t *TablePart, fn func(row []any) error) (err error) {
	r, err := a.open(tableFolder + t.Name + ".jsonl")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	decoder, n := json.NewDecoder(r), int64(0)
	for {
		row, err := decodeRow(decoder, len(t.Columns))
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrArchive, t.Name, err)
		}
		if err := fn(row); err != nil {
			return err
		}
		n++
	}
	if n != t.Rows {
		return fmt.Errorf("%w: %s has %d rows, and not %d", ErrArchive, t.Name, n, t.Rows)
	}
	return nil
}

// tableBytes writes rows as they lie in an archive.
type tableBytes struct {
	w   io.Writer
	buf bytes.Buffer
}

func (b *tableBytes) row(row []any) error {
	line, err := encodeRow(row)
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
