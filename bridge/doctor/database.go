package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/rs/zerolog"

	"postern/database"
)

func (e *examination) postgres() bool { return e.Config.Database.Type == "postgres" }

// lookAtKeyFile: whether the key can be read, by its owner alone.
func lookAtKeyFile(_ context.Context, e *examination) []Result {
	path := e.beside(e.Network.KeyFile)
	key, err := database.LoadKeyFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := canMakeFileIn(filepath.Dir(path)); err != nil {
			return fail("there is no key file at "+path+", and none can be made there", "let network.key_file name a place in a folder that the bridge may write to")
		}
		e.noKey = true
		return fine("there is no key file yet; the first start makes %s", path)
	case errors.Is(err, database.ErrKeyFilePermissions):
		return fail("others may read or write the key file "+path, "chmod 600 "+path)
	case errors.Is(err, database.ErrKeyFileFormat):
		return fail(path+" is not a key file of this program", "put the bridge's own back, from its backup: without it what is sealed in the database is lost")
	case err != nil:
		return fail("the key file "+path+" cannot be read", "make it readable for the bridge's user, and only for that one (chmod 600, chown)")
	}
	e.key, e.haveKey = key, true
	return fine("%s can be read by its owner alone; keep a backup of it, apart from the database's: postern backup leaves it out unless asked", path)
}

// lookAtDatabase: whether it is there, of a version that this program knows, and of this key.
func lookAtDatabase(ctx context.Context, e *examination) []Result {
	base, err := database.Inspect(ctx, database.Config{
		Dialect: e.Config.Database.Type, URI: e.Config.Database.URI, MasterKey: e.key, Log: zerolog.Nop(),
	})
	switch {
	case !e.postgres() && database.IsAbsent(err):
		path, err := database.CanMake(e.Config.Database.URI)
		if err != nil {
			return fail(fmt.Sprintf("there is no database at %s, and none can be made there", path),
				"let database.uri name a file in a folder that the bridge may write to (a relative path is relative to the folder in which the bridge is started)")
		}
		return fine("there is no database yet; the first start makes %s", path)
	case errors.Is(err, database.ErrDamaged):
		return fail("the database's file is damaged", "stop the bridge and restore a backup, or rescue what is left into a new file with sqlite3's .recover")
	case err != nil && e.postgres():
		return fail("the database server does not let us in: "+errText(err), "see whether it runs and whether user, password, host and database in database.uri are right")
	case err != nil:
		return fail("the database's file cannot be opened: "+errText(err), "let the bridge's user read and write it, its folder, and the files beside it (-wal, -shm)")
	}
	e.base = base
	moved, err := base.Moved(ctx)
	switch {
	case err != nil:
		return fail("the database cannot be read: "+errText(err), "let the bridge's user read its tables")
	case moved:
		return fail("this database was moved to PostgreSQL, and no bridge starts on what was left behind",
			"let database.type and database.uri name the server; if that copy is given up for good, postern move-to-postgres --undo --yes brings this one back")
	case base.Compatible > base.Known:
		return fail(fmt.Sprintf("the database is of a newer version (%d) than this program knows (%d)", base.Schema, base.Known),
			"run the newer program, or put the backup from before the upgrade back (postern restore)")
	case base.Schema == 0:
		return fine("%s answers; the first start makes the tables", base.Version)
	case e.noKey:
		return fail("the database has tables, and the key file that it was sealed with is not there", "put network.key_file back from its backup")
	}
	if !e.haveKey {
		return fine("%s, tables of version %d", base.Version, base.Schema)
	}
	if err := base.Key(ctx); errors.Is(err, database.ErrWrongKey) {
		e.haveKey = false
		return fail("the key file is not the one that this database was made with", "restore the key file that belongs to it, or name the right one in network.key_file")
	} else if err != nil {
		return fail("the database cannot be read: "+errText(err), "let the bridge's user read its tables")
	}
	return fine("%s, tables of version %d", base.Version, base.Schema)
}

