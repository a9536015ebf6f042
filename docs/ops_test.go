package docs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goyaml "gopkg.in/yaml.v3"

	"postern/bridge/parts"
)

const proxiedName = "postern.example.com" // in the snippets

// proxyBound is for the start of a proxy and for all that it is asked.
const proxyBound = time.Minute

// program finds a program that ./build.sh setup takes out of a package, or skips.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, filepath.Join("/usr/sbin", name)} {
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	cache, err := parts.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, name+"-*", name))
	if err != nil || len(found) == 0 {
		why := "SKIPPED: " + name + " is not there; ./build.sh setup takes it out of Debian's package"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return found[len(found)-1]
}

// behind is what stands in the bridge's place behind a proxy: it has one attachment, takes pushes, and remembers what it was asked.
type behind struct {
	*httptest.Server
	attachment []byte
	mu         sync.Mutex
	asked      []string // method and target, as they were written
	pushed     []string // token and body
	forwarded  []string // headers that name the client's address
}

func newBehind(t *testing.T) *behind {
	b := &behind{attachment: make([]byte, 3<<20)}
	_, _ = rand.Read(b.attachment) // never fails
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *behind) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	b.mu.Lock()
	b.asked = append(b.asked, r.Method+" "+r.RequestURI)
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
		b.forwarded = append(b.forwarded, r.Header.Values(name)...)
	}
	if r.Method == http.MethodPost && err == nil {
		b.pushed = append(b.pushed, r.Header.Get("Authorization")+" "+string(body))
	}
	b.mu.Unlock()
	if r.Method == http.MethodGet {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.attachment))
	}
}

// certificate makes one for the name in the snippets, in two files.
func certificate(t *testing.T, dir string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{proxiedName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, pool = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
	if !pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) {
		t.Fatal("no certificate")
	}
	return cert, key, pool
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// snippet reads a file of ops and puts other words in the place of some, each of which has to be there.
func snippet(t *testing.T, name string, words ...string) string {
	t.Helper()
	text := page(t, filepath.Join("ops", name))
	for i := 0; i < len(words); i += 2 {
		if !strings.Contains(text, words[i]) {
			t.Fatalf("ops/%s has no %q", name, words[i])
		}
		text = strings.ReplaceAll(text, words[i], words[i+1])
	}
	return text
}

// checked runs a program that judges something and is done.
func checked(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
	}
}

// proxy runs one until the test is over.
func proxy(t *testing.T, address, dir, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 10*time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is told to end
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("it said:\n%s", out.String())
		}
	})
	tick, bound := time.NewTicker(20*time.Millisecond), time.After(proxyBound)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatal("it ended at once")
		case <-bound:
			t.Fatal("it does not listen")
		}
	}
}

func TestNginxWithOurSnippetPassesOnWhatTheGatekeeperAsks(t *testing.T) {
	nginx, dir, b := program(t, "nginx"), t.TempDir(), newBehind(t)
	cert, key, pool := certificate(t, dir)
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	write(t, filepath.Join(dir, "postern.conf"), snippet(t, "nginx.conf",
		"listen 443 ", "listen "+address+" ", "127.0.0.1:29341", b.Listener.Addr().String(),
		"/etc/ssl/postern.example.com.pem", cert, "/etc/ssl/private/postern.example.com.key", key))
	own := "daemon off;\nworker_processes 1;\npid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
	if os.Geteuid() == 0 {
		own = "user root root;\n" + own
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		own += kind + "_temp_path " + filepath.Join(dir, kind) + ";\n"
	}
	write(t, filepath.Join(dir, "nginx.conf"), own+"include "+dir+"/postern.conf;\n}\n")
	args := []string{"-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf")}
	checked(t, nginx, append(args, "-t")...)
	proxy(t, address, dir, nginx, args...)
	b.throughProxy(t, address, pool)
}

