package main

import (
	"bytes"
	"encoding/json"
	"runtime"
	"testing"
)

// FuzzLogLine filters any line. What is written is one JSON object on one line, with allowed fields and plain values alone;
// what is allocated is bounded by 256 KiB and 256 bytes for each byte of the line.
//
// decoder: logfilter.go:filterLine,scrub,quoteJSON
func FuzzLogLine(f *testing.F) {
	for _, line := range []string{
		`{"level":"info","message":"to @ada:example.org from +4915112345678","user_id":"@a:b","count":3,"status":true,"error":null}`,
		`{"content":{"body":"x"},"parts":[1,2],"caller":"a.go:1"}`, `{"level":`, `[]`, `"message"`, ``,
		`{"message":"\u2028\ud800 \n <&>","reason":"https://example.org/?token=x","code":1e999}`, `{"count":1,"count":{"a":1},"":0}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var out []byte
		var used uint64
		bound := uint64(256<<10 + 256*len(line))
		for range 5 { // other goroutines are counted too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out = filterLine(line)
			runtime.ReadMemStats(&after)
			if used = after.TotalAlloc - before.TotalAlloc; used <= bound {
				break
			}
		}
		if used > bound {
			t.Errorf("%d bytes allocated for a line of %d", used, len(line))
		}
		if bytes.IndexByte(out, '\n') != len(out)-1 {
			t.Errorf("%q is not one line", out)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(out, &fields); err != nil {
			t.Fatalf("%q from %q: %v", out, line, err)
		}
		for name, value := range fields {
			if !allowedFields[name] || value[0] == '{' || value[0] == '[' {
				t.Errorf("field %q is written as %s", name, value)
			}
		}
	})
}
