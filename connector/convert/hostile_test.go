package convert

import (
	"strings"
	"testing"

	"maunium.net/go/mautrix/event"
)

// hostileHTML has what makes naive readers slow or big, as one piece that is
// repeated and what comes before it.
var hostileHTML = map[string][2]string{
	"formats that a tree would copy":   {"<p>", "<b class=x>y<p>"},
	"line breaks in deep quotes":       {strings.Repeat("<blockquote>", 60), "<br>"},
	"line breaks in deep lists":        {strings.Repeat(`<ol start="999999998"><li>`, 30), "<br>x"},
	"open elements":                    {"", "<i>"},
	"end tags":                         {strings.Repeat("<i><b>", 40), "</u></b>"},
	"open links":                       {"", `<a href="https://x.org/">x`},
	"links":                            {"", `<a href="https://x">y</a>`},
	"one link with many words":         {`<a href="https://x.org/` + strings.Repeat("y", 5000) + `">`, "x "},
	"attributes":                       {"<b ", "a=b "},
	"comments":                         {"", "<!--"},
	"brackets":                         {"", "<"},
	"entities":                         {"", "&amp"},
	"formats at every letter":          {"", "<b>.</b><i>.</i>"},
	"crossing formats":                 {"", "<b>x <i>y </b>z </i>"},
	"long line of marks":               {"<b>", "*_~`"},
	"code with backticks":              {"", "<code>a`b</code> "},
	"addresses in bold":                {"<b>", "https://x "},
	"cells":                            {"<table><tr>", "<td>"},
	"preformatted":                     {"", "<pre>x\n</pre>"},
	"spaces":                           {"<p>a", " "},
	"skipped elements in one another":  {"a", "<mx-reply>"},
	"headings that are not closed":     {"", "<h1>x"},
	"items that are not closed":        {"<ul>", "<li>x"},
	"lists in lists":                   {"", "<ul><li>"},
	"spoilers":                         {"", "<span data-mx-spoiler>"},
	"a word that is one line too long": {"<b>", "x"},
}

var hostileText = map[string]string{
	"line ends":             "\n",
	"stars":                 "*",
	"open stars":            " *a",
	"open marks of 3 kinds": " *a _b ~c",
	"marks at letters":      "*a* ",
	"closing only":          "a* ",
	"backticks":             "`a ",
	"fences":                "``` ",
	"open fences":           "a\n```b ",
	"fences of nothing":     "```\n",
	"fences across lines":   "```a\n``` ",
	"four backticks":        "````",
	"quotes":                "> a\n",
	"quotes with fences":    "> ```\n",
	"numbers":               "1. a\n",
	"numbers in a row":      "7",
	"addresses":             "www.",
	"addresses of dots":     "https://....",
	"brackets":              "<",
	"accents":               "\u0301",
	"flags":                 "🇩",
	"joiners":               "\u200d",
	"spaces":                " ",
	"no UTF-8":              "\xff",
	"U+0000":                "\x00",
}

// hostileSize is how long hostile input is: as long as is looked at in the full
// campaign, and an eighth of that otherwise.
func hostileSize() int { return min(int(rounds(MaxMarkedBytes/8)), MaxMarkedBytes) }

func TestHostileHTMLCostsNoMoreThanItsLength(t *testing.T) {
	for name, piece := range hostileHTML {
		t.Run(name, func(t *testing.T) {
			source := piece[0] + strings.Repeat(piece[1], (MaxHTMLBytes-len(piece[0]))/len(piece[1]))
			content := htmlMessage(source)
			total := 0
			checkAllocation(t, name, allocBase+allocFactor*len(source), func() {
				messages, err := ToInterop(content, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				total = 0
				for _, m := range messages {
					total += len(m.GetConversation())
				}
			})
			if total > 64+16*len(source) {
				t.Errorf("%d bytes became %d", len(source), total)
			}
		})
	}
}

func TestHostileTextCostsNoMoreThanItsLength(t *testing.T) {
	for name, piece := range hostileText {
		t.Run(name, func(t *testing.T) {
			msg := textMessage(strings.Repeat(piece, hostileSize()/len(piece)))
			checkAllocation(t, name, allocBase+allocFactor*hostileSize(), func() {
				if in := Read(msg, Options{}); len(in.Parts) > 200 {
					t.Errorf("%d parts", len(in.Parts))
				}
			})
			// The same text the other way, typed by a Matrix user.
			emote := &event.MessageEventContent{MsgType: event.MsgEmote, Body: msg.GetConversation()}
			checkAllocation(t, name, allocBase+allocFactor*hostileSize(), func() { _, _ = ToInterop(emote, Limits{}) })
		})
	}
}