func TestCaddyWithOurSnippetPassesOnWhatTheGatekeeperAsks(t *testing.T) {
	caddy, dir, b := program(t, "caddy"), t.TempDir(), newBehind(t)
	checked(t, caddy, "validate", "--adapter", "caddyfile", "--config", filepath.Join("ops", "Caddyfile"))
	cert, key, pool := certificate(t, dir)
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "Caddyfile")
	write(t, config, "{\n\tadmin off\n\tauto_https off\n}\n"+snippet(t, "Caddyfile",
		"\n"+proxiedName+" {", fmt.Sprintf("\nhttps://%s:%d {\n\tbind 127.0.0.1\n\ttls %s %s", proxiedName, port, cert, key),
		"127.0.0.1:29341", b.Listener.Addr().String()))
	address := fmt.Sprintf("127.0.0.1:%d", port)
	proxy(t, address, dir, caddy, "run", "--adapter", "caddyfile", "--config", config)
	b.throughProxy(t, address, pool)
}

// throughProxy asks what a gatekeeper asks, over both versions of HTTP.
func (b *behind) throughProxy(t *testing.T, address string, pool *x509.CertPool) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(version == 1)
			protocols.SetHTTP2(version == 2)
			transport := &http.Transport{
				Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: proxiedName},
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", address)
				},
			}
			defer transport.CloseIdleConnections()
			p := &proxied{t: t, behind: b, version: version, client: &http.Client{Transport: transport, Timeout: proxyBound}}
			p.attachments()
			p.pushes()
		})
	}
}

type proxied struct {
	*behind
	t       *testing.T
	version int
	client  *http.Client
}

// ask makes a request, and returns the answer with its body read.
func (p *proxied) ask(method, target string, body []byte, header ...string) (*http.Response, []byte) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), method, "https://"+proxiedName+target, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := p.client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if answer.ProtoMajor != p.version {
		p.t.Errorf("%s answers over %s", target, answer.Proto)
	}
	return answer, got
}

func (p *proxied) attachments() {
	if answer, got := p.ask(http.MethodGet, "/media/whole", nil); answer.StatusCode != 200 || !bytes.Equal(got, p.attachment) {
		p.t.Errorf("an attachment: %d with %d bytes", answer.StatusCode, len(got))
	}
	answer, got := p.ask(http.MethodGet, "/media/range", nil, "Range", "bytes=1000000-2999999")
	if answer.StatusCode != 206 || !bytes.Equal(got, p.attachment[1000000:3000000]) {
		p.t.Errorf("a range: %d with %d bytes", answer.StatusCode, len(got))
	}
	if answer, _ := p.ask(http.MethodGet, "/media/beyond", nil, "Range", "bytes=99999999-"); answer.StatusCode != 416 {
		p.t.Errorf("a range beyond the end: %d", answer.StatusCode)
	}
	// The bridge judges how a path is written, so it has to see that.
	targets := []string{"/.well-known/oauth/openid/jwks", "/below/media/x", "/media/a%2Fb?c=%20d", "/a//b"}
	for _, target := range targets {
		p.ask(http.MethodHead, target, nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, target := range targets {
		if !slices.Contains(p.asked, "HEAD "+target) {
			p.t.Errorf("%s came through as none of %q", target, p.asked)
		}
	}
}

func (p *proxied) pushes() {
	push := fmt.Sprintf(`{"to":"alice over %d"}`, p.version)
	if answer, _ := p.ask(http.MethodPost, "/push", []byte(push), "Authorization", "Bearer word"); answer.StatusCode != 200 {
		p.t.Errorf("a push: %d", answer.StatusCode)
	}
	before := p.count()
	if answer, _ := p.ask(http.MethodPost, "/push", bytes.Repeat([]byte("x"), 64<<10), "Authorization", "Bearer word"); answer.StatusCode < 400 {
		p.t.Errorf("a body of 64 KiB: %d", answer.StatusCode)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := "Bearer word " + push; !slices.Contains(p.pushed, want) {
		p.t.Errorf("the push came through as none of %q", p.pushed)
	}
	if len(p.pushed) != before {
		p.t.Error("a body of 64 KiB came through")
	}
	if len(p.forwarded) > 0 {
		p.t.Errorf("the client's address came through: %q", p.forwarded)
	}
}

func (p *proxied) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pushed)
}

// systemd finds systemd-analyze, which nothing installs for the tests, since it comes with systemd.
func systemd(t *testing.T) string {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: there is no systemd-analyze on this machine")
	}
	return tool
}

