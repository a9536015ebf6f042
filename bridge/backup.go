package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/database"
	"postern/database/transfer"
)

const backupUsage = `postern backup - keep a copy of what the bridge knows

  postern backup --out FILE|FOLDER [--with-media] [--with-key] [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --out FILE|FOLDER   the archive to write, which must not be there yet; in a folder it is named after the time
  --with-media        put attachments into it that the gatekeeper may still fetch (only with network.media.store: files)
  --with-key          put the key file into it: whoever has such an archive has everything
  --json              print JSON

The archive has all tables as they are at one moment, the framework's too, be the bridge running or not. They are sealed, and cannot be
read without the key file: keep that somewhere else. What tables there are, how many rows they have, and how many attachments with which
sizes is not sealed. The configuration is not in it, nor is the epoch file, which must never be put back. It is read again before it
gets its name; a process that is killed leaves a file behind whose name begins with a dot and ends in .partial, and which can be deleted.

Exit status: 0 done, 1 it could not be done, 2 wrong usage, 10 configuration, 14 database.
`

const restoreUsage = `postern restore - put a backup back

  postern restore --from FILE [--with-key] [--check] [--json]

  -c, --config FILE   the bridge's configuration (config.yaml)
  --from FILE         an archive that "postern backup" has made
  --with-key          if there is no key file, believe the one in the archive, and put it into its place: only for an archive of your own,
                      since whoever made it under a key that it brings along could put anything into it
  --check             only look whether the archive is whole, and say under whose key it was made
  --json              print JSON

The bridge must not run, and at database.uri there must be no database yet: no file, or an empty database on the server. The archive is
checked first, and what was put back is read again and compared. It may be of an older version of the program, and, if it is of
this program's version, of the other kind of database.

What is put back is an old copy, and marked so. When the bridge starts it begins new encryption sessions with everybody before it sends
anything, so that no key is used twice, and tells its users. What was said since the backup is not in it, nor who left, was suspended or
blocked since; and what it was made of must never run again: docs/BACKUP.md.

Exit status: 0 done, 1 it could not be done, 2 wrong usage, 10 configuration, 14 database or archive.
`

// backupCommand runs the command and returns the exit status.
func backupCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var config, out string
	var asJSON, help, media, key bool
	set := verbFlags("backup", &config, &asJSON, &help)
	set.StringVar(&out, "out", "", "")
	set.BoolVar(&media, "with-media", false, "")
	set.BoolVar(&key, "with-key", false, "")
	words, err := wordsOf(set, args)
	switch {
	case err == nil && help:
		fmt.Fprint(stdout, backupUsage)
		return 0
	case err == nil && len(words) > 0:
		err = fmt.Errorf("unknown argument %q", words[0])
	case err == nil && out == "":
		err = errors.New("backup needs --out, the file or folder to write to")
	}
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, backupUsage)
		return exitUsage
	}
	return verbStatus(stderr, backUp(ctx, config, out, media, key, asJSON, stdout), 0)
}

func backUp(ctx context.Context, config, out string, media, withKey, asJSON bool, stdout io.Writer) error {
	s, err := loadSubject(config)
	if err != nil {
		return err
	}
	key, err := s.key()
	if err != nil {
		return err
	}
	if folder := filepath.Dir(out); !isFolder(folder) {
		return fmt.Errorf("there is no folder %s to write to: make it first", folder)
	}
	var options transfer.BackupOptions
	if media {
		if !s.keepsFiles() {
			return errors.New("--with-media: attachments lie in the bucket that network.media.s3 names, which has its own ways to be backed up")
		}
		options.Files = s.readFiles()
	}
	if withKey {
		if options.KeyFile, err = os.ReadFile(s.keyFile); err != nil {
			return err
		}
	}
	path, manifest, err := transfer.Backup(ctx, s.config(key), out, options)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and is left as it is", out)
	} else if file := new(fs.PathError); errors.As(err, &file) && strings.HasSuffix(file.Path, ".partial") {
		return fmt.Errorf("the archive cannot be written: %w", err) // it says nothing of the database
	} else if err != nil {
		return s.transferError(err)
	}
	made := backedUp{archive: path, manifest: manifest, media: media, report: transfer.Report{
		Files: manifest.Files, Missing: manifest.Missing, LeftOut: manifest.LeftOut,
	}}
	if !withKey {
		made.keyFile = s.keyFile
	}
	for _, t := range manifest.Tables {
		made.report.Tables = append(made.report.Tables, transfer.Count{Table: t.Name, Rows: t.Rows, Sum: t.Sum})
	}
	return made.say(asJSON, stdout)
}

