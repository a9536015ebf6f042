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
	gohash "hash"
	"io"
	"io/fs"
	"os"
	"strings"

	"postern/database"
)

// Archive is an archive that is read. What its manifest says is known to come from whoever has the key.
type Archive struct {
	Manifest
	key   [database.KeySize]byte
	file  io.Closer
	parts map[string]*zip.File
}

// OpenArchive opens an archive. key is asked for the master key, and is given the key file that the archive brings along, which may be anybody's, or nil. What the archive says about itself
// is read only when it is known to be made under that key; its other parts are looked through by Check, and again by Restore. The error is ErrArchive if it is not
// whole, or of another format, ErrKey, or what key says.
func OpenArchive(path string, key func(inArchive []byte) ([database.KeySize]byte, error)) (*Archive, error) {
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
	a := &Archive{file: reader}
	if err := a.read(&reader.Reader, key); err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	return a, nil
}

// Close closes the file.
func (a *Archive) Close() error { return a.file.Close() }

// read reads the manifest, and looks that nothing is in the archive but what that lists.
func (a *Archive) read(from *zip.Reader, key func(inArchive []byte) ([database.KeySize]byte, error)) error {
	a.parts = make(map[string]*zip.File, len(from.File))
	for _, part := range from.File {
		if a.parts[part.Name] != nil {
			return fmt.Errorf("%w: two parts have one name", ErrArchive)
		}
		a.parts[part.Name] = part
	}
	mac, err := a.small(macName, maxMAC)
	if err != nil {
		return err
	}
	raw, err := a.small(manifestName, maxManifest)
	if err != nil {
		return err
	}
	var inArchive []byte
	if a.parts[keyName] != nil {
		if inArchive, err = a.small(keyName, maxKeyFile); err != nil {
			return err
		}
	}
	if a.key, err = key(inArchive); err != nil {
		return err
	}
	if !hmac.Equal(bytes.TrimSpace(mac), []byte(manifestMAC(a.key, raw))) {
		return ErrKey
	}
	if err := json.Unmarshal(raw, &a.Manifest); err != nil {
		// Another format may have another kind of value somewhere: then the format is what is wrong.
		var of struct{ Format int }
		if json.Unmarshal(raw, &of) == nil && of.Format != archiveFormat {
			return fmt.Errorf("%w: its format is %d, and this program knows %d", ErrArchive, of.Format, archiveFormat)
		}
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if err := a.sound(); err != nil {
		return err
	}
	return a.listed(inArchive != nil)
}

// listed says whether the parts are those that the manifest lists; attachments are counted here, and looked for one by one when they are read.
func (a *Archive) listed(key bool) error {
	if key != a.Key {
		return fmt.Errorf("%w: the key file is not as the manifest says", ErrArchive)
	}
	want := []string{macName, manifestName, fileList}
	if key {
		want = append(want, keyName)
	}
	for i := range a.Tables {
		want = append(want, a.Tables[i].part())
	}
	for _, name := range want {
		if a.parts[name] == nil {
			return fmt.Errorf("%w: %s is not there", ErrArchive, name)
		}
	}
	files := 0
	for name := range a.parts {
		if rest, ok := strings.CutPrefix(name, fileFolder); ok {
			if _, ok := hash(rest); ok {
				files++
			}
		}
	}
	if files != a.Files || len(want)+files != len(a.parts) {
		return fmt.Errorf("%w: it has other parts than its manifest", ErrArchive)
	}
	return nil
}

func (a *Archive) open(name string) (io.ReadCloser, error) {
	part := a.parts[name]
	if part == nil {
		return nil, fmt.Errorf("%w: %s is not there", ErrArchive, name)
	}
	r, err := part.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
	}
	return r, nil
}

// small reads a small part.
func (a *Archive) small(name string, limit int64) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err == nil && int64(len(raw)) > limit {
		err = errors.New("too long")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
	}
	return raw, nil
}