func TestSystemdAcceptsTheUnitAndFindsItClosed(t *testing.T) {
	tool, dir := systemd(t), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, "postern.service")
	write(t, unit, snippet(t, "postern.service", "ExecStart=/usr/local/bin/postern ", "ExecStart="+self+" "))
	if out, err := exec.CommandContext(t.Context(), tool, "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), tool, "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}

// TestTheUnitWritesWhereThePageSaysAndNowhereElse compares the unit's folders with the configuration that PRODUCTION.md shows.
func TestTheUnitWritesWhereThePageSaysAndNowhereElse(t *testing.T) {
	unit, text := page(t, "ops/postern.service"), page(t, "PRODUCTION.md")
	for _, line := range []string{"ProtectSystem=strict", "PrivateTmp=yes", "StateDirectory=postern postern-epoch", "WorkingDirectory=/var/lib/postern"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no line %s", line)
		}
	}
	if strings.Contains(unit, "ReadWritePaths") || strings.Contains(unit, "BindPaths") {
		t.Error("the unit opens further folders")
	}
	for _, key := range []string{"key_file", "epoch_file", "path", "spool"} {
		_, after, found := strings.Cut(text, " "+key+": ")
		value, _, _ := strings.Cut(after, "\n")
		if !found || !strings.HasPrefix(value, "/var/lib/postern/") && !strings.HasPrefix(value, "/var/lib/postern-epoch/") {
			t.Errorf("%s is at %q, where the service may not write", key, value)
		}
	}
}

var (
	yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?)```")
	configKey = regexp.MustCompile("`((?:homeserver|network|bridge|database|appservice|matrix|double_puppet|encryption|logging)\\.[a-z0-9_.]+)`")
)

// keysOf lists the paths of all keys of a mapping, those of mappings too.
func keysOf(under string, node map[string]any, found map[string]bool) map[string]bool {
	for key, value := range node {
		found[under+key] = true
		if inner, ok := value.(map[string]any); ok {
			keysOf(under+key+".", inner, found)
		}
	}
	return found
}

// TestPagesForOperatorsNameOnlyKeysThatExist: what they show of the bridge's configuration, and what they name in it.
func TestPagesForOperatorsNameOnlyKeysThatExist(t *testing.T) {
	parse := func(text string) (node map[string]any) {
		t.Helper()
		if err := goyaml.Unmarshal([]byte(text), &node); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return node
	}
	example := parse(page(t, "../example-config.yaml"))
	known := keysOf("", example, map[string]bool{})
	for _, name := range []string{"PRODUCTION.md", "AGREEMENT.md", "PAINS.md"} {
		text, shown := page(t, name), 0
		for _, m := range configKey.FindAllStringSubmatch(text, -1) {
			shown++
			if !known[m[1]] {
				t.Errorf("%s names %s, which is no key", name, m[1])
			}
		}
		for _, m := range yamlBlock.FindAllStringSubmatch(text, -1) {
			block := parse(m[1])
			for key := range keysOf("", block, map[string]bool{}) {
				top, _, _ := strings.Cut(key, ".")
				if _, ours := example[top]; ours && !known[key] && !strings.HasPrefix(key, "double_puppet.secrets.") {
					t.Errorf("%s shows %s, which is no key", name, key)
				}
			}
		}
		if shown == 0 {
			t.Errorf("%s names no key", name)
		}
	}
}
