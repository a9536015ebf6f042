//go:build unix

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir keeps a second process away from the state in dir. The lock ends with the process, however it ends.
func lockDir(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another sandbox uses this state directory")
	}
	return func() { f.Close() }, nil
}
