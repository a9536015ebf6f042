package mediastore_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/connector/mediastore"
)

// hostileCase is a line of testdata/hostile.txt.
type hostileCase struct {
	line    int
	status  int
	request string
}

func hostileCases(t *testing.T) (list []hostileCase) {
	t.Helper()
	text, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		status, quoted, _ := strings.Cut(line, " ")
		c := hostileCase{line: i + 1}
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
func expand(t *testing.T, request, ref string) string {
	t.Helper()
	name := mediastore.NameOf(ref).String()
	backwards := []byte(ref)
	slices.Reverse(backwards)
	words := map[string]string{
		"{ref}": ref, "{name}": name, "{name2}": strings.ToUpper(name), "{folder}": name[:2] + "/" + name[2:4],
		"{escaped}": fmt.Sprintf("%%%02x%s", ref[0], ref[1:]), "{half}": ref[:20], "{otherhalf}": ref[20:],
		"{lower}": strings.ToLower(ref), "{upper}": strings.ToUpper(ref), "{reversed}": string(backwards),
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

// sendRaw writes a request as it stands and reads the answer.
func sendRaw(t *testing.T, address, request string) *http.Response {
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
		return nil
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	conn.Close()
	<-sent
	return resp
}

func TestHostileRequestsGetNothingAndTouchNoFile(t *testing.T) {
	w := newWorld(t, filesBackend(t, t.TempDir()), 0)
	var ref string
	for { // one that changes with its case and when it is turned round
		if ref = w.put(t, "a", random(1, 1000)).Ref; strings.ToLower(ref) != ref && strings.ToUpper(ref) != ref {
			break
		}
	}
	below := http.StripPrefix("/media", w.Handler())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{MaxHeaderBytes: 32 << 10, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/media/") {
			http.NotFound(w, r)
			return
		}
		below.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	address := listener.Addr().String()

	good := "GET /media/" + ref + " HTTP/1.1\r\nHost: a\r\n\r\n"
	if resp := sendRaw(t, address, good); resp.StatusCode != 200 {
		t.Fatalf("what is there: %d", resp.StatusCode)
	}
	opened := w.backend.opened.Load()
	seen, refused := map[string]int{}, 0
	for _, c := range hostileCases(t) {
		request := expand(t, c.request, ref)
		if earlier, twice := seen[request]; twice {
			t.Errorf("line %d is line %d again", c.line, earlier)
		}
		seen[request] = c.line
		resp := sendRaw(t, address, request)
		if resp == nil {
			continue
		}
		if resp.StatusCode != c.status {
			t.Errorf("line %d: %d, want %d: %.80q", c.line, resp.StatusCode, c.status, request)
		}
		if resp.StatusCode == 404 || resp.StatusCode == 400 || resp.StatusCode == 416 {
			refused++
		}
		for name := range maps.Keys(resp.Header) {
			if name == "Location" || name == "Set-Cookie" || name == "Etag" {
				t.Errorf("line %d: the answer has %s", c.line, name)
			}
		}
	}
	if refused < 200 {
		t.Errorf("only %d requests got 400, 404 or 416", refused)
	}
	equal(t, "opened files", w.backend.opened.Load(), opened)
}