// backedUp is a backup that was made; keyFile is the file with the key, "" if that is in the archive.
type backedUp struct {
	archive, keyFile string
	manifest         *transfer.Manifest
	report           transfer.Report
	media            bool
}

func (b *backedUp) say(asJSON bool, stdout io.Writer) error {
	info, err := os.Stat(b.archive)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(stdout, map[string]any{
			"archive": b.archive, "bytes": info.Size(), "made": b.manifest.Made, "versions": b.manifest.Versions, "key": b.manifest.Key, "copied": &b.report,
		})
	}
	fmt.Fprintf(stdout, "Wrote %s, %d bytes: %s.\n", b.archive, info.Size(), copiedWords(&b.report, b.media))
	for _, what := range b.report.LeftOut {
		fmt.Fprintf(stdout, "Not the bridge's, and left out: %s.\n", what)
	}
	if b.keyFile == "" {
		_, err = fmt.Fprintf(stdout, "The key file is in it: keep it as you keep the key.\n")
	} else {
		_, err = fmt.Fprintf(stdout, "The key file %s is not in it, and without that it is of no use: keep a copy of it somewhere else.\n", b.keyFile)
	}
	return err
}

// isFolder says whether a folder is there, as far as can be seen.
func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// copiedWords says how much was copied.
func copiedWords(r *transfer.Report, media bool) string {
	text := fmt.Sprintf("%d tables with %d rows", len(r.Tables), r.Rows())
	if media {
		text += fmt.Sprintf(", and %d attachments", r.Files)
		if r.Missing > 0 {
			text += fmt.Sprintf(" (%d that the index has were not there whole)", r.Missing)
		}
	}
	return text
}

// restoreCommand runs the command and returns the exit status.
func restoreCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var config, from string
	var asJSON, help, check, withKey bool
	set := verbFlags("restore", &config, &asJSON, &help)
	set.StringVar(&from, "from", "", "")
	set.BoolVar(&withKey, "with-key", false, "")
	set.BoolVar(&check, "check", false, "")
	words, err := wordsOf(set, args)
	switch {
	case err == nil && help:
		fmt.Fprint(stdout, restoreUsage)
		return 0
	case err == nil && len(words) > 0:
		err = fmt.Errorf("unknown argument %q", words[0])
	case err == nil && from == "":
		err = errors.New("restore needs --from, the archive")
	}
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, restoreUsage)
		return exitUsage
	}
	return verbStatus(stderr, restore(ctx, config, from, withKey, check, asJSON, stdout), 0)
}

func restore(ctx context.Context, config, from string, withKey, check, asJSON bool, stdout io.Writer) (err error) {
	s, err := loadSubject(config)
	if err != nil {
		return err
	}
	var key [database.KeySize]byte
	var brought bool // the key is the archive's
	archive, err := transfer.OpenArchive(from, func(inArchive []byte) ([database.KeySize]byte, error) {
		var err error
		key, brought, err = s.keyOr(inArchive, withKey)
		return key, err
	})
	var exit *exitError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no archive at %s", from)
	case errors.Is(err, transfer.ErrKey), errors.As(err, &exit):
		return s.transferError(err)
	case err != nil:
		return &exitError{exitDatabase, about(from, err)}
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	if check {
		return s.checkArchive(ctx, from, archive, brought, asJSON, stdout)
	}
	var files *transfer.Attachments
	if archive.Files > 0 {
		if !s.keepsFiles() {
			return &exitError{exitConfig, errors.New("the archive has attachments, which go into a folder: set network.media.store to files")}
		}
		files = s.writeFiles()
	}
	if brought { // before what cannot be read without it
		if err := archive.Check(ctx); err != nil {
			return s.transferError(err)
		}
		if err := database.CreateKeyFile(s.keyFile, key); err != nil {
			return err
		}
	}
	report, err := transfer.Restore(ctx, s.config(key), archive, files)
	if report == nil {
		if brought && !errors.Is(err, transfer.ErrUnknown) {
			err = errors.Join(err, os.Remove(s.keyFile))
		}
		return s.transferError(err)
	}
	after := err
	if asJSON {
		err = printJSON(stdout, map[string]any{"made": archive.Made, "restored": report, "afterwards": errorText(after)})
		return err
	}
	fmt.Fprintf(stdout, "Restored what was there on %s: %s.\n", archive.Made.Format("2006-01-02 15:04:05 MST"), copiedWords(report, archive.Files > 0))
	sayAfterwards(stdout, after)
	_, err = fmt.Fprintf(stdout, "When the bridge starts, %d accounts replace their keys, %d sessions are begun anew before anything is sent in them, and users are told.\n",
		report.Accounts, report.Sessions)
	return err
}

