package connector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/mediastore"
)

// What is wrong with folders.
var (
	errNested = errors.New("network.media.spool and network.media.path have to be two folders, neither in the other: what is in the spool is " +
		"deleted at each start")
	errSpoolTaken = errors.New("the folder has other things in it: give the bridge an empty one of its own, since it is emptied at each start")
)

// openMedia makes the media store and the spool, and finds what the section on attachments names. Relative paths are relative to dir.
func (c *Connector) openMedia(ctx context.Context, dir string, log zerolog.Logger) error {
	m := &c.Config.Media
	var err error
	if c.spool, err = resolve(dir, m.Spool); err != nil {
		return fmt.Errorf("network.media.spool: %w", err)
	}
	store, err := resolve(dir, m.Path)
	if err != nil {
		return fmt.Errorf("network.media.path: %w", err)
	}
	if m.Store == storeFiles && (within(store, c.spool) || within(c.spool, store)) {
		return errNested
	}
	if err := openSpool(c.spool); err != nil {
		return fmt.Errorf("network.media.spool: %w", err)
	}
	if m.FFmpeg != "" {
		if c.ffmpeg, err = exec.LookPath(beside(dir, m.FFmpeg)); err != nil {
			return fmt.Errorf("network.media.ffmpeg: %w", err)
		}
	}
	var backend mediastore.Backend
	if m.Store == storeS3 {
		backend, err = c.Config.objectStore(ctx, c.spool, log)
	} else {
		backend, err = mediastore.Files(store)
	}
	if err != nil {
		return fmt.Errorf("network.media: %w", err)
	}
	c.media, err = mediastore.New(mediastore.Config{
		Backend: backend, Index: mediaIndex{c.db.Media()}, Keep: c.Config.keepMedia(), QuotaBytes: m.quota, Log: log,
		Fetched: c.noteFetched, Age: c.clock.now,
	})
	return err
}

// keepMedia is how long attachments are kept: one store serves all gatekeepers, so the longest counts.
func (c *Config) keepMedia() (keep time.Duration) {
	for _, a := range c.agreements {
		keep = max(keep, a.profile.Media.Keep)
	}
	return keep
}

// spoolMark is a file that says that a folder is the bridge's spool, and may be emptied.
const spoolMark = ".postern-spool"

// openSpool makes the folder for temporary files, for its user alone, and removes what an earlier process has left in it. A
// folder with other things in it is refused.
func openSpool(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	_, err = os.Lstat(filepath.Join(dir, spoolMark))
	if errors.Is(err, fs.ErrNotExist) {
		if len(entries) > 0 {
			return errSpoolTaken
		}
		err = os.WriteFile(filepath.Join(dir, spoolMark), []byte("The bridge empties this folder at each start.\n"), 0o600)
	}
	if err != nil {
		return err
	}
	errs := []error{os.Chmod(dir, 0o700)}
	for _, e := range entries {
		if e.Name() != spoolMark {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// beside is a path as the configuration has it, relative to the configuration's folder if it is relative; a bare name
// stays one, to be looked for where programs are.
func beside(dir, path string) string {
	if filepath.IsAbs(path) || filepath.Base(path) == path {
		return path
	}
	return filepath.Join(dir, path)
}

// resolve makes a path absolute, and follows links as far as it is there.
func resolve(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	return path, nil
}

// within says whether a path is a folder or below it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
