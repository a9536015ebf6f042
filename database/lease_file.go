//go:build unix

package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// fileLock is a lock on a file beside the SQLite database. It lies on the open file, so it ends with the
// process; the file stays and means nothing.
type fileLock struct{ file *os.File }

func takeFileLock(path string) (leaseLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("database: lease: %w", err)
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		closeErr := file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLockHeld
		}
		return nil, fmt.Errorf("database: lease: lock file: %w", errors.Join(err, closeErr))
	}
	lock := fileLock{file}
	if err = lock.alive(context.Background()); err != nil { // removed between open and lock
		return nil, errors.Join(errLockHeld, file.Close())
	}
	return lock, nil
}

// alive checks that the locked file is still the one with that name: a lock on a file that was removed
// keeps nobody out.
func (l fileLock) alive(context.Context) error {
	ours, err := l.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(l.file.Name())
	if err != nil {
		return err
	}
	if !os.SameFile(ours, there) {
		return errors.New("database: lease: lock file was replaced")
	}
	return nil
}

func (l fileLock) release() error { return l.file.Close() }

// fileLockHeld says whether somebody holds the lock, without making its file. Whoever wants to take it at this moment tries again.
func fileLockHeld(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
