package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// version is what a release is called. All of it comes from the commit, nothing from the clock or the machine.
type version struct {
	tag, commit string
	when        time.Time // of the commit, UTC
}

// stamp is the commit's time as the program shows it.
func (v version) stamp() string { return v.when.Format(time.RFC3339) }

// name is the name of a file or folder of the release, without its ending.
func (v version) name(what string) string {
	return "postern-" + strings.TrimPrefix(v.tag, "v") + "-" + what
}

// goodTag keeps surprises out of file names and linker flags.
var goodTag = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)

// versionOf asks git in dir about a revision.
func versionOf(ctx context.Context, dir, revision string) (version, error) {
	var v version
	commit, err := output(ctx, dir, nil, "git", "rev-parse", "--verify", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return v, err
	}
	v.commit = strings.TrimSpace(string(commit))
	// The length of an abbreviation depends on how much is in the clone, unless it is given.
	tag, err := output(ctx, dir, nil, "git", "describe", "--tags", "--always", "--abbrev=12", v.commit)
	if err != nil {
		return v, err
	}
	if v.tag = strings.TrimSpace(string(tag)); !goodTag.MatchString(v.tag) {
		return v, fmt.Errorf("the tag %q cannot be part of a file name", v.tag)
	}
	seconds, err := output(ctx, dir, nil, "git", "log", "-1", "--format=%ct", v.commit)
	if err != nil {
		return v, err
	}
	unix, err := strconv.ParseInt(strings.TrimSpace(string(seconds)), 10, 64)
	v.when = time.Unix(unix, 0).UTC()
	return v, err
}

// export puts the files of a commit into the folder to.
func export(ctx context.Context, dir, commit, to string) error {
	files, err := output(ctx, dir, nil, "git", "archive", "--format=tar", commit)
	if err != nil {
		return err
	}
	if err = os.Mkdir(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	return unpack(tar.NewReader(bytes.NewReader(files)), root)
}

// unpack writes folders, files and links; nothing leaves root.
func unpack(from *tar.Reader, root *os.Root) error {
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		path := filepath.Clean(header.Name)
		switch header.Typeflag {
		case tar.TypeXGlobalHeader: // git writes the commit's id there
		case tar.TypeDir:
			err = root.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(header.Linkname, path)
		case tar.TypeReg:
			err = unpackFile(from, root, path, os.FileMode(header.Mode)&0o111)
		default:
			err = fmt.Errorf("%s is neither a file nor a folder nor a link", path)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(from io.Reader, root *os.Root, path string, executable os.FileMode) error {
	file, err := root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode(executable))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// mode is that of a file in a release: readable for all, and executable or not.
func mode(bits os.FileMode) os.FileMode {
	if bits&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// output runs a command in dir and returns what it prints. Its error has what it complains of.
func output(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = dir, env
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out, nil
}
