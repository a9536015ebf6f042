package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// TestTheLevelOfTheLogIsChangedWhileItIsWritten: for all of it, for one component, and back; the filter stands behind every level.
func TestTheLevelOfTheLogIsChangedWhileItIsWritten(t *testing.T) {
	var out bytes.Buffer
	levels := newLogLevels(zerolog.InfoLevel)
	log := levelledLogger(&logFilter{out: zerolog.MultiLevelWriter(&out), plain: &out, levels: levels}, levels)
	part := log.With().Str("component", "database").Logger()
	write := func() string {
		out.Reset()
		for _, l := range []zerolog.Logger{log, part} {
			l.Trace().Str("body", "what somebody said").Msg("trace")
			l.Debug().Msg("debug")
			l.Info().Msg("info")
			l.Error().Msg("error")
		}
		if strings.Contains(out.String(), "somebody") {
			t.Errorf("the filter was gone around: %s", out.String())
		}
		var said []string
		for line := range strings.Lines(out.String()) {
			word := "-"
			if strings.Contains(line, `"database"`) {
				word = "d-"
			}
			for _, message := range []string{"trace", "debug", "info", "error"} {
				if strings.Contains(line, `"message":"`+message) {
					said = append(said, word+message)
				}
			}
		}
		return strings.Join(said, " ")
	}
	for i, step := range []struct{ component, level, want string }{
		{"", "", "-info -error d-info d-error"},
		{"database", "trace", "-info -error d-trace d-debug d-info d-error"},
		{"framework", "error", "-error d-trace d-debug d-info d-error"},
		{"", "debug", "-debug -info -error d-debug d-info d-error"},
		{"database", "error", "-debug -info -error d-error"},
		{"", "", "-info -error d-info d-error"},
	} {
		if err := levels.SetLevel(step.component, step.level); err != nil {
			t.Fatal(err)
		}
		if got := write(); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
	if err := levels.SetLevel("", "loud"); err == nil {
		t.Error("a level that there is not was taken")
	}
	if err := levels.SetLevel("database", "warn"); err != nil {
		t.Fatal(err)
	}
	if got := levels.Levels(); got.Level != "info" || got.Configured != "info" || len(got.Components) != 1 || got.Components["database"] != "warn" {
		t.Errorf("%+v", got)
	}
}
