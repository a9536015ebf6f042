package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"postern/database"
)

func TestWhoIsToldToEndInItsStartEndsInOrder(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	var out bytes.Buffer
	log := zerolog.New(&out)
	p := &program{log: &log}
	early := p.expectEnd(ctx)
	framework := p.log.With().Str("component", "matrix").Logger() // derived, as the framework does
	wrong := errors.New("the database is away")
	framework.WithLevel(zerolog.FatalLevel).Msg("one")
	if err := early.unless(wrong); !errors.Is(err, wrong) {
		t.Errorf("a failure became %v", err)
	}
	end()
	framework.WithLevel(zerolog.FatalLevel).Msg("two")
	framework.Error().Msg("three")
	if err := early.unless(context.Canceled); err != nil {
		t.Errorf("an end that was asked for became %v", err)
	}
	early.over()
	framework.WithLevel(zerolog.FatalLevel).Msg("four")
	for word, want := range map[string]bool{"one": true, "two": false, "three": true, "four": true, "before the start was through": true} {
		if strings.Contains(out.String(), word) != want {
			t.Errorf("%q is in the log: %v, want %v", word, !want, want)
		}
	}
}

func TestAProgramThatIsToldToEndBeforeItsDatabaseIsOpenEndsWithNothingWrong(t *testing.T) {
	dir := t.TempDir()
	config, log := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "log")
	text := fmt.Sprintf("homeserver: {address: 'http://127.0.0.1:1', domain: postern.localhost}\nappservice: {as_token: one-of-them, hs_token: the-other}\n"+
		"network: {public: {base: 'https://bridge.postern.localhost'}, gatekeepers: {whatsapp: {integrator: 7}}}\nbridge: {permissions: {postern.localhost: user}}\n"+
		"database: {type: sqlite3-fk-wal, uri: %q}\nlogging: {min_level: trace, writers: [{type: file, format: json, filename: %q}]}\n",
		filepath.Join(dir, "postern.db"), log)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	ctx, end := context.WithCancel(t.Context())
	end()
	code := dispatch(ctx, []string{"-c", config}, &stdout, &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Errorf("exit status %d\n%s", code, stderr.String())
	}
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(said, []byte("Stopping before the start was through")) || bytes.Contains(said, []byte(`"level":"fatal"`)) {
		t.Errorf("the log says\n%s", said)
	}
}

func TestAKeyFileThatIsNoneIsNamedWithTheRemedy(t *testing.T) {
	s := newShell(t, freePort(t))
	key := filepath.Join(s.dir, "postern.key")
	if err := os.WriteFile(key, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, problems := s.run(exitConfig, "list")
	s.has("the command", problems, key, "from its backup")
	if err := about("there", database.ErrEpochFormat).Error(); !strings.Contains(err, "there: ") || !strings.Contains(err, "network.epoch_file") {
		t.Error(err)
	}
}
