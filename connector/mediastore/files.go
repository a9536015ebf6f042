package mediastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"postern/connector/killpoint"
)

// files is the Backend on a local disk. A blob lies at ab/cd/abcd…, by its name's digits.
type files struct {
	dir string

	temp *tempFiles

	mu      sync.Mutex
	durable map[string]bool // folders whose entries above them are on disk
}

// tempFolder is where blobs are written, below the store's folder: a rename stays on one file system.
const tempFolder = "tmp"

// Files makes the backend that keeps blobs below a folder, which it makes if needed, for its user alone. Temporary files that an earlier
// process has left there are removed. No other process may use the folder.
func Files(dir string) (Backend, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("mediastore: folder: %w", err)
	}
	f := &files{dir: dir, durable: map[string]bool{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mediastore: folder: %w", err)
	}
	if err := f.makeDurable(tempFolder); err != nil {
		return nil, fmt.Errorf("mediastore: folder: %w", err)
	}
	if f.temp, err = newTempFiles(filepath.Join(dir, tempFolder)); err != nil {
		return nil, err
	}
	return f, nil
}

// place is the folder of a blob, below the store's, and its path.
func (f *files) place(name Name) (folder, path string) {
	digits := name.String()
	folder = filepath.Join(digits[:2], digits[2:4])
	return folder, filepath.Join(f.dir, folder, digits)
}

// makeDurable makes a folder below the store's, and returns when it and those above it are on disk.
func (f *files) makeDurable(folder string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.dir
	for _, step := range strings.Split(filepath.ToSlash(folder), "/") {
		above := at
		at = filepath.Join(at, step)
		if f.durable[at] {
			continue
		}
		if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncFolder(above); err != nil {
			return err
		}
		f.durable[at] = true
	}
	return nil
}

// syncFolder brings a folder's entries to the disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Create implements Backend.
func (f *files) Create(context.Context) (Pending, error) {
	file, err := f.temp.create()
	if err != nil {
		return nil, err
	}
	return &pendingFile{store: f, file: file}, nil
}

// pendingFile is a blob under its temporary name.
type pendingFile struct {
	store *files
	file  *os.File // nil when it is over
}

func (p *pendingFile) Write(b []byte) (int, error) { return p.file.Write(b) }

// Commit implements Pending. A renamed file is on disk when its folder is; if that fails it is taken away again.
func (p *pendingFile) Commit(_ context.Context, name Name) error {
	folder, path := p.store.place(name)
	killpoint.Hit(killpoint.OutFileWritten)
	if err := p.file.Sync(); err != nil {
		return err
	}
	killpoint.Hit(killpoint.OutFileSynced)
	if err := p.store.makeDurable(folder); err != nil {
		return err
	}
	if err := os.Rename(p.file.Name(), path); err != nil {
		return err
	}
	killpoint.Hit(killpoint.OutFileNamed)
	err := errors.Join(syncFolder(filepath.Dir(path)), p.store.temp.end(p.file))
	p.file = nil
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Abort implements Pending.
func (p *pendingFile) Abort() {
	if p.file != nil {
		p.store.temp.remove(p.file)
		p.file = nil
	}
}

// Open implements Backend. What it returns is a file, so that the system can send it without us.
func (f *files) Open(_ context.Context, name Name, offset, length int64) (io.ReadCloser, error) {
	_, path := f.place(name)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	} else if err != nil {
		return nil, fmt.Errorf("mediastore: open: %w", err)
	}
	info, err := file.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() < offset+length) {
		err = ErrNotFound
	}
	if err == nil && offset > 0 {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Exists implements Backend.
func (f *files) Exists(_ context.Context, name Name) (bool, error) {
	_, path := f.place(name)
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Delete implements Backend.
func (f *files) Delete(_ context.Context, name Name) error {
	_, path := f.place(name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mediastore: delete: %w", err)
	}
	return nil
}

// errStopped ends a walk that nobody wants to go on.
var errStopped = errors.New("stopped")

// List implements Backend. Folders are read in the order of their names; what is not ours is passed over.
func (f *files) List(ctx context.Context) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		err := filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path != f.dir {
				return nil // gone since its folder was read
			} else if err != nil {
				return err
			} else if ctx.Err() != nil {
				return ctx.Err()
			}
			name, ok := parseName(entry.Name())
			if !ok || !entry.Type().IsRegular() {
				return nil
			}
			if _, want := f.place(name); want != path {
				return nil
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			} else if err != nil {
				return err
			}
			if !yield(Stored{Name: name, Modified: info.ModTime()}, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Stored{}, fmt.Errorf("mediastore: list: %w", err))
		}
	}
}

// Clean implements Backend.
func (f *files) Clean(context.Context) error { return f.temp.clean() }
