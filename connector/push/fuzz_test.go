package push

import (
	"errors"
	"runtime"
	"testing"
	"unicode/utf8"
)

// FuzzBody looks for a panic, for a name that is none, and for allocation out of proportion. Only who can sign gets a body
// read at all.
//
// decoder: push.go:parse
func FuzzBody(f *testing.F) {
	for _, text := range []string{
		body, `{"to":"` + "\\u00e4" + `"}`, `{"a":[1,{"to":"x"}],"to":"b"}`, `{"to":1}`, `{"to":"a","to":"b"}`, `[]`, `{}`, `{"to":"a"} x`,
		`{"to":"a"`, `{"to":"a"]`, `{7:1}`, `{"a":}`, "\xff", ``, `{"to":"a"}{}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		name, err := parse(body)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("%d bytes allocated for a body of %d", grown, len(body))
		}
		if err != nil {
			if !errors.Is(err, errBody) || name != "" {
				t.Errorf("%q beside %v", name, err)
			}
			return
		}
		if n := utf8.RuneCountInString(name); n < 1 || n > maxIdentifier || len(body) > MaxBody {
			t.Errorf("took a name of %d characters from a body of %d bytes", n, len(body))
		}
	})
}
