package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/rs/zerolog"
	"github.com/tidwall/gjson"
	"go.mau.fi/zeroconfig"
)

// allowedFields are the fields of a log line that are written. Everything else,
// whoever logged it, is left out: the framework puts request bodies, addresses
// and names into its lines (promise 7). Strings in allowed fields are scrubbed
// as well.
var allowedFields = map[string]bool{
	"level": true, "time": true, "message": true, "error": true, "caller": true,
	// what it is about, in opaque local ids
	"account": true, "login": true, "login_id": true, "chat": true, "contact": true, "portal_id": true, "portal_receiver": true,
	"gatekeeper": true, "profile": true, "event_id": true, "event_type": true, "room_id": true, "portal_mxid": true, "txn_id": true, "id": true,
	// where and how
	"action": true, "component": true, "in": true, "where": true, "state": true, "from_state": true, "event": true, "kind": true, "reason": true, "code": true, "db_section": true,
	"bridge_evt_type": true, "step": true, "stanza": true, "class": true, "panic": true, "name": true, "version": true, "go_version": true, "built_at": true,
	"section": true, "holder": true, "method": true, "carrier": true, "driver": true,
	// how much
	"count": true, "seq": true, "attempt": true, "duration": true, "delay": true, "bytes": true, "size": true, "left": true, "uploaded": true, "total": true, "status": true, "status_code": true, "age": true, "pending": true,
	"signal": true, "exit_code": true, "port": true, "wait": true, "until": true, "after": true, "apart": true, "behind": true, "parts": true, "rows_affected": true, "dialect": true,
}

// secrets are what no string in a log line may hold, whatever field it is in.
var secrets = regexp.MustCompile(`(?i)` +
	`https?://[^\s"']+` + // addresses with parameters in them
	`|wss?://[^\s"']+|tcp://[^\s"']+` +
	`|@[^\s:"']+:[a-z0-9._-]+(?::\d+)?` + // Matrix IDs
	`|[0-9a-z._:-]+@(?:interop|lid|s\.whatsapp\.net|msgr|c\.us|g\.us)\b` + // the gatekeeper's addresses
	`|[^\s@"'<>]+@[^\s@"'<>]+\.[a-z]{2,}` + // e-mail
	`|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b` + // IPv4
	`|\[?(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\]?(?::\d+)?` + // IPv6
	`|\+?\b\d{9,}\b` + // phone numbers
	`|\bey[a-z0-9_-]+\.[a-z0-9_-]+\.[a-z0-9_-]*` + // tokens
	`|\b(?:as|hs|syt|mct|pst)_[a-z0-9_-]{8,}`)

// hidden stands in place of what is left out of a string.
const hidden = "[hidden]"

// scrub replaces what names a person or opens a door.
func scrub(s string) string { return secrets.ReplaceAllString(s, hidden) }

// logFilter is the end of the log pipe: it lets only allowed fields through.
type logFilter struct {
	out    zerolog.LevelWriter
	plain  io.Writer
	levels *logLevels
}

// newLogger makes the program's logger: the configured writers behind the
// filter; and what its level can be changed with.
func newLogger(cfg *zeroconfig.Config) (*zerolog.Logger, *logLevels, error) {
	var writers []io.Writer
	for i := range cfg.Writers {
		w, err := cfg.Writers[i].Compile()
		if err != nil {
			return nil, nil, fmt.Errorf("logging.writers: number %d: %w", i+1, err)
		}
		writers = append(writers, w)
	}
	levels := newLogLevels(zerolog.TraceLevel)
	if cfg.MinLevel != nil {
		levels = newLogLevels(*cfg.MinLevel)
	}
	multi := zerolog.MultiLevelWriter(writers...)
	with := levelledLogger(&logFilter{out: multi, plain: multi, levels: levels}, levels).With()
	if cfg.Timestamp == nil || *cfg.Timestamp {
		with = with.Timestamp()
	}
	if cfg.Caller {
		with = with.Caller()
	}
	log := with.Logger()
	return &log, levels, nil
}

// levelledLogger is a logger on a filter, with levels that can be changed.
func levelledLogger(filter *logFilter, levels *logLevels) zerolog.Logger {
	return zerolog.New(filter).Level(zerolog.TraceLevel).Sample(levels)
}

// Write filters a line without a level.
func (f *logFilter) Write(line []byte) (int, error) {
	if _, err := f.plain.Write(filterLine(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// WriteLevel filters a line.
func (f *logFilter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	if f.levels != nil && !f.levels.lets(level, line) {
		return len(line), nil
	}
	if _, err := f.out.WriteLevel(level, filterLine(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// filterLine copies the allowed fields of one JSON line. Objects and lists are
// left out, since nobody can say what they hold.
func filterLine(line []byte) []byte {
	out := make([]byte, 1, len(line)+1)
	out[0] = '{'
	if !gjson.ValidBytes(line) {
		return []byte(`{"level":"error","message":"a log line that is no JSON was left out"}` + "\n")
	}
	parsed := gjson.ParseBytes(line)
	// What a library panics with may hold the data at which it panicked.
	panicked := strings.Contains(strings.ToLower(parsed.Get("message").String()), "panic")
	parsed.ForEach(func(key, value gjson.Result) bool {
		if !allowedFields[key.String()] {
			return true
		}
		var text string
		switch value.Type {
		case gjson.String:
			text = value.String()
			if k := key.String(); k != "time" && k != "level" && k != "until" && k != "built_at" {
				text = scrub(text)
			}
			if panicked && key.String() == "error" {
				text = hidden
			}
			text = quoteJSON(text)
		case gjson.Number, gjson.True, gjson.False, gjson.Null:
			text = value.Raw
		default:
			return true
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoteJSON(key.String())...), ':'), text...)
		return true
	})
	return append(out, '}', '\n')
}

// quoteJSON quotes a string as JSON.
func quoteJSON(s string) string {
	return string(gjson.AppendJSONString(nil, s))
}
