package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// documents go along with the program.
var documents = []string{"LICENSE", "README.md", "CHANGELOG.md", "example-config.yaml", "docs"}

// sumsName is the file with the checksums, as sha256sum -c reads it.
const sumsName = "SHA256SUMS"

// mustBeEmpty makes the folder for the release. What is published has nothing in it that was there before.
func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o755)
	}
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty", dir)
	}
	return err
}

// copyTo copies a file, what a link leads to, or the documents of a folder: tests beside them stay behind.
func copyTo(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, mode(info.Mode()))
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".go") {
			continue
		}
		if err = copyTo(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// packTree packs a folder under the name root: in order of names, nobody's, and of one time.
func packTree(archive, root, dir string, when time.Time) (err error) {
	file, err := os.OpenFile(archive, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	squeezed := gzip.NewWriter(file)
	packed := tar.NewWriter(squeezed)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return packOne(packed, path, filepath.ToSlash(filepath.Join(root, inside)), when)
	})
	return errors.Join(err, packed.Close(), squeezed.Close())
}

func packOne(packed *tar.Writer, path, name string, when time.Time) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, ModTime: when, Format: tar.FormatPAX}
	switch {
	case info.IsDir():
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, name+"/", 0o755
	case info.Mode()&fs.ModeSymlink != 0:
		header.Typeflag, header.Mode = tar.TypeSymlink, 0o777
		if header.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		header.Typeflag, header.Mode, header.Size = tar.TypeReg, int64(mode(info.Mode())), info.Size()
	default:
		return fmt.Errorf("%s is neither a file nor a folder nor a link", name)
	}
	if err = packed.WriteHeader(header); err != nil || header.Typeflag != tar.TypeReg {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(packed, file)
	return err
}

// writeSums writes the checksums of the release's files, and returns the text.
func writeSums(dir string, names []string) (string, error) {
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		digest, err := digestOf(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "%x  %s\n", digest, name)
	}
	return text.String(), os.WriteFile(filepath.Join(dir, sumsName), []byte(text.String()), 0o644)
}
