package convert

import (
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"
	mautrixformat "maunium.net/go/mautrix/format"
)

const (
	benchHTML = `<p>Hello <strong>Anna</strong>, see <a href="https://x.org/page">the page</a> and run <code>make</code>:</p>` +
		`<ul><li>one <em>two</em></li><li>three</li></ul><blockquote><p>quoted</p></blockquote><p>Bye &amp; thanks</p>`
	benchText = "Hello *Anna*, see https://x.org/page_one and run `make`:\n- one _two_\n- three\n> quoted\nBye & thanks"
)

func BenchmarkToInterop(b *testing.B) {
	for _, bench := range []struct {
		name    string
		content *event.MessageEventContent
	}{
		{"plain", &event.MessageEventContent{MsgType: event.MsgText, Body: "Hello Anna, see you at eight"}},
		{"html", htmlMessage(benchHTML)},
		{"html 64 KiB", htmlMessage(strings.Repeat(benchHTML, 64<<10/len(benchHTML)))},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.content.Body) + len(bench.content.FormattedBody)))
			for b.Loop() {
				if _, err := ToInterop(bench.content, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// The framework's reader of HTML on the same input, for comparison.
	b.Run("html by mautrix", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(benchHTML)))
		for b.Loop() {
			if mautrixformat.HTMLToText(benchHTML) == "" {
				b.Fatal("no text")
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, bench := range []struct{ name, text string }{
		{"plain", "Hello Anna, see you at eight"},
		{"marked", benchText},
		{"marked 64 KiB", strings.Repeat(benchText+"\n", 64<<10/len(benchText))},
	} {
		msg := textMessage(bench.text)
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.text)))
			for b.Loop() {
				if in := Read(msg, Options{}); len(in.Parts) == 0 {
					b.Fatal("no content")
				}
			}
		})
	}
}
