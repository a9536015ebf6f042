package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	goyaml "gopkg.in/yaml.v3"

	"postern/bridge/parts"
)

const chart = "ops/helm/postern"

// Values that the chart is rendered with, beside its own.
const (
	oneValues = `
config:
  homeserver: {address: "http://synapse.matrix.svc:8008", domain: example.org}
  bridge: {permissions: {example.org: user}}
  network:
    public: {base: "https://postern.example.org/below"}
    operator: {name: Example, contact: "admin@example.org"}
    gatekeepers: {whatsapp: {integrator: 7}}
ingress: {enabled: true, className: nginx, tlsSecret: certificate}
image: {tag: "1.2.3"}
`
	severalValues = `
config:
  homeserver: {address: "http://synapse.matrix.svc:8008", domain: example.org}
  bridge: {permissions: {example.org: user}}
  database: {type: postgres}
  network:
    gatekeepers: {whatsapp: {integrator: 7}}
    media: {store: s3, s3: {endpoint: "minio.store.svc:9000", bucket: postern, access_key: postern}}
secret:
  keys: {database.uri: database_uri, network.media.s3.secret_key: s3_secret_key, network.metrics.token: metrics_token}
  keyFile: key
metrics: {enabled: true, serviceMonitor: {enabled: true, labels: {release: prometheus}}}
persistence: {storageClass: fast, data: {size: 1Gi}}
networkPolicy:
  private: [{podSelector: {matchLabels: {app: synapse}}}]
  metrics: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
instances:
  - name: north
    config:
      appservice: {id: postern-north, username_template: "postern_north_{{.}}", bot: {username: posternnorth}}
      network: {public: {base: "https://north.example.org"}, media: {s3: {prefix: north/}}}
    ingress: {enabled: true}
  - name: south
    config:
      appservice: {id: postern-south, username_template: "postern_south_{{.}}", bot: {username: posternsouth}}
      network: {public: {base: "https://south.example.org"}, media: {s3: {prefix: south/}}}
    resources: {requests: {cpu: "1", memory: 1Gi}, limits: {memory: 4Gi}}
    networkPolicy: {enabled: false}
    tolerations: [{key: big, operator: Exists}]
    extraEnv: [{name: GOMEMLIMIT, value: 3500MiB}]
`
)

// dividedValues are those of several instances that are one bridge.
var dividedValues = strings.NewReplacer("https://north.example.org", "https://postern.example.org", "https://south.example.org", "https://postern.example.org").
	Replace(severalValues) + `
divided: {enabled: true}
`

// rendered is what Helm makes of the chart.
type rendered []map[string]any

// render lets Helm render the chart with values, which may be empty for the chart's own; what it says otherwise is an error.
func render(t *testing.T, values string) (rendered, []byte, error) {
	t.Helper()
	args := []string{"template", "postern", chart, "--namespace", "matrix", "--kube-version", "1.33.0"}
	if values != "" {
		path := filepath.Join(t.TempDir(), "values.yaml")
		write(t, path, values)
		args = append(args, "--values", path)
	}
	cmd := exec.CommandContext(t.Context(), program(t, "helm"), args...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &failed, helmEnv(t)
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", err, failed.String())
	}
	var all rendered
	for decoder := goyaml.NewDecoder(bytes.NewReader(out.Bytes())); ; {
		var one map[string]any
		if decoder.Decode(&one) != nil {
			break
		}
		if one != nil {
			all = append(all, one)
		}
	}
	return all, out.Bytes(), nil
}

