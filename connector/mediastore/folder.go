package mediastore

import (
	"context"
	"crypto/sha256"
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

// PutInto stores a blob of a size in bytes and with a hash under a name that it has had before. What is there already stays if it is that, and is replaced if it is damaged. Reading
// content has to fail at its end if it is another. The blob is on disk when this returns.
func PutInto(ctx context.Context, backend Backend, name Name, size int64, sum [sha256.Size]byte, content io.Reader) error {
	if sound, err := holds(ctx, backend, name, size, sum); err != nil || sound {
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

// holds says whether a blob is there with that size and that hash.
func holds(ctx context.Context, backend Backend, name Name, size int64, sum [sha256.Size]byte) (bool, error) {
	if there, err := backend.Exists(ctx, name); err != nil || !there {
		return false, err
	}
	blob, err := backend.Open(ctx, name, 0, size)
	if err != nil {
		return false, nil //nolint:nilerr // shorter than it was, or it cannot be read: it is written anew, and what is wrong shows there
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(blob, size+1))
	_ = blob.Close() // it was only read
	return err == nil && n == size && [sha256.Size]byte(hash.Sum(nil)) == sum, nil
}
