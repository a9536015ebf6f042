package docs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goyaml "gopkg.in/yaml.v3"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
)

// pod runs what a StatefulSet of the chart says, without a cluster: its folders lie below dir, and its ports are others.
type pod struct {
	t       *testing.T
	dir     string
	program string
	args    []string
	env     []string
	ports   map[string]int // by name
	config  string         // the file, with the folders and ports of the test
	set     map[string]any
}

// builtPostern is the program that is tested elsewhere, too, or made now.
func builtPostern(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("POSTERN_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "postern")
	if err := parts.BuildPostern(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// newPod takes the pod of an instance out of what was rendered, with the files of its Secret.
func newPod(t *testing.T, all rendered, name string, secret map[string]string) *pod {
	t.Helper()
	program := builtPostern(t)
	for _, entry := range os.Environ() { // the tests' own variables begin like the configuration's
		if key, value, _ := strings.Cut(entry, "="); strings.HasPrefix(key, "POSTERN_") {
			t.Setenv(key, value) // puts it back at the end
			if err := os.Unsetenv(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := &pod{t: t, dir: t.TempDir(), program: program, ports: map[string]int{}, set: all.find(t, "StatefulSet", name)}
	container := at(t, p.set, "spec.template.spec.containers.0")
	words := []string{"/run/secrets/postern", filepath.Join(p.dir, "secret")}
	for _, mount := range at(t, container, "volumeMounts").([]any) {
		path := fmt.Sprint(at(t, mount, "mountPath"))
		if err := os.MkdirAll(filepath.Join(p.dir, at(t, mount, "name").(string)), 0o700); err != nil {
			t.Fatal(err)
		}
		words = append(words, path+"/", filepath.Join(p.dir, at(t, mount, "name").(string))+"/")
	}
	for _, port := range at(t, container, "ports").([]any) {
		free, err := parts.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p.ports[at(t, port, "name").(string)] = free
		words = append(words, fmt.Sprint(at(t, port, "containerPort")), fmt.Sprint(free))
	}
	here := strings.NewReplacer(words...)
	p.config = filepath.Join(p.dir, "config", "config.yaml")
	write(t, p.config, here.Replace(fmt.Sprint(at(t, all.find(t, "ConfigMap", name), "data").(map[string]any)["config.yaml"])))
	for file, text := range secret {
		write(t, filepath.Join(p.dir, "secret", file), text)
		if err := os.Chmod(filepath.Join(p.dir, "secret", file), 0o440); err != nil { // as Kubernetes has it
			t.Fatal(err)
		}
	}
	if inits, is := at(t, p.set, "spec.template.spec").(map[string]any)["initContainers"].([]any); is {
		for _, init := range inits {
			var command []string
			for _, word := range at(t, init, "command").([]any) {
				command = append(command, here.Replace(fmt.Sprint(word)))
			}
			checked(t, command[0], command[1:]...)
		}
	}
	for _, arg := range at(t, container, "args").([]any) {
		p.args = append(p.args, here.Replace(fmt.Sprint(arg)))
	}
	for _, variable := range at(t, container, "env").([]any) {
		p.env = append(p.env, fmt.Sprintf("%s=%s", at(t, variable, "name"), here.Replace(fmt.Sprint(at(t, variable, "value")))))
	}
	return p
}

// run makes the program do something and end.
func (p *pod) run(args ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.program, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), p.env...), p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("postern %v: %v\n%s", args, err, out)
	}
}

// start runs the program as the pod would, until the test ends.
func (p *pod) start() {
	p.t.Helper()
	process, err := parts.Start(parts.ProcessConfig{
		Name: "the bridge", Path: p.program, Args: p.args, Env: p.env, Dir: p.dir, LogPath: filepath.Join(p.dir, "log"),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := process.Stop(); err != nil {
			p.t.Error(err)
		}
		if log, err := os.ReadFile(filepath.Join(p.dir, "log")); err == nil && p.t.Failed() {
			p.t.Logf("%s", log)
		}
	})
}

// answer asks a port of the pod, until it says 200 if patience is not over.
func (p *pod) answer(port, path, token string, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := fmt.Errorf("there is no port %s", port)
	for p.ports[port] > 0 {
		var text string
		if text, last = p.once(ctx, port, path, token); last == nil {
			return text, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", last
		}
	}
	return "", last
}

func (p *pod) once(ctx context.Context, port, path, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", p.ports[port], path), nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s says %s: %s", port, path, resp.Status, raw)
	}
	return string(raw), err
}

// TestTheProgramRunsAsThePodOfTheChartRunsIt: with the configuration, the variables, the Secret's files and the folders that the chart gives
// it, and nothing else, it makes its registration as README.md says, and starts; what the probes, the services and the monitor ask for is answered where
// they ask. So every key and every variable of the chart is one that the program knows.
func TestTheProgramRunsAsThePodOfTheChartRunsIt(t *testing.T) {
	hs, err := homeserver.Start("example.org")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hs.Close)
	const token = "a-token-for-the-figures"
	values := strings.NewReplacer("http://synapse.matrix.svc:8008", hs.URL(), "https://postern.example.org/below", "https://postern.example.org").Replace(oneValues) + `
secret: {keys: {network.metrics.token: metrics_token}, keyFile: key}
metrics: {enabled: true, serviceMonitor: {enabled: true}}
`
	all := mustRender(t, values)
	p := newPod(t, all, "postern-main", map[string]string{
		"as_token": strings.Repeat("a", 64) + "\n", "hs_token": strings.Repeat("b", 64) + "\n", "metrics_token": token + "\n",
		"postern.key": "postern-key-1:" + strings.Repeat("A", 43) + "=\n",
	})
	if err := os.Chmod(p.config, 0o400); err != nil {
		t.Fatal(err)
	}
	registration := filepath.Join(p.dir, "registration.yaml")
	p.run("-g", "-c", p.config, "-r", registration)
	raw := []byte(page(t, registration))
	service := at(t, all.find(t, "Service", "postern-main-private"), "metadata.name")
	if want := fmt.Sprintf("url: http://%v.matrix.svc:%d\n", service, p.ports["private"]); !bytes.Contains(raw, []byte(want)) {
		t.Errorf("the homeserver is not led to the private service: %s", raw)
	}
	// There is no name server here.
	raw = bytes.Replace(raw, fmt.Appendf(nil, "http://%v.matrix.svc:", service), []byte("http://127.0.0.1:"), 1)
	if err := hs.AddService(raw); err != nil {
		t.Fatal(err)
	}
	p.start()
	for _, kind := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		get := at(t, p.set, "spec.template.spec.containers.0."+kind+".httpGet")
		if _, err := p.answer(fmt.Sprint(at(t, get, "port")), fmt.Sprint(at(t, get, "path")), "", proxyBound); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	endpoint := at(t, all.find(t, "ServiceMonitor", "postern-main"), "spec.endpoints.0")
	if text, err := p.answer(fmt.Sprint(at(t, endpoint, "port")), fmt.Sprint(at(t, endpoint, "path")), token, proxyBound); err != nil || !strings.Contains(text, "postern_ready 1") {
		t.Errorf("the figures: %v %.200s", err, text)
	}
	if key := at(t, endpoint, "authorization.credentials.key"); key != "metrics_token" {
		t.Errorf("the monitor takes its token from %v", key)
	}
	if text, err := p.answer("public", "/.well-known/oauth/openid/jwks", "", proxyBound); err != nil || !strings.Contains(text, `"keys"`) {
		t.Errorf("the keys: %v %.200s", err, text)
	}
	for _, file := range []string{"data/postern.db", "data/media", "epoch/postern.epoch", "spool/files"} {
		if _, err := os.Stat(filepath.Join(p.dir, file)); err != nil {
			t.Error(err)
		}
	}
	// Whatever it has made lies in a volume.
	made, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range made {
		switch entry.Name() {
		case "config", "secret", "key", "data", "epoch", "spool", "tmp", "log", "registration.yaml":
		default:
			t.Errorf("%s lies in no volume", entry.Name())
		}
	}
}

// TestTheChartsConfigurationIsThatOfTheProgram: what the chart itself sets is in the example, with the same keys.
func TestTheChartsConfigurationIsThatOfTheProgram(t *testing.T) {
	var example map[string]any
	if err := goyaml.Unmarshal([]byte(page(t, "../example-config.yaml")), &example); err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	text := at(t, mustRender(t, "").find(t, "ConfigMap", "postern-main"), "data").(map[string]any)["config.yaml"]
	if err := goyaml.Unmarshal([]byte(fmt.Sprint(text)), &config); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, ours, theirs any) int
	compare = func(path string, ours, theirs any) (count int) {
		mapping, is := ours.(map[string]any)
		if !is {
			return 1
		}
		other, is := theirs.(map[string]any)
		for key, value := range mapping {
			if _, there := other[key]; !is || !there {
				t.Errorf("there is no key %s%s", path, key)
			}
			count += compare(path+key+".", value, other[key])
		}
		return count
	}
	if count := compare("", config, example); count != 10 {
		t.Errorf("%d keys were compared", count)
	}
}