func mustRender(t *testing.T, values string) rendered {
	t.Helper()
	all, _, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// helmEnv keeps Helm's own files out of the home folder.
func helmEnv(t *testing.T) []string {
	dir := t.TempDir()
	return append(os.Environ(), "HELM_CACHE_HOME="+dir, "HELM_CONFIG_HOME="+dir, "HELM_DATA_HOME="+dir)
}

// at follows a path of keys and positions, such as "spec.template.spec.containers.0.image". Keys with dots in them cannot be reached.
func at(t *testing.T, node any, path string) any {
	t.Helper()
	for step := range strings.SplitSeq(path, ".") {
		switch n := node.(type) {
		case map[string]any:
			node = n[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(n) {
				t.Fatalf("%s: there is no %s", path, step)
			}
			node = n[i]
		default:
			t.Fatalf("%s: there is nothing at %s", path, step)
		}
	}
	return node
}

// find returns the one object of a kind and name.
func (r rendered) find(t *testing.T, kind, name string) map[string]any {
	t.Helper()
	for _, one := range r {
		if one["kind"] == kind && at(t, one, "metadata.name") == name {
			return one
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// kinds counts the objects of each kind.
func (r rendered) kinds() map[string]int {
	count := map[string]int{}
	for _, one := range r {
		count[fmt.Sprint(one["kind"])]++
	}
	return count
}

func TestHelmFindsNothingWrongWithTheChart(t *testing.T) {
	for name, values := range map[string]string{"its own values": "", "one instance": oneValues, "several": severalValues, "divided": dividedValues} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "values.yaml")
			write(t, path, values)
			cmd := exec.CommandContext(t.Context(), program(t, "helm"), "lint", "--strict", chart, "--values", path)
			cmd.Env = helmEnv(t)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// known are the kinds that the chart may have, as their schemas are called.
var known = []string{
	"configmap-v1", "service-v1", "statefulset-apps-v1", "poddisruptionbudget-policy-v1", "networkpolicy-networking-v1", "ingress-networking-v1", "_definitions",
}

var schemaID = regexp.MustCompile(`"\$id": "[^"]*",|,\s*"\$id": "[^"]*"`)

// schemas is a folder with the schemas of Kubernetes that ./build.sh setup has installed, referring to each other there, and strict ones.
var schemas = sync.OnceValues(func() (string, error) {
	cache, err := parts.CacheDir()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(cache, "kubernetes-schemas-*/lib/python*/site-packages/kubernetes_validate/kubernetes-json-schema/v1.33.0-local-strict"))
	if err != nil || len(found) == 0 {
		return "", err
	}
	dir, err := os.MkdirTemp("", "postern-schemas-")
	if err != nil {
		return "", err
	}
	for _, name := range known {
		text, err := os.ReadFile(filepath.Join(found[len(found)-1], name+".json"))
		if err != nil {
			return "", err
		}
		text = schemaID.ReplaceAll(bytes.ReplaceAll(text, []byte(`"/api/_definitions.json#`), []byte(`"_definitions.json#`)), nil)
		if err := os.WriteFile(filepath.Join(dir, name+".json"), text, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
})

// monitorSchema makes a strict schema of the definition of a ServiceMonitor, and returns the folder it is in.
func monitorSchema(t *testing.T) string {
	t.Helper()
	cache, err := parts.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "servicemonitor-*/crd.yaml"))
	if err != nil || len(found) == 0 {
		t.Fatal("the definition of a ServiceMonitor is not there; ./build.sh setup fetches it")
	}
	var definition map[string]any
	if err := goyaml.Unmarshal([]byte(page(t, found[len(found)-1])), &definition); err != nil {
		t.Fatal(err)
	}
	schema := at(t, definition, "spec.versions.0.schema.openAPIV3Schema")
	closeSchema(schema)
	at(t, schema, "properties").(map[string]any)["metadata"] = map[string]any{"type": "object"}
	raw, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "servicemonitor-monitoring-v1.json"), string(raw))
	return dir
}

// closeSchema lets objects have no other properties than those that are listed.
func closeSchema(node any) {
	object, ok := node.(map[string]any)
	if !ok {
		return
	}
	if properties, ok := object["properties"].(map[string]any); ok && object["additionalProperties"] == nil {
		object["additionalProperties"] = false
		for _, property := range properties {
			closeSchema(property)
		}
	}
	closeSchema(object["items"])
}

// judge holds manifests against the schemas.
func judge(t *testing.T, manifests []byte) (string, error) {
	t.Helper()
	dir, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		why := "SKIPPED: the schemas of Kubernetes are not there; ./build.sh setup installs them"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	form := "{{.ResourceKind}}{{.KindSuffix}}.json"
	cmd := exec.CommandContext(t.Context(), program(t, "kubeconform"), "-strict", "-summary", "-kubernetes-version", "1.33.0",
		"-schema-location", filepath.Join(dir, form), "-schema-location", filepath.Join(monitorSchema(t), form))
	cmd.Stdin = bytes.NewReader(manifests)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "could not find schema") {
		t.Errorf("a kind has no schema: %s", out)
	}
	return string(out), err
}

func TestWhatTheChartRendersIsWhatKubernetesKnows(t *testing.T) {
	var manifests []byte
	for name, c := range map[string]struct {
		values string
		kinds  map[string]int
	}{
		"its own values": {"", map[string]int{"ConfigMap": 1, "StatefulSet": 1, "Service": 2, "NetworkPolicy": 1, "PodDisruptionBudget": 1}},
		"one instance":   {oneValues, map[string]int{"ConfigMap": 1, "StatefulSet": 1, "Service": 2, "NetworkPolicy": 1, "PodDisruptionBudget": 1, "Ingress": 1}},
		"several": {severalValues, map[string]int{
			"ConfigMap": 2, "StatefulSet": 2, "Service": 4, "NetworkPolicy": 1, "PodDisruptionBudget": 1, "Ingress": 1, "ServiceMonitor": 2,
		}},
		"divided": {dividedValues, map[string]int{
			"ConfigMap": 2, "StatefulSet": 2, "Service": 5, "NetworkPolicy": 1, "PodDisruptionBudget": 1, "Ingress": 1, "ServiceMonitor": 2,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			all, raw, err := render(t, c.values)
			if err != nil {
				t.Fatal(err)
			}
			if got := all.kinds(); !maps.Equal(got, c.kinds) {
				t.Errorf("there are %v, want %v", got, c.kinds)
			}
			manifests = append(append(manifests, "---\n"...), raw...)
		})
	}
	if out, err := judge(t, manifests); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheSchemasOfKubernetesFindAMistake(t *testing.T) {
	_, raw, err := render(t, severalValues)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystems: true"}, {"maxUnavailable: 1", "maxUnavailable: []"},
		{"credentials:", "credential:"}, {"pathType: Prefix", "pathType: 1"}, {"publishNotReadyAddresses: true", "publishNotReadyAddresses: often"},
	} {
		broken := bytes.Replace(raw, []byte(c[0]), []byte(c[1]), 1)
		if bytes.Equal(broken, raw) {
			t.Errorf("the manifests have no %q", c[0])
		}
		raw = broken
	}
	out, err := judge(t, raw)
	if err == nil || !strings.Contains(out, "Invalid: 5, Errors: 0,") {
		t.Errorf("five broken objects: %v\n%s", err, out)
	}
}

// TestTheChartRefusesWhatCannotWork: in a sentence that names the instance and the key.
func TestTheChartRefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"a listener":                  {"config: {appservice: {port: 1}}", "instance main: config.appservice.port is set by the chart"},
		"where a file lies":           {"secret: {keys: {network.key_file: k}}", "secret.keys: network.key_file is set by the chart"},
		"a secret twice":              {"config: {appservice: {as_token: x}}", "appservice.as_token stands in config and in secret.keys"},
		"Postgres without URI":        {"config: {database: {type: postgres}}", "database.uri has to be in secret.keys"},
		"SQLite with a URI":           {"config: {database: {uri: x}}", "database.uri is for database.type postgres"},
		"figures without token":       {"metrics: {enabled: true}", "metrics.enabled needs a token"},
		"a monitor of nothing":        {"metrics: {serviceMonitor: {enabled: true}}", "metrics.serviceMonitor needs metrics.enabled"},
		"an Ingress to nowhere":       {"ingress: {enabled: true}", "ingress.enabled needs config.network.public.base"},
		"a key that is not":           {"imagee: {}", "imagee"},
		"one of an instance":          {"instances: [{name: a, podDisruptionBudget: {enabled: false}}]", "podDisruptionBudget"},
		"an unnamed instance":         {"instances: [{image: {tag: x}}]", "name"},
		"a name twice":                {"instances: [{name: a}, {name: a}]", "the instances a and a have the same"},
		"one appservice":              {"instances: [{name: a}, {name: b}]", "the instances a and b have the same appservice"},
		"a name too long":             {"fullnameOverride: " + strings.Repeat("a", 50), "longer than 52 characters"},
		"two addresses of one bridge": {severalValues + "divided: {enabled: true}\n", "divided instances have one network.public.base"},
		"one bucket": {strings.ReplaceAll(severalValues, "south/", "north/"),
			"the instances north and south have the same network.media.s3.prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := render(t, c.values); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Helm says %v, want it to say %q", err, c.want)
			}
		})
	}
}

