package connector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"postern/connector/mediastore"
	"postern/connector/profile"
)

// Agreed is a gatekeeper that is enabled, with what the configuration has put over its profile.
type Agreed struct {
	Profile    *profile.Profile
	Integrator int
}

// Agreed lists the enabled gatekeepers of a configuration that ValidateConfig has passed.
func (c *Config) Agreed() []Agreed {
	list := make([]Agreed, len(c.agreements))
	for i, a := range c.agreements {
		list[i] = Agreed{a.profile, int(a.integrator)}
	}
	return list
}

// MediaFolders are the spool and, where attachments are kept in files, their folder ("" if not), as openMedia uses them.
func (c *Config) MediaFolders(dir string) (spool, files string, err error) {
	m := &c.Media
	if spool, err = resolve(dir, m.Spool); err != nil {
		return "", "", fmt.Errorf("network.media.spool: %w", err)
	}
	if m.Store != storeFiles {
		return spool, "", nil
	}
	if files, err = resolve(dir, m.Path); err != nil {
		return "", "", fmt.Errorf("network.media.path: %w", err)
	}
	return spool, files, nil
}

// LookAtSpool says what keeps the bridge from using a folder as its spool, and changes nothing. A folder that is not there yet is fine.
func LookAtSpool(spool, files string) error {
	if files != "" && (within(files, spool) || within(spool, files)) {
		return errNested
	}
	entries, err := os.ReadDir(spool)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err = os.Lstat(filepath.Join(spool, spoolMark)); errors.Is(err, fs.ErrNotExist) && len(entries) > 0 {
		return errSpoolTaken
	}
	return nil
}

// FFmpeg is the program that the section on attachments names, or "ffmpeg".
func (c *Config) FFmpeg(dir string) string {
	if c.Media.FFmpeg == "" {
		return "ffmpeg"
	}
	return beside(dir, c.Media.FFmpeg)
}

// ObjectStore opens the object store of the section on attachments; temp is a folder of the caller's own. nil for a store of files, which
// must not be opened beside a running bridge.
func (c *Config) ObjectStore(ctx context.Context, temp string) (mediastore.Backend, error) {
	if c.Media.Store != storeS3 {
		return nil, nil
	}
	return c.objectStore(ctx, temp, zerolog.Nop())
}

func (c *Config) objectStore(ctx context.Context, temp string, log zerolog.Logger) (mediastore.Backend, error) {
	s := &c.Media.S3
	return mediastore.S3(ctx, mediastore.S3Config{
		Endpoint: s.Endpoint, Bucket: s.Bucket, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey,
		Prefix: s.Prefix, Insecure: s.Insecure, Spool: temp, Log: log,
	})
}
