package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/database"
)

// Attachments are the files of the media store. A name is the hash that the index has.
type Attachments struct {
	// Open opens a file for reading; an error that wraps fs.ErrNotExist if it is not there.
	Open func(name [sha256.Size]byte) (io.ReadCloser, error)
	// Put stores a file of that size in bytes and with that hash, unless it is there already as it should be. Reading the content fails at its end if it is another one.
	// It is called only while no bridge uses the database.
	Put func(ctx context.Context, name [sha256.Size]byte, size int64, sum [sha256.Size]byte, content io.Reader) error
}

// BackupOptions say what is in a backup besides the database.
type BackupOptions struct {
	// Files, if set, are the attachments; of those only the ones are taken that the index has.
	Files *Attachments
	// KeyFile, if set, is the key file's content.
	KeyFile []byte
}

// Backup writes an archive of the bridge's database as it is at one moment, be the bridge running or not. out is the file, which must not be there, or a folder, in which
// it is named after the time. Nothing of an archive that was not finished stays, or if the process is killed, a file whose name begins with a dot and ends in .partial.
func Backup(ctx context.Context, cfg Config, out string, options BackupOptions) (path string, manifest *Manifest, err error) {
	now := time.Now().UTC()
	if info, err := os.Stat(out); err == nil && info.IsDir() {
		out = filepath.Join(out, "postern-backup-"+now.Format("20060102T150405Z")+".zip")
	}
	base, err := open(ctx, cfg.Database)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	if base.Schema == 0 {
		return "", nil, fmt.Errorf("transfer: no tables of a bridge's: %w", fs.ErrNotExist)
	}
	if len(options.KeyFile) > maxKeyFile {
		return "", nil, errors.New("transfer: the key file is none")
	}
	a, err := createArchive(out, cfg.Database.MasterKey)
	if err != nil {
		return "", nil, err
	}
	a.Format, a.Program, a.Made, a.Dialect = archiveFormat, cfg.Program, now, base.Raw().Dialect.String()
	a.FilesLeftOut, a.Key = options.Files == nil, options.KeyFile != nil
	var files []FilePart
	err = snapshot(ctx, base.Raw(), func(from queryer) error {
		var err error
		files, err = a.database(ctx, &cfg, base, from)
		return err
	})
	if err == nil {
		err = a.attachments(ctx, files, options.Files)
	}
	if err == nil && options.KeyFile != nil {
		err = a.text(keyName, options.KeyFile)
	}
	if err == nil {
		err = a.end(ctx)
	}
	if err != nil {
		a.abort()
		return "", nil, err
	}
	return out, &a.Manifest, nil
}

// database writes the tables, and returns what the index of the media store has.
func (a *archiveWriter) database(ctx context.Context, cfg *Config, base *database.Inspection, from queryer) (files []FilePart, err error) {
	dialect := base.Raw().Dialect
	found, err := readShape(ctx, from, dialect)
	if err != nil {
		return nil, err
	}
	if a.Versions, err = cfg.readVersions(ctx, from, found.tables); err != nil {
		return nil, err
	}
	if err = cfg.checkVersions(a.Versions, false); err != nil {
		return nil, err
	}
	a.LeftOut = found.leftOut
	if a.Setup, err = a.plain(found.setup, false); err != nil {
		return nil, err
	}
	if a.Finish, err = a.plain(found.finish, true); err != nil {
		return nil, err
	}
	for i := range found.tables {
		t := &found.tables[i]
		summer := newSummer(t.Columns)
		part := TablePart{Table: *t}
		part.SHA256, err = a.sealed(part.part(), func(w io.Writer) error {
			lines := tableBytes{w: w}
			err := readRows(ctx, from, dialect, t, func(row []any) error {
				if t.Name == "postern_media" {
					if file, ok := indexed(t, row); ok {
						files = append(files, file)
					}
				}
				summer.add(row)
				return lines.row(row)
			})
			return errors.Join(err, lines.flush())
		})
		if err != nil {
			return nil, err
		}
		part.Rows, part.Sum = summer.rows, summer.sum.String()
		a.Tables = append(a.Tables, part)
	}
	return files, nil
}

// plain looks through the statements that make tables, as whoever restores them does. An index that is not of that kind is somebody's own, and is left out.
func (a *archiveWriter) plain(statements []string, indexes bool) (plain []string, err error) {
	for _, statement := range statements {
		text, err := plainStatement(statement)
		head, _, _ := strings.Cut(statement, "(")
		switch head = strings.TrimSpace(head); {
		case err == nil:
			plain = append(plain, text)
		case indexes && strings.Contains(strings.ToUpper(head), "INDEX"):
			a.LeftOut = append(a.LeftOut, head)
		default:
			return nil, fmt.Errorf("transfer: %s: %w", head, err)
		}
	}
	return plain, nil
}

// indexed reads a row of the media store's index.
func indexed(t *Table, row []any) (file FilePart, ok bool) {
	for i, c := range t.Columns {
		raw, _ := row[i].([]byte)
		n, _ := row[i].(int64)
		switch c.Name {
		case "ref_hash":
			file.Name = hex.EncodeToString(raw)
		case "sha256":
			file.SHA256 = hex.EncodeToString(raw)
		case "size":
			file.Size = n
		}
	}
	return file, len(file.Name) == 2*sha256.Size && len(file.SHA256) == 2*sha256.Size
}

// attachments writes the files that are there and whole, and their list. They are read after the database: one that came later is in neither.
func (a *archiveWriter) attachments(ctx context.Context, files []FilePart, from *Attachments) error {
	slices.SortFunc(files, func(one, other FilePart) int { return strings.Compare(one.Name, other.Name) })
	var there []FilePart
	for i := range files {
		if from == nil {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		file := &files[i]
		whole, err := a.whole(ctx, file, from, io.Discard)
		if err != nil {
			return err
		}
		if !whole { // expired meanwhile, lost, or damaged: the bridge would not serve it
			a.Missing++
			continue
		}
		err = a.part(fileFolder+file.Name, func(w io.Writer) error {
			whole, err := a.whole(ctx, file, from, w)
			if err == nil && !whole {
				err = errors.New("transfer: an attachment has changed while it was read: try again")
			}
			return err
		})
		if err != nil {
			return err
		}
		there = append(there, *file)
	}
	a.Files = len(there)
	_, err := a.sealed(fileList, func(w io.Writer) error {
		encoder := json.NewEncoder(w) // ends each with a line feed
		for i := range there {
			if err := encoder.Encode(&there[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// whole copies a file, and says whether it is what the index says.
func (a *archiveWriter) whole(ctx context.Context, file *FilePart, from *Attachments, to io.Writer) (bool, error) {
	name, ok := hash(file.Name)
	if !ok {
		return false, errors.New("transfer: an attachment without a name")
	}
	r, err := from.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("transfer: read attachment: %w", err)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), withContext(ctx, io.LimitReader(r, file.Size+1)))
	if err = errors.Join(err, r.Close()); err != nil {
		return false, fmt.Errorf("transfer: copy attachment: %w", err)
	}
	return n == file.Size && hex.EncodeToString(sum.Sum(nil)) == file.SHA256, nil
}