// TestAPodOfTheChartHasNoMoreRightsThanItNeeds is about what the pods may do, and who they are, as the image has it.
func TestAPodOfTheChartHasNoMoreRightsThanItNeeds(t *testing.T) {
	docker := page(t, "../Dockerfile")
	for _, name := range []string{"postern-north", "postern-south"} {
		set := mustRender(t, severalValues).find(t, "StatefulSet", name)
		pod := at(t, set, "spec.template.spec")
		if got := at(t, set, "spec.replicas"); got != 1 {
			t.Errorf("%v replicas", got)
		}
		for path, want := range map[string]any{
			"automountServiceAccountToken": false, "enableServiceLinks": false, "securityContext.runAsNonRoot": true,
			"securityContext.runAsUser": 1337, "securityContext.fsGroup": 1337, "securityContext.seccompProfile.type": "RuntimeDefault",
			"containers.0.securityContext.readOnlyRootFilesystem": true, "containers.0.securityContext.allowPrivilegeEscalation": false,
			"containers.0.securityContext.capabilities.drop.0": "ALL", "containers.0.command.0": "/usr/bin/postern",
		} {
			if got := at(t, pod, path); got != want {
				t.Errorf("%s: %s is %v, want %v", name, path, got, want)
			}
		}
		if !strings.Contains(docker, "useradd --uid 1337 ") || !strings.Contains(docker, " /usr/bin/postern\n") {
			t.Error("the image has another user, or the program elsewhere")
		}
	}
}

