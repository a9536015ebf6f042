package database

import (
	"context"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
)

// noteVersion begins the last statement of each step of the schema.
const noteVersion = "INSERT INTO " + versionTable + " "

// slowQuery is from when on a query is reported.
const slowQuery = time.Second

// dbLogger reports upgrades and slow queries. Unlike dbutil's own it never writes arguments, and
// not the error either, which can quote one.
type dbLogger struct {
	log zerolog.Logger
	// upgrading, if set, is Config.Upgrading.
	upgrading func()
}

var _ dbutil.DatabaseLogger = dbLogger{}

func (l dbLogger) QueryTiming(_ context.Context, method, query string, _ []any, rows int, took time.Duration, err error) {
	if l.upgrading != nil && strings.HasPrefix(query, noteVersion) {
		l.upgrading()
	}
	if took < slowQuery {
		return
	}
	l.log.Warn().Str("method", method).Str("query", query).Int("rows", rows).
		Dur("took", took).Bool("failed", err != nil).Msg("Query took long")
}

func (l dbLogger) WarnUnsupportedVersion(current, compat, latest int) {
	l.log.Warn().Int("current", current).Int("oldest_compatible", compat).Int("latest_known", latest).
		Msg("Database schema is newer than this program")
}

func (l dbLogger) PrepareUpgrade(current, _, latest int) {
	if current < latest {
		l.log.Info().Int("current", current).Int("latest_known", latest).Msg("Upgrading the database schema")
	}
}

func (l dbLogger) DoUpgrade(from, to int, message string, _ dbutil.TxnMode) {
	l.log.Info().Int("from", from).Int("to", to).Str("description", message).Msg("Database upgrade")
}

func (l dbLogger) Warn(msg string, _ ...any) {
	l.log.Warn().Str("warning", msg).Msg("Database warning")
}
