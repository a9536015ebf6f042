package database

import (
	"os"
	"path/filepath"
)

// warnAboutEpochPlace tells the operator when the epoch file lies beside the SQLite file: whoever backs up and puts back the whole folder puts
// both back, and then the old copy is not noticed.
func (db *DB) warnAboutEpochPlace(epochFile string) {
	if db.place.file == "" { // a server
		return
	}
	one, err := os.Stat(filepath.Dir(db.place.file))
	if err != nil {
		return // then there is worse
	}
	other, err := os.Stat(filepath.Dir(epochFile))
	if err != nil || !os.SameFile(one, other) {
		return
	}
	db.log.Warn().Msg("The epoch file lies in the folder of the database. If that folder is ever restored from one backup or snapshot, the old copy " +
		"is not noticed and message keys may be used twice: name a place outside of such backups in network.epoch_file, and move the file there")
}
