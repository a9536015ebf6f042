package canary

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"postern/bridge/parts"
)

// World adds what a world has to hide so far: what its homeserver and its gatekeeper were told by the tests, and told them, and the
// secrets in the bridge's files. It may be called again when there is more.
func (s *Search) World(w *parts.World) error {
	for _, heard := range []*parts.Heard{&w.Homeserver.Heard, &w.Gatekeeper.Heard} {
		texts := heard.Texts()
		for _, text := range slices.Sorted(maps.Keys(texts)) {
			s.Text(texts[text], text)
		}
		for key, what := range heard.Keys() {
			s.Key(what, []byte(key))
		}
	}
	secrets, err := w.Bridge.Secrets()
	if err != nil {
		return err
	}
	for _, what := range slices.Sorted(maps.Keys(secrets)) { // each is known by the first place that it is in
		s.Text(what, secrets[what])
	}
	return nil
}

// Log looks through what the bridge of a world has written behind a place in its log, which it returns. Texts that the
// program itself has in its file are no findings.
func (s *Search) Log(w *parts.World, program string, from int64) (found []Finding, text []byte, err error) {
	file, err := os.Open(w.Bridge.LogPath())
	if err != nil {
		return nil, nil, fmt.Errorf("searching a log: %w", err)
	}
	defer file.Close()
	if _, err = file.Seek(from, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("searching a log: %w", err)
	}
	if text, err = io.ReadAll(file); err != nil {
		return nil, nil, fmt.Errorf("searching a log: %w", err)
	}
	if err = s.World(w); err != nil {
		return nil, nil, err
	}
	if found, err = s.Look(text, program); err != nil {
		return nil, nil, err
	}
	return found, text, nil
}

// Look looks for the secrets, and for what has the form of one, in what a program has written. Texts that the program itself has in its
// file are no findings.
func (s *Search) Look(text []byte, program string) ([]Finding, error) {
	found, err := OwnWords(s.Known(text), program)
	if err != nil {
		return nil, err
	}
	return append(found, Forms(text)...), nil
}