// checkArchive is restore --check.
func (s *subject) checkArchive(ctx context.Context, from string, archive *transfer.Archive, brought, asJSON bool, stdout io.Writer) error {
	if err := archive.Check(ctx); err != nil {
		return s.transferError(err)
	}
	whose := s.keyFile
	if brought {
		whose = ""
	}
	if asJSON {
		return printJSON(stdout, map[string]any{"whole": true, "made": archive.Made, "versions": archive.Versions, "key": archive.Key, "made_under": whose})
	}
	text := "under the key in " + s.keyFile
	if brought {
		text = "under a key that it brings along itself, so that nobody knows who made it"
	}
	_, err := fmt.Fprintf(stdout, "%s is whole: made on %s by postern %s, %s.\n", from, archive.Made.Format("2006-01-02 15:04:05 MST"), archive.Program, text)
	return err
}

// sayAfterwards tells of what went wrong when everything was done.
func sayAfterwards(stdout io.Writer, err error) {
	if err != nil {
		fmt.Fprintf(stdout, "All of it is there, and nothing is to be done again; what went wrong afterwards: %v.\n", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// keyOr reads the key file, or if there is none, and it is to be believed, what the archive has in its place; brought says so.
func (s *subject) keyOr(inArchive []byte, believed bool) (key [database.KeySize]byte, brought bool, err error) {
	key, err = database.LoadKeyFile(s.keyFile)
	if err == nil {
		return key, false, nil
	}
	say := func(format string, args ...any) ([database.KeySize]byte, bool, error) {
		return key, false, &exitError{exitConfig, fmt.Errorf(format, args...)}
	}
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return say("%w", about(s.keyFile, err))
	case inArchive == nil:
		return say("the key file is not in the archive, and not at %s: put it there first, from where it was kept", s.keyFile)
	case !believed:
		return say("there is no key file at %s: put it there from where it was kept. The archive brings one along, which is believed with --with-key: only do that with an "+
			"archive of your own", s.keyFile)
	}
	if key, err = database.ParseKeyFile(inArchive); err != nil {
		return key, true, &exitError{exitDatabase, err}
	}
	return key, true, nil
}

const moveUsage = `postern move-to-postgres - move the bridge from SQLite to PostgreSQL

  postern move-to-postgres --to URI [--json]
  postern move-to-postgres --to-file FILE [--json]
  postern move-to-postgres --undo --yes

  -c, --config FILE   the bridge's configuration (config.yaml), which still names the SQLite file
  --to URI            the database, such as postgres://postern:PASSWORD@127.0.0.1/postern?sslmode=disable
  --to-file FILE      a file with that URI in it, so that the password is in nobody's list of processes
  --undo              give up the copy on the server for good, and let the bridge start on the SQLite file again
  --yes               with --undo: the copy on the server is dropped, or no bridge will ever start on it again
  --json              print JSON

The bridge must not run. The database on the server must be empty. Everything is copied in one transaction, read again and compared with
what was read, row by row, before that is committed; a failure leaves nothing there. Sessions with others go on as they are.

The SQLite file stays, with a mark in it, and no bridge starts on it: two that go on from one state would use keys twice.
Keep key file and epoch file where they are. The configuration is not changed: the command says what to set there.

Exit status: 0 done, 1 it could not be done, 2 wrong usage, 10 configuration, 14 database.
`

// moveFlags are what the command was given.
type moveFlags struct {
	config, to, file string
	undo, yes        bool
	asJSON, help     bool
}

func parseMove(args []string) (*moveFlags, error) {
	f := &moveFlags{}
	set := verbFlags("move-to-postgres", &f.config, &f.asJSON, &f.help)
	set.StringVar(&f.to, "to", "", "")
	set.StringVar(&f.file, "to-file", "", "")
	set.BoolVar(&f.undo, "undo", false, "")
	set.BoolVar(&f.yes, "yes", false, "")
	words, err := wordsOf(set, args)
	if err != nil || f.help {
		return f, err
	}
	ways := 0
	for _, given := range []bool{f.to != "", f.file != "", f.undo} {
		if given {
			ways++
		}
	}
	switch {
	case len(words) > 0:
		return nil, fmt.Errorf("unknown argument %q", words[0])
	case ways != 1:
		return nil, errors.New("move-to-postgres needs --to, --to-file or --undo, and one of them")
	case f.undo != f.yes:
		return nil, errors.New("--undo needs --yes, and only that does: two bridges that go on from one state use keys twice, so say so when the copy on the server is dropped, " +
			"or when no bridge will ever start on it again")
	case f.undo && f.asJSON:
		return nil, errors.New("--json does not go with --undo")
	}
	return f, nil
}

// moveCommand runs the command and returns the exit status.
func moveCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseMove(args)
	if err != nil {
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, moveUsage)
		return exitUsage
	} else if f.help {
		fmt.Fprint(stdout, moveUsage)
		return 0
	}
	return verbStatus(stderr, f.move(ctx, stdout), 0)
}