// lookAtWriting: whether the database takes changes.
func lookAtWriting(ctx context.Context, e *examination) []Result {
	if e.base == nil {
		return skip("there is no database that can be looked at")
	}
	if err := e.base.Writable(ctx); err != nil {
		remedy := "let the bridge's user write the file and its folder, and see whether the disk is full or mounted read-only"
		if e.postgres() {
			remedy = "see whether the server is a standby or read-only, and grant CREATE on the schema to the bridge's user"
		}
		return fail("nothing can be written to the database: "+errText(err), remedy)
	}
	return fine("a table could be made, and was taken back")
}

// lookAtDurability: whether what is committed stays, also through a power cut.
func lookAtDurability(ctx context.Context, e *examination) []Result {
	if e.base == nil {
		return skip("there is no database that can be looked at")
	}
	if e.postgres() {
		return lookAtServer(ctx, e)
	}
	const move = "put the database on a local disk that stays (in a container: on a volume), and let database.uri name it there"
	switch kind := filesystem(e.base.Path); kind {
	case "nfs", "cifs", "smb2", "9p", "fuse", "afs", "ceph":
		return warn("the database lies on "+kind+", where SQLite's locks and syncs may not hold", move)
	case "tmpfs", "ramfs":
		return warn("the database lies in memory ("+kind+") and is lost when the machine restarts", move)
	case "overlayfs":
		return warn("the database lies in a container's own layer and is lost with the container", move)
	}
	journal, err := e.base.Setting(ctx, "journal_mode")
	if err != nil {
		return fail("the database cannot be asked: "+errText(err), "let the bridge's user read it")
	}
	return fine("journal %s; the bridge commits with synchronous=FULL whatever database.uri says", journal)
}

func lookAtServer(ctx context.Context, e *examination) (results []Result) {
	for _, s := range []struct{ name, consequence string }{
		{"fsync", "a power cut damages the whole database"},
		{"full_page_writes", "a power cut may damage the database"},
		{"synchronous_commit", "other programs' commits may be lost in a power cut; the bridge sets it on for its own"},
	} {
		value, err := e.base.Setting(ctx, s.name)
		if err != nil {
			return fail("the server does not tell its settings: "+errText(err), "connect to PostgreSQL itself, without something in between that takes SHOW for its own")
		}
		if value == "off" {
			results = append(results, warn("the server's "+s.name+" is off: "+s.consequence, "switch "+s.name+" on in postgresql.conf, or for this database")...)
		}
	}
	if len(results) == 0 {
		return fine("fsync, full_page_writes and synchronous_commit are on")
	}
	return results
}

// lookAtEpochFile: whether an old copy of the database would be noticed.
func lookAtEpochFile(ctx context.Context, e *examination) []Result {
	path := e.beside(e.Network.EpochFile)
	if e.base == nil {
		if err := canMakeFileIn(filepath.Dir(path)); err != nil {
			return fail("no epoch file can be made at "+path, "let network.epoch_file name a place in a folder that the bridge may write to")
		}
		return skip("there is no database that can be looked at")
	}
	switch err := e.base.Epoch(ctx, path); {
	case errors.Is(err, database.ErrEpochForeign):
		return fail("the epoch file "+path+" belongs to another database",
			"give each bridge one of its own; if this is the database that is wanted, delete the file: new sessions are then begun with everybody")
	case errors.Is(err, database.ErrEpochFormat):
		return fail(path+" is not an epoch file", "name another file in network.epoch_file")
	case err != nil:
		return fail("the epoch file "+path+" cannot be read", "make it readable and writable for the bridge's user")
	}
	if err := canMakeFileIn(filepath.Dir(path)); err != nil {
		return fail("no epoch file can be written at "+path+": "+errText(err), "let the bridge's user write to that folder: the file is replaced, not written over")
	}
	if e.base.Path != "" && sameFolder(filepath.Dir(e.base.Path), filepath.Dir(path)) {
		return warn("the epoch file lies in the folder of the database: where that is restored as a whole, the old copy is not noticed and message keys may be used twice",
			"name a place outside of such backups in network.epoch_file, and move the file there while the bridge is stopped")
	}
	return fine("%s can be used, and is not part of the database's folder", path)
}

// accounts counts the users, for limits.
func (e *examination) accounts(ctx context.Context) int {
	if e.base == nil {
		return 0
	}
	n, err := e.base.Accounts(ctx)
	if err != nil {
		return 0 // the database was complained about before
	}
	return n
}
