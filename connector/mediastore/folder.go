package mediastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenIn opens a blob in a folder that Files has made, for reading alone: another process may be using the folder. The error wraps fs.ErrNotExist if it is not there.
func OpenIn(dir string, name Name) (io.ReadCloser, error) {
	_, path := (&files{dir: dir}).place(name)
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("mediastore: open: %w", err)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("mediastore: open: %s: %w", filepath.Base(path), fs.ErrNotExist), err, file.Close())
	}
	return file, nil
}

// PutInto stores a blob under a name that it has had before; one that is there already is left as it is. It is on disk when this returns.
func PutInto(ctx context.Context, backend Backend, name Name, content io.Reader) error {
	if there, err := backend.Exists(ctx, name); err != nil || there {
		return err
	}
	blob, err := backend.Create(ctx)
	if err != nil {
		return fmt.Errorf("mediastore: create: %w", noRoom(err))
	}
	defer blob.Abort()
	if _, err := io.Copy(blob, content); err != nil {
		return fmt.Errorf("mediastore: write: %w", noRoom(err))
	}
	if err := blob.Commit(ctx, name); err != nil {
		return fmt.Errorf("mediastore: commit: %w", noRoom(err))
	}
	return nil
}
