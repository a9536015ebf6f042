// Package mediastoretest is for tests alone: requests that a public listener with a media store has to withstand. It imports the store and
// nothing else of this project.
package mediastoretest

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/connector/mediastore"
)

//go:embed hostile.txt
var hostile string

// ObjectSize is the length in bytes of the object that the requests are aimed at.
const ObjectSize = 1000

// GoodReference says whether all the ways of miswriting a reference make another text of this one.
func GoodReference(ref string) bool {
	return strings.ToLower(ref) != ref && strings.ToUpper(ref) != ref && turned(ref) != ref
}

// Hostile sends all requests to the listener at that address, which has the store's handler below /media/, and an object of ObjectSize bytes under
// that reference. Every answer has to be the expected one, and none may lead anywhere or set anything.
func Hostile(t testing.TB, address, ref string) {
	t.Helper()
	if got := send(t, address, "GET /media/"+ref+" HTTP/1.1\r\nHost: a\r\n\r\n"); got.status != 200 || got.length != ObjectSize {
		t.Fatal("the object that is there is not served")
	}
	seen, refused := map[string]int{}, 0
	for _, c := range cases(t) {
		request := expand(t, c.request, ref)
		if earlier, twice := seen[request]; twice {
			t.Errorf("line %d is line %d again", c.line, earlier)
		}
		seen[request] = c.line
		got := send(t, address, request)
		if got.status != c.status {
			t.Errorf("line %d: %d, want %d: %.80q", c.line, got.status, c.status, request)
		}
		if slices.Contains([]int{400, 404, 416}, got.status) {
			refused++
		}
		for _, name := range []string{"Location", "Set-Cookie", "Etag"} {
			if got.header.Get(name) != "" {
				t.Errorf("line %d: the answer has %s", c.line, name)
			}
		}
	}
	if refused < 200 {
		t.Errorf("only %d requests got 400, 404 or 416", refused)
	}
}

func turned(ref string) string {
	b := []byte(ref)
	slices.Reverse(b)
	return string(b)
}

// hostileCase is a line of hostile.txt.
type hostileCase struct {
	line    int
	status  int
	request string
}

func cases(t testing.TB) (list []hostileCase) {
	t.Helper()
	for i, line := range strings.Split(hostile, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		status, quoted, _ := strings.Cut(line, " ")
		c := hostileCase{line: i + 1}
		var err error
		c.status, err = strconv.Atoi(status)
		if err == nil {
			c.request, err = strconv.Unquote(quoted)
		}
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		list = append(list, c)
	}
	return list
}

var (
	repetition  = regexp.MustCompile(`(?s)\{(\d+)\*([^}]*)\}`)
	placeholder = regexp.MustCompile(`\{[a-z0-9]+\}`)
)

// expand writes a request out for a reference.
func expand(t testing.TB, request, ref string) string {
	t.Helper()
	name := mediastore.NameOf(ref).String()
	words := map[string]string{
		"{ref}": ref, "{name}": name, "{name2}": strings.ToUpper(name), "{folder}": name[:2] + "/" + name[2:4],
		"{escaped}": fmt.Sprintf("%%%02x%s", ref[0], ref[1:]), "{half}": ref[:20], "{otherhalf}": ref[20:],
		"{lower}": strings.ToLower(ref), "{upper}": strings.ToUpper(ref), "{reversed}": turned(ref),
		"{allescaped}": "", "{doubleescaped}": "",
	}
	for _, c := range []byte(ref) {
		words["{allescaped}"] += fmt.Sprintf("%%%02x", c)
		words["{doubleescaped}"] += fmt.Sprintf("%%25%02x", c)
	}
	request = repetition.ReplaceAllStringFunc(request, func(m string) string {
		parts := repetition.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Repeat(parts[2], n)
	})
	return placeholder.ReplaceAllStringFunc(request, func(m string) string {
		word, ok := words[m]
		if !ok {
			t.Fatalf("no word for %s", m)
		}
		return word
	})
}

// reply is what came of a request.
type reply struct {
	status int // 0 for none
	length int64
	header http.Header
}

// send writes a request as it stands and reads the answer.
func send(t testing.TB, address, request string) reply {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, request) // the server may close before it has read all
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("no answer to %.60q: %v", request, err)
		return reply{}
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	conn.Close()
	<-sent
	return reply{resp.StatusCode, resp.ContentLength, resp.Header}
}