// TestSecretsOfTheChartStandInNoManifest: neither in the configuration nor in variables, which only name files that the Secret has.
func TestSecretsOfTheChartStandInNoManifest(t *testing.T) {
	all := mustRender(t, severalValues)
	pod := at(t, all.find(t, "StatefulSet", "postern-north"), "spec.template.spec")
	files := map[string]bool{}
	for _, volume := range at(t, pod, "volumes").([]any) {
		if at(t, volume, "name") == "secret" {
			for _, item := range at(t, volume, "secret.items").([]any) {
				files["/run/secrets/postern/"+fmt.Sprint(at(t, item, "path"))] = true
			}
		}
	}
	var names []string
	for _, variable := range at(t, pod, "containers.0.env").([]any) {
		name, value := fmt.Sprint(at(t, variable, "name")), fmt.Sprint(at(t, variable, "value"))
		names = append(names, name)
		if !strings.HasSuffix(name, "_FILE") || !files[value] {
			t.Errorf("%s=%s names no file of the Secret %v", name, value, files)
		}
	}
	want := []string{
		"POSTERN_APPSERVICE__AS_TOKEN_FILE", "POSTERN_APPSERVICE__HS_TOKEN_FILE", "POSTERN_DATABASE__URI_FILE",
		"POSTERN_NETWORK__MEDIA__S3__SECRET_KEY_FILE", "POSTERN_NETWORK__METRICS__TOKEN_FILE",
	}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("the variables are %v, want %v", names, want)
	}
	if !files["/run/secrets/postern/postern.key"] {
		t.Error("the key file is not mounted")
	}
}

