package main

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
	"github.com/tidwall/gjson"

	"postern/connector/admin"
)

// logLevels says which lines are written, and can be changed while the bridge runs. What it lets through goes through the filter as any line,
// so no level shows what the filter leaves out; and writers that the configuration gives a level of their own keep it.
type logLevels struct {
	configured zerolog.Level
	// change is held while the table is replaced.
	change sync.Mutex
	table  atomic.Pointer[levelTable]
}

// levelTable is what holds now; it is never changed.
type levelTable struct {
	all    zerolog.Level
	parts  map[string]zerolog.Level // by component
	lowest zerolog.Level
}

func newLogLevels(configured zerolog.Level) *logLevels {
	l := &logLevels{configured: configured}
	l.put(configured, nil)
	return l
}

func (l *logLevels) put(all zerolog.Level, parts map[string]zerolog.Level) {
	t := &levelTable{all: all, parts: parts, lowest: all}
	for _, level := range parts {
		t.lowest = min(t.lowest, level)
	}
	l.table.Store(t)
}

// Sample implements zerolog.Sampler: what nobody wants is not even put together.
func (l *logLevels) Sample(level zerolog.Level) bool { return level >= l.table.Load().lowest }

// lets says whether a line is written, by its component.
func (l *logLevels) lets(level zerolog.Level, line []byte) bool {
	t := l.table.Load()
	if len(t.parts) == 0 || level > zerolog.ErrorLevel {
		return level >= t.all
	}
	component := gjson.GetBytes(line, "component").String()
	if component == "" {
		component = admin.ComponentFramework
	}
	if own, ok := t.parts[component]; ok {
		return level >= own
	}
	return level >= t.all
}

// Levels implements connector.LogLevels.
func (l *logLevels) Levels() admin.LogLevels {
	t := l.table.Load()
	levels := admin.LogLevels{Level: t.all.String(), Configured: l.configured.String(), Components: make(map[string]string, len(t.parts))}
	for component, level := range t.parts {
		levels.Components[component] = level.String()
	}
	return levels
}

// SetLevel implements connector.LogLevels.
func (l *logLevels) SetLevel(component, level string) error {
	l.change.Lock()
	defer l.change.Unlock()
	if level == "" {
		l.put(l.configured, nil)
		return nil
	}
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return err
	}
	if component == "" {
		l.put(parsed, nil)
		return nil
	}
	t := l.table.Load()
	parts := maps.Clone(t.parts)
	if parts == nil {
		parts = map[string]zerolog.Level{}
	}
	parts[component] = parsed
	l.put(t.all, parts)
	return nil
}