func (f *moveFlags) move(ctx context.Context, stdout io.Writer) error {
	s, err := loadSubject(f.config)
	if err != nil {
		return err
	}
	if s.cfg.Database.Type == "postgres" {
		return &exitError{exitConfig, errors.New("database.type is postgres already: it has to name the SQLite file that is to be moved")}
	}
	key, err := s.key()
	if err != nil {
		return err
	}
	cfg := s.config(key)
	if f.undo {
		if err := transfer.Unmove(ctx, cfg); errors.Is(err, transfer.ErrNotMarked) {
			return errors.New("this database was not moved: nothing is to be undone")
		} else if err != nil {
			return s.transferError(err)
		}
		_, err := fmt.Fprintln(stdout, "The bridge starts on the SQLite file again. Never let one start on the copy on the server any more: drop it. Since nobody knows how far that "+
			"has come, new sessions are begun with everybody, and users are told.")
		return err
	}
	uri := f.to
	if f.file != "" {
		raw, err := os.ReadFile(f.file)
		if err != nil {
			return fmt.Errorf("--to-file: %w", err)
		}
		uri = strings.TrimSpace(string(raw))
	}
	report, err := transfer.Move(ctx, cfg, uri)
	if errors.Is(err, transfer.ErrMarked) {
		return &exitError{exitDatabase, errors.New("this database was moved already, or a move was cut off: if the tables are on the server, set database.type and " +
			"database.uri; if not, give postern move-to-postgres --undo --yes, and begin again")}
	} else if errors.Is(err, transfer.ErrStaysMarked) {
		return &exitError{exitDatabase, fmt.Errorf("nothing was copied, and the mark on the SQLite file could not be taken away again: when what is wrong with it is mended, give "+
			"postern move-to-postgres --undo --yes, and begin again (%w)", err)}
	} else if report == nil {
		return s.transferError(err)
	}
	if f.asJSON {
		return printJSON(stdout, map[string]any{"moved": report, "afterwards": errorText(err)})
	}
	fmt.Fprintf(stdout, "Copied %s, and compared them.\n", copiedWords(report, false))
	sayAfterwards(stdout, err)
	for column, n := range report.Replaced {
		fmt.Fprintf(stdout, "%s: %d texts had characters that PostgreSQL does not take, and have a mark in their place.\n", column, n)
	}
	for _, table := range report.LeftOut {
		fmt.Fprintf(stdout, "%s is not the bridge's, and was left out.\n", table)
	}
	path, err := filepath.Abs(f.config)
	if err != nil {
		path = f.config
	}
	_, err = fmt.Fprintf(stdout, "Now set database.type to postgres and database.uri to that address in %s, and start the bridge. No bridge starts on the SQLite file any more; "+
		"remove it when the new one has run for a while.\n", path)
	return err
}