// Check reads all of the archive and says whether it is as it was made: ErrArchive.
func (a *Archive) Check(ctx context.Context) error {
	for i := range a.Tables {
		if err := a.rows(ctx, &a.Tables[i], func([]any) error { return nil }); err != nil {
			return err
		}
	}
	return a.files(ctx, func(_ *FilePart, _ [sha256.Size]byte, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	})
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

// passed is an error of the one who is given a line, which is no fault of the archive.
type passed struct{ error }

func (p passed) Unwrap() error { return p.error }

// sealed gives fn each line of a sealed part.
func (a *Archive) sealed(ctx context.Context, name string, fn func(line []byte) error) (err error) {
	aead, err := partCipher(a.key, a.Salt, name)
	if err != nil {
		return err
	}
	r, err := a.open(name)
	if err != nil {
		return err
	}
	err = lines(withContext(ctx, r), aead, fn)
	err = errors.Join(err, r.Close())
	var own passed
	switch {
	case err == nil, errors.Is(err, ErrArchive), ctx.Err() != nil:
		return err
	case errors.As(err, &own):
		return own.error
	}
	return fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
}

// rows gives fn each row of a table. It fails if the rows are not those that the manifest says.
func (a *Archive) rows(ctx context.Context, t *TablePart, fn func(row []any) error) error {
	sum, n := sha256.New(), int64(0)
	err := a.sealed(ctx, t.part(), func(line []byte) error {
		sum.Write(line)
		sum.Write([]byte{'\n'})
		row, err := decodeRow(line, len(t.Columns))
		if err != nil {
			return err
		}
		if n++; n > t.Rows {
			return fmt.Errorf("more than %d rows", t.Rows)
		}
		if err := fn(row); err != nil {
			return passed{err}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n != t.Rows || hex.EncodeToString(sum.Sum(nil)) != t.SHA256 {
		return fmt.Errorf("%w: %s is not what was written", ErrArchive, t.Name)
	}
	return nil
}

// files gives fn each attachment. Reading it fails at its end if it is not what the list says.
func (a *Archive) files(ctx context.Context, fn func(file *FilePart, name [sha256.Size]byte, content io.Reader) error) error {
	before, n := "", 0
	err := a.sealed(ctx, fileList, func(line []byte) error {
		var file FilePart
		if err := json.Unmarshal(line, &file); err != nil {
			return err
		}
		name, ok := hash(file.Name)
		if _, sum := hash(file.SHA256); !ok || !sum || file.Size < 0 || file.Name <= before {
			return errors.New("an attachment that cannot be")
		}
		before = file.Name
		if n++; n > a.Files {
			return errors.New("more attachments than the manifest says")
		}
		r, err := a.open(fileFolder + file.Name)
		if err != nil {
			return err
		}
		checked := &checkedReader{from: withContext(ctx, r), file: &file, sum: sha256.New()}
		err = fn(&file, name, checked)
		if err == nil && !checked.whole {
			_, err = io.Copy(io.Discard, checked)
		}
		if err = errors.Join(err, r.Close()); err != nil {
			return passed{err}
		}
		return nil
	})
	if err == nil && n != a.Files {
		err = fmt.Errorf("%w: %d attachments are listed, and not %d", ErrArchive, n, a.Files)
	}
	return err
}

// checkedReader reads an attachment, and fails in the place of its end if it was not what the list says.
type checkedReader struct {
	from  io.Reader
	file  *FilePart
	sum   gohash.Hash
	n     int64
	whole bool // all of it was read, and is right
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.sum.Write(p[:n])
	if c.n += int64(n); c.n > c.file.Size {
		return 0, fmt.Errorf("%w: an attachment is longer than it was", ErrArchive)
	}
	if errors.Is(err, io.EOF) {
		if c.n != c.file.Size || hex.EncodeToString(c.sum.Sum(nil)) != c.file.SHA256 {
			return n, fmt.Errorf("%w: an attachment is not what was written", ErrArchive)
		}
		c.whole = true
	} else if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: an attachment: %w", ErrArchive, err)
	}
	return n, err
}
