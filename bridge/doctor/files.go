package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"postern/connector"
	"postern/connector/mediastore"
)

// lookAtUser: whether we are who the bridge is, or what we find of rights to files is not what the bridge finds.
func lookAtUser(_ context.Context, e *examination) []Result {
	for _, path := range []string{e.beside(e.Network.KeyFile), e.beside(e.Network.EpochFile)} {
		owner, known := ownerOf(path)
		if known && owner != os.Geteuid() {
			return warn(fmt.Sprintf("this runs as user %d, and %s belongs to user %d: the rights to files are looked at with the wrong eyes", os.Geteuid(), path, owner),
				fmt.Sprintf("run it as the bridge's user, such as with sudo -u '#%d'; if the bridge runs as this one, chown its files", owner))
		}
	}
	return fine("this runs as user %d, as the bridge should", os.Geteuid())
}

// canMakeFileIn makes a file in a folder, or in the nearest one above that is there, and removes it.
func canMakeFileIn(dir string) error { return tryFile(dir, nil) }

// tryFile writes a file, reads it back and removes it.
func tryFile(dir string, content []byte) error {
	file, err := os.CreateTemp(nearest(dir), ".postern-doctor-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err = file.Write(content); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	read, err := os.ReadFile(file.Name())
	if err == nil && !bytes.Equal(read, content) {
		err = errors.New("what was read is not what was written")
	}
	return err
}

// nearest is the folder, or the one above it that is there.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func sameFolder(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// The room that a disk should have. Below the first the database may stop within hours of a busy day, below the other within a large
// attachment. They are variables for tests: no disk can be filled there.
var (
	littleRoom int64 = 2 << 30
	noRoom     int64 = 200 << 20
)

// lookAtDisk: whether there is room where the bridge writes.
func lookAtDisk(_ context.Context, e *examination) (results []Result) {
	spool, files, err := e.Network.MediaFolders(e.Dir)
	if err != nil {
		return fail(errText(err), "name a folder")
	}
	places := []struct{ key, path string }{{"network.media.spool", spool}}
	if files != "" {
		places = append(places, struct{ key, path string }{"network.media.path", files})
	}
	if e.base != nil && e.base.Path != "" {
		places = append(places, struct{ key, path string }{"database.uri", filepath.Dir(e.base.Path)})
	}
	least := int64(-1)
	for _, p := range places {
		free, err := freeBytes(nearest(p.path))
		if err != nil {
			results = append(results, fail("the disk of "+p.key+" cannot be asked: "+err.Error(), "let the bridge's user into "+p.path)...)
			continue
		}
		if least < 0 || free < least {
			least = free
		}
		finding := fmt.Sprintf("there are %d MiB free where %s lies (%s)", free>>20, p.key, p.path)
		switch {
		case free < noRoom:
			results = append(results, fail(finding, "make room now: without it nothing is taken from either side, and all of it waits there")...)
		case free < littleRoom:
			results = append(results, warn(finding, "make room, or put it on a larger disk: when it is full, nothing is taken from either side until there is room again")...)
		}
	}
	if len(results) > 0 {
		return results
	}
	return fine("at least %d MiB are free wherever the bridge writes", least>>20)
}

// lookAtSpool: whether temporary files can be kept.
func lookAtSpool(_ context.Context, e *examination) []Result {
	spool, files, err := e.Network.MediaFolders(e.Dir)
	if err == nil {
		if err = connector.LookAtSpool(spool, files); err != nil {
			return fail("network.media.spool ("+spool+") cannot be used: "+errText(err), "name a folder of its own, empty or not there yet")
		}
		err = canMakeFileIn(spool)
	}
	if err != nil {
		return fail("nothing can be written to network.media.spool: "+errText(err), "let the bridge's user write there, or name another folder")
	}
	return fine("temporary files can be kept in %s", spool)
}

// sample is what is written to a media store for a trial, in bytes.
const sample = 64 << 10

// lookAtMedia writes to the media store, reads it back and deletes it.
func lookAtMedia(ctx context.Context, e *examination) []Result {
	content := make([]byte, sample)
	_, _ = rand.Read(content) // never fails
	_, files, err := e.Network.MediaFolders(e.Dir)
	if err != nil {
		return fail(errText(err), "name a folder in network.media.path")
	}
	if files != "" {
		if err := tryFile(files, content); err != nil {
			return fail("nothing can be stored in network.media.path ("+files+"): "+errText(err), "let the bridge's user write there, or name another folder")
		}
		return fine("a file was written to %s, read back and removed", files)
	}
	const remedy = "see whether network.media.s3 has the right endpoint (and insecure), bucket and keys, and whether those may list, read, write and delete"
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	if err := tryObject(ctx, e, content); err != nil {
		return fail("the object store cannot be used: "+errText(err), remedy)
	}
	return fine("an object was written to the bucket, read back and deleted")
}

func tryObject(ctx context.Context, e *examination, content []byte) error {
	spool, _, err := e.Network.MediaFolders(e.Dir)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp(nearest(spool), ".postern-doctor-") // elsewhere a container may have nothing that can be written
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	store, err := e.Network.ObjectStore(ctx, temp)
	if err != nil {
		return err
	}
	pending, err := store.Create(ctx)
	if err != nil {
		return err
	}
	defer pending.Abort()
	if _, err = pending.Write(content); err != nil {
		return err
	}
	var name mediastore.Name
	_, _ = rand.Read(name[:]) // never fails
	if err = pending.Commit(ctx, name); err != nil {
		return err
	}
	read, err := store.Open(ctx, name, 0, sample)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(read)
		if err = errors.Join(err, read.Close()); err == nil && !bytes.Equal(got, content) {
			err = errors.New("what was read is not what was written")
		}
	}
	// Also when the time is over, nothing is to stay.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), question)
	defer cancel()
	return errors.Join(err, store.Delete(after, name))
}

