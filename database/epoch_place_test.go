package database_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/database"
	"postern/database/databasetest"
)

func TestAnEpochFileBesideTheDatabaseIsToldAtTheStart(t *testing.T) {
	folder := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	file := databasetest.SQLiteConfig(t)
	file.URI = filepath.Join(folder, "postern.db")
	for name, c := range map[string]struct {
		cfg  database.Config
		path string
		told bool
	}{
		"beside it":                {file, filepath.Join(folder, "postern.epoch"), true},
		"beside it, by a link":     {file, filepath.Join(link, "postern.epoch"), true},
		"in another folder":        {file, filepath.Join(t.TempDir(), "postern.epoch"), false},
		"no file":                  {file, "", false},
		"a server has no such one": {databasetest.PostgresConfig(t), filepath.Join(folder, "other.epoch"), false},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			c.cfg.Log, c.cfg.EpochFile = zerolog.New(&log), c.path
			db, err := database.Open(t.Context(), c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err = db.Close(); err != nil {
				t.Fatal(err)
			}
			if told := strings.Count(log.String(), "lies in the folder of the database"); (told == 1) != c.told || told > 1 {
				t.Errorf("it is told %d times:\n%s", told, log.String())
			}
			if strings.Contains(log.String(), folder) {
				t.Error("a path is in the log")
			}
		})
	}
}