// TestWhoMayReachAPodAndWhereItMayGo is about network policies, services and the Ingress.
func TestWhoMayReachAPodAndWhereItMayGo(t *testing.T) {
	all := mustRender(t, severalValues)
	policy := all.find(t, "NetworkPolicy", "postern-north")
	for path, want := range map[string]any{
		"spec.ingress.0.ports.0.port": "private", "spec.ingress.0.from.0.podSelector.matchLabels.app": "synapse",
		"spec.ingress.1.ports.0.port": "public", "spec.ingress.2.ports.0.port": "metrics",
		"spec.policyTypes.1": "Egress", "spec.egress.0.ports.0.port": 53,
	} {
		if got := at(t, policy, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	var ports []string
	for _, port := range at(t, policy, "spec.egress.1.ports").([]any) {
		ports = append(ports, fmt.Sprint(at(t, port, "port")))
	}
	if want := []string{"443", "5432", "8008", "9000"}; !slices.Equal(ports, want) { // the gatekeeper, Postgres, the homeserver, the store
		t.Errorf("the bridge may go to the ports %v, want %v", ports, want)
	}
	private, public := all.find(t, "Service", "postern-north-private"), all.find(t, "Service", "postern-north-public")
	for _, service := range []map[string]any{private, public} {
		if at(t, service, "spec.publishNotReadyAddresses") != true {
			t.Error("a homeserver could not answer the ping of a bridge that starts")
		}
		if _, is := at(t, service, "spec.selector").(map[string]any)["app.kubernetes.io/component"]; !is {
			t.Error("a service has the pods of other instances, too")
		}
	}
	if list := at(t, public, "spec.ports").([]any); len(list) != 1 || at(t, list[0], "targetPort") != "public" {
		t.Errorf("the public service has %v", list)
	}
	rule := at(t, mustRender(t, oneValues).find(t, "Ingress", "postern-main"), "spec.rules.0")
	if at(t, rule, "host") != "postern.example.org" || at(t, rule, "http.paths.0.path") != "/below" || at(t, rule, "http.paths.0.backend.service.name") != "postern-main-public" {
		t.Errorf("the Ingress has the rule %v", rule)
	}
}

// TestDividedInstancesFindEachOther: each is told the names of all, where it is itself, and the key that they share, and the public address leads to any of them.
func TestDividedInstancesFindEachOther(t *testing.T) {
	all := mustRender(t, dividedValues)
	for _, name := range []string{"north", "south"} {
		var config map[string]any
		text := at(t, all.find(t, "ConfigMap", "postern-"+name), "data").(map[string]any)["config.yaml"]
		if err := goyaml.Unmarshal([]byte(fmt.Sprint(text)), &config); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]any{
			"name": name, "all.0": "north", "all.1": "south", "key_file": "/run/key/instances.key", "address": "http://postern-" + name + "-public.matrix.svc:29341",
		} {
			if got := at(t, config, "network.instances."+path); got != want {
				t.Errorf("%s: network.instances.%s is %v, want %v", name, path, got, want)
			}
		}
		init := fmt.Sprint(at(t, all.find(t, "StatefulSet", "postern-"+name), "spec.template.spec.initContainers.0.command"))
		if !strings.HasSuffix(init, "-t /run/key/ /run/secrets/postern/postern.key /run/secrets/postern/instances.key]") {
			t.Errorf("%s: the key files come from %s", name, init)
		}
	}
	service := all.find(t, "Service", "postern-public")
	if selector := at(t, service, "spec.selector").(map[string]any); len(selector) != 2 || selector["app.kubernetes.io/instance"] != "postern" {
		t.Errorf("the public address leads to %v", selector)
	}
	if got := at(t, all.find(t, "Ingress", "postern"), "spec.rules.0.http.paths.0.backend.service.name"); got != "postern-public" {
		t.Errorf("the Ingress leads to %v", got)
	}
	if !strings.Contains(fmt.Sprint(at(t, all.find(t, "NetworkPolicy", "postern-north"), "spec.egress.1.ports")), "29341") {
		t.Error("an instance may not go to another one")
	}
}

var valueKey = regexp.MustCompile(`(?m)^([a-zA-Z]+):`)

// TestTheChartsSchemaKnowsAllValues: those of the release, and of them all that an instance may have.
func TestTheChartsSchemaKnowsAllValues(t *testing.T) {
	var schema struct {
		Properties map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(page(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var instances struct {
		Items struct{ Properties map[string]json.RawMessage }
	}
	if err := json.Unmarshal(schema.Properties["instances"], &instances); err != nil {
		t.Fatal(err)
	}
	for _, m := range valueKey.FindAllStringSubmatch(page(t, chart+"/values.yaml"), -1) {
		if schema.Properties[m[1]] == nil {
			t.Errorf("values.schema.json does not know %s", m[1])
		}
		whole := slices.Contains([]string{"instances", "divided", "podDisruptionBudget", "nameOverride", "fullnameOverride"}, m[1])
		if other := instances.Items.Properties[m[1]]; whole == (other != nil) || !whole && !bytes.Equal(other, schema.Properties[m[1]]) {
			t.Errorf("values.schema.json: %s of an instance is %s", m[1], other)
		}
	}
}
