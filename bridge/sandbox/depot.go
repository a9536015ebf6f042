package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	depotName   = "media" // folder within the state
	depotNewTag = "new-"  // start of a name that is not kept yet
)

// depot is the folder of media: what phones have sent, encrypted, and what they have fetched, decrypted. With a
// state it lies beside the journal; without one it is a temporary folder that goes when the sandbox closes.
// A file gets its name only when all of it is on disk, so every name in the journal is of a whole file.
type depot struct {
	state string // directory of the state, empty if there is none

	mu  sync.Mutex
	dir string // empty until it is needed
}

func (d *depot) folder() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dir != "" {
		return d.dir, nil
	}
	if d.state == "" {
		dir, err := os.MkdirTemp("", "postern-sandbox-")
		if err != nil {
			return "", fmt.Errorf("make media folder: %w", err)
		}
		d.dir = dir
		return dir, nil
	}
	dir := filepath.Join(d.state, depotName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make media folder: %w", err)
	}
	d.dir = dir
	return dir, nil
}

// create opens a new file. It is for keep or discard to close.
func (d *depot) create() (*os.File, error) {
	dir, err := d.folder()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, depotNewTag)
	if err != nil {
		return nil, fmt.Errorf("make media file: %w", err)
	}
	return f, nil
}

// keep closes f and gives it the name it is found under from now on, also after a crash.
func (d *depot) keep(f *os.File) (name string, err error) {
	defer func() {
		if err != nil {
			d.discard(f)
			err = fmt.Errorf("keep media file: %w", err)
		}
	}()
	dir, err := d.folder()
	if err != nil {
		return "", err
	}
	if err = f.Sync(); err != nil {
		return "", err
	}
	if err = f.Close(); err != nil {
		return "", err
	}
	name = newID("", 16)
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return "", err
	}
	return name, syncDir(dir)
}

// discard closes f and removes it.
func (d *depot) discard(f *os.File) {
	_ = f.Close() // closed already, or thrown away
	os.Remove(f.Name())
}

// open opens a kept file for reading.
func (d *depot) open(name string) (*os.File, error) {
	dir, err := d.folder()
	if err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(dir, name))
}

// remove deletes a kept file. A name that stays behind is swept at the next start.
func (d *depot) remove(name string) {
	if dir, err := d.folder(); err == nil {
		os.Remove(filepath.Join(dir, name))
	}
}

// sweep removes every file that is not in known: what a crash has left behind.
func (d *depot) sweep(known map[string]bool) error {
	if d.state == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(d.state, depotName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep media folder: %w", err)
	}
	for _, e := range entries {
		if !known[e.Name()] || strings.HasPrefix(e.Name(), depotNewTag) {
			d.remove(e.Name())
		}
	}
	return nil
}

// close removes the folder if it was a temporary one.
func (d *depot) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == "" && d.dir != "" {
		os.RemoveAll(d.dir)
		d.dir = ""
	}
}
