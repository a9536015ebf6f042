package database

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// keyFilePrefix begins the one line of a key file; base64 of the key follows.
const keyFilePrefix = "postern-key-1:"

// maxKeyFile is the most a key file may hold, in bytes.
const maxKeyFile = 256

// Errors of LoadKeyFile and LoadOrCreateKeyFile.
var (
	ErrKeyFilePermissions = errors.New("database: key file: others may read or write it (chmod 600)")
	ErrKeyFileFormat      = errors.New("database: key file: not one that this program wrote (put the bridge's own back, from its backup: " +
		"without it what is sealed in the database is lost)")
)

// LoadOrCreateKeyFile reads the master key from a file, or makes the file with a new random key
// if it does not exist; a new file is on disk when this returns. A file that anyone but its owner may
// read or write is refused (ErrKeyFilePermissions), as is one in another form (ErrKeyFileFormat).
//
// Without this file the sealed columns of the database are lost: it belongs into the backup, but not beside
// the database's.
func LoadOrCreateKeyFile(path string) ([KeySize]byte, error) {
	key, err := LoadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, _ = rand.Read(key[:]) // never fails: it ends the process instead
	if err = CreateKeyFile(path, key); err != nil && !errors.Is(err, fs.ErrExist) {
		return [KeySize]byte{}, err
	}
	return LoadKeyFile(path) // also if another process was faster
}

// LoadKeyFile is LoadOrCreateKeyFile for a file that has to be there: the error wraps fs.ErrNotExist if it is not.
func LoadKeyFile(path string) (key [KeySize]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return key, fmt.Errorf("database: key file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return key, fmt.Errorf("database: key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return key, ErrKeyFileFormat
	}
	if info.Mode().Perm()&0o077 != 0 {
		return key, ErrKeyFilePermissions
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return key, fmt.Errorf("database: key file: %w", err)
	}
	return ParseKeyFile(text)
}

// ParseKeyFile reads what a key file holds: ErrKeyFileFormat if it is none.
func ParseKeyFile(text []byte) (key [KeySize]byte, err error) {
	encoded, ok := bytes.CutPrefix(bytes.TrimRight(text, "\r\n"), []byte(keyFilePrefix))
	if !ok || len(text) > maxKeyFile {
		return key, ErrKeyFileFormat
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(encoded))
	if err != nil || len(raw) != KeySize {
		return key, ErrKeyFileFormat
	}
	copy(key[:], raw)
	return key, nil
}

// CreateKeyFile writes a whole new file under another name and links it into place, so that nobody ever
// sees half a key and nobody's key is overwritten: the error wraps fs.ErrExist if there is one. It is on disk when this returns.
func CreateKeyFile(path string, key [KeySize]byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("database: create key file: %w", err)
		}
	}()
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".postern-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(keyFilePrefix + base64.StdEncoding.EncodeToString(key[:]) + "\n")
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err = os.Link(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new name in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
