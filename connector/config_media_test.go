package connector

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/connector/profile"
	"postern/database/databasetest"
)

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, " ": 0, "0": 0, "1048576": 1 << 20, "500 MB": 500e6, "500MB": 500e6, "10 GiB": 10 << 30, "1.5 kib": 1536, "2G": 2 << 30,
		"3 TB": 3e12, "100 b": 100, " 7 kB ": 7000,
	} {
		if got, ok := parseSize(text); !ok || got != want {
			t.Errorf("%q: %d %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"-1", "much", "10 apples", "MB", ".", "1.2.3 MB", "99999999 TiB", "1e3", "10 MB/s", "10\x00MB", "∞"} {
		if got, ok := parseSize(text); ok {
			t.Errorf("%q: read as %d", text, got)
		}
	}
}

func TestASectionOnAttachmentsThatCannotWorkIsRefusedAndTheKeyIsNamed(t *testing.T) {
	s3 := func(changes map[string]any) map[string]any {
		all := map[string]any{
			"media.store": "s3", "media.s3.endpoint": "s3.example:9000", "media.s3.bucket": "b", "media.s3.access_key": "a", "media.s3.secret_key": "s",
		}
		for key, value := range changes {
			all[key] = value
		}
		return all
	}
	for name, c := range map[string]struct {
		changes map[string]any
		key     string
	}{
		"an unknown store":           {map[string]any{"media.store": "tape"}, "network.media.store"},
		"an unknown way":             {map[string]any{"media.view_once": "hide"}, "network.media.view_once"},
		"a quota that is no size":    {map[string]any{"media.quota": "a lot"}, "network.media.quota"},
		"a negative limit":           {map[string]any{"media.max_upload": -1}, "network.media.max_upload"},
		"a download limit of apples": {map[string]any{"media.max_download": "3 apples"}, "network.media.max_download"},
		"no endpoint":                {s3(map[string]any{"media.s3.endpoint": ""}), "network.media.s3.endpoint"},
		"an endpoint with a scheme":  {s3(map[string]any{"media.s3.endpoint": "https://s3.example"}), "network.media.s3.endpoint"},
		"no bucket":                  {s3(map[string]any{"media.s3.bucket": ""}), "network.media.s3.bucket"},
		"no key":                     {s3(map[string]any{"media.s3.access_key": ""}), "network.media.s3.access_key"},
		"no secret":                  {s3(map[string]any{"media.s3.secret_key": ""}), "network.media.s3.secret_key"},
	} {
		err := exampleWith(t, c.changes).prepare()
		if err == nil || !strings.HasPrefix(err.Error(), c.key+" ") {
			t.Errorf("%s: error is %v, want it to begin with %s", name, err, c.key)
		}
	}
	c := exampleWith(t, s3(map[string]any{"media.quota": 5000, "media.max_upload": "", "media.max_download": "1 GB"}))
	if err := c.prepare(); err != nil || c.Media.quota != 5000 || c.Media.maxUpload != 0 || c.Media.maxDownload != 1e9 {
		t.Errorf("%+v, %v", c.Media, err)
	}
}

func TestASectionWithoutKeysHasTheExamplesValues(t *testing.T) {
	var empty MediaConfig
	if err := empty.prepare(); err != nil {
		t.Fatal(err)
	}
	example := exampleWith(t, nil).Media
	if empty.Store != example.Store || empty.Path != example.Path || empty.Spool != example.Spool || empty.ViewOnce != example.ViewOnce {
		t.Errorf("%+v, the example has %+v", empty, example)
	}
}

func TestTheSpoolIsEmptiedAtTheStartAndNothingElseEverIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "spool")
	if err := openSpool(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "left.mp4"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "work", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := openSpool(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != spoolMark {
		t.Errorf("left: %v, %v", entries, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	mine := t.TempDir()
	if err := os.WriteFile(filepath.Join(mine, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openSpool(mine); err == nil {
		t.Error("a folder with other things in it was taken")
	}
	if _, err := os.Stat(filepath.Join(mine, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

func TestStoreAndSpoolAreOpenedBesideTheConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		path, spool, ffmpeg string
		wrong               string
	}{
		"as in the example":         {"media", "spool", "", ""},
		"the spool in the store":    {"media", "media/spool", "", "network.media.spool"},
		"the store in the spool":    {"spool/media", "spool", "", "network.media.spool"},
		"one folder for both":       {"both", "./both/", "", "network.media.spool"},
		"names that begin alike":    {"media", "media-spool", "", ""},
		"ffmpeg that is not there":  {"media", "spool", "bin/ffmpeg", "network.media.ffmpeg"},
		"ffmpeg by an absolute way": {"media", "spool", os.Args[0], ""},
	} {
		dir := t.TempDir()
		conn := New()
		conn.db = databasetest.Open(t, databasetest.SQLiteConfig(t))
		conn.Config.agreements = []*agreement{{profile: profile.WhatsApp()}}
		conn.Config.Media = MediaConfig{Path: c.path, Spool: c.spool, FFmpeg: c.ffmpeg}
		if err := conn.Config.Media.prepare(); err != nil {
			t.Fatal(err)
		}
		err := conn.openMedia(t.Context(), dir, zerolog.Nop())
		if c.wrong != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.wrong) {
				t.Errorf("%s: %v, want it to begin with %s", name, err, c.wrong)
			}
			continue
		}
		if err != nil || conn.media == nil || conn.ffmpeg != c.ffmpeg {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, folder := range []string{filepath.Join(dir, c.path), conn.spool} {
			if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