// versionLine finds the version in the first line of what ffmpeg says of itself.
var versionLine = regexp.MustCompile(`^ff(mpeg|probe) version [n]?(\S{1,40})`)

// lookAtFFmpeg: whether attachments can be converted.
func lookAtFFmpeg(ctx context.Context, e *examination) []Result {
	const consequence = ", so videos and sound are passed on as they are, and many forms of files go as documents"
	path, err := exec.LookPath(e.Network.FFmpeg(e.Dir))
	switch {
	case err != nil && e.Network.Media.FFmpeg != "":
		return fail("there is no program at network.media.ffmpeg, and the bridge does not start without what is named", "name ffmpeg's place, or leave the key empty")
	case err != nil:
		return warn("ffmpeg is not there"+consequence, "install ffmpeg (on Debian: apt-get install ffmpeg)")
	}
	var versions []string
	for _, name := range []string{path, filepath.Join(filepath.Dir(path), "ffprobe")} {
		out, err := exec.CommandContext(ctx, name, "-version").Output()
		found := versionLine.FindSubmatch(out)
		if err != nil || found == nil {
			return warn(filepath.Base(name)+" does not run"+consequence, "install ffmpeg and ffprobe together, in one folder")
		}
		versions = append(versions, string(found[2]))
	}
	if versions[0] != versions[1] {
		return warn("ffmpeg is of version "+versions[0]+", ffprobe of "+versions[1], "install both from one place")
	}
	return fine("ffmpeg and ffprobe of version %s", versions[0])
}

// Descriptors that the bridge needs: some of its own, and for each user a stream and, at times, a request or an attachment.
const (
	ownFiles  = 256
	userFiles = 3
)

// lookAtFileLimit: whether a stream for everybody can be open.
func lookAtFileLimit(ctx context.Context, e *examination) []Result {
	limit, ok := fileLimit()
	if !ok {
		return skip("this system does not tell")
	}
	users := e.accounts(ctx)
	need := uint64(ownFiles + userFiles*users)
	finding := fmt.Sprintf("a process started here may open %d files, and the bridge may need %d with %d users", limit, need, users)
	const remedy = "raise it: LimitNOFILE= in a systemd unit, --ulimit nofile= for a container, ulimit -n in a shell"
	switch {
	case limit < need:
		return fail(finding, remedy)
	case limit < 2*need || limit < 1024:
		return warn(finding, remedy)
	}
	return fine("%s", finding)
}

// lookAtCertificates: whether other servers' certificates can be checked.
func lookAtCertificates(context.Context, *examination) []Result {
	pool, err := x509.SystemCertPool()
	if err != nil || pool.Equal(x509.NewCertPool()) {
		return fail("there are no root certificates, so no HTTPS address can be reached", "install them (on Debian: apt-get install ca-certificates), or name them in SSL_CERT_FILE")
	}
	return fine("there are root certificates")
}

// SetRoom changes from where on a disk has little room and none, for tests, since no disk can be filled there.
func SetRoom(little, none int64) (restore func()) {
	was, wasNone := littleRoom, noRoom
	littleRoom, noRoom = little, none
	return func() { littleRoom, noRoom = was, wasNone }
}
