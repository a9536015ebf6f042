package mediastore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// tempPrefix begins the names of temporary files: no other file is ever cleaned away.
const tempPrefix = "put-"

// tempFiles are files with temporary names in one folder.
type tempFiles struct {
	dir string

	mu    sync.Mutex
	inUse map[string]bool // base names
}

// newTempFiles cleans away what an earlier process has left in the folder, which has to be there.
func newTempFiles(dir string) (*tempFiles, error) {
	t := &tempFiles{dir: dir, inUse: map[string]bool{}}
	return t, t.clean()
}

// create makes a file for its user alone. The lock is held from before the file is there until it is noted, so that clean spares it.
func (t *tempFiles) create() (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	file, err := os.CreateTemp(t.dir, tempPrefix)
	if err != nil {
		return nil, err
	}
	t.inUse[filepath.Base(file.Name())] = true
	return file, nil
}

// end closes a file that was removed or renamed.
func (t *tempFiles) end(file *os.File) error {
	t.mu.Lock()
	delete(t.inUse, filepath.Base(file.Name()))
	t.mu.Unlock()
	return file.Close()
}

// remove ends a file and removes it. If that fails, clean does it later.
func (t *tempFiles) remove(file *os.File) {
	_ = os.Remove(file.Name())
	_ = t.end(file)
}

// clean removes temporary files that nobody writes.
func (t *tempFiles) clean() error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return fmt.Errorf("mediastore: clean: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) || t.used(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(t.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("mediastore: clean: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (t *tempFiles) used(base string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inUse[base]
}
