package image_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"postern/bridge/parts"
	"postern/database/databasetest"
)

// mounted is where a file of a container lies on this machine, "" if nowhere.
func (s service) mounted(target string) string {
	for _, v := range s.Volumes {
		if rest, below := strings.CutPrefix(target, v.Target); below && (rest == "" || rest[0] == '/') {
			return v.Source + rest
		}
	}
	return ""
}

// startPostgres runs this machine's server, and on it what the image would run when it makes its files.
func (e *engine) startPostgres(s service) error {
	if !regexp.MustCompile(`^postgres:\d+$`).MatchString(s.Image) {
		return fmt.Errorf("the image is %q", s.Image)
	}
	e.postgres = databasetest.StartPostgres(e.t)
	folder := regexp.MustCompile(`host=(\S+)`).FindStringSubmatch(e.postgres.DSN)[1]
	psql := func(user string, args ...string) error {
		cmd := exec.CommandContext(e.ctx, "psql", append([]string{"-v", "ON_ERROR_STOP=1", "-h", folder, "-d", "postgres", "-U", user}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("psql: %w: %s", err, out)
		}
		return nil
	}
	user := s.Environment["POSTGRES_USER"]
	if err := errors.Join(psql("postern", "-c", "CREATE ROLE "+user+" SUPERUSER LOGIN"), psql(user, "-c", "ALTER ROLE postern RENAME TO nobody")); err != nil {
		return err
	}
	script := ""
	for _, v := range s.Volumes {
		if filepath.Dir(v.Target) == "/docker-entrypoint-initdb.d" && filepath.Ext(v.Target) == ".sh" {
			script = v.Source
		}
	}
	cmd := exec.CommandContext(e.ctx, "bash", "-e", script)
	cmd.Env = append(os.Environ(), "PGHOST="+folder)
	for name, value := range s.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return forward(e.t, e.ports["5432"], filepath.Join(folder, ".s.PGSQL.5432"))
}

// python starts Synapse's own as the owner of the folders.
func (e *engine) python(args ...string) (*exec.Cmd, error) {
	path, err := parts.SynapsePython()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(e.ctx, path, args...)
	cmd.Dir = e.synapse
	return cmd, nil
}

// generateSynapse does what `generate` of Synapse's image does.
func (e *engine) generateSynapse(s service) (int, string, error) {
	if s.Image != "matrixdotorg/synapse:v"+parts.SynapseVersion {
		return 0, "", fmt.Errorf("the image is %q", s.Image)
	}
	e.synapse = s.mounted("/data")
	cmd, err := e.python("-m", "synapse.app.homeserver", "--generate-config", "--report-stats="+s.Environment["SYNAPSE_REPORT_STATS"],
		"--server-name", s.Environment["SYNAPSE_SERVER_NAME"], "--config-path", "homeserver.yaml", "--data-directory", e.synapse)
	if err != nil {
		return 0, "", err
	}
	out, err := cmd.CombinedOutput()
	return 0, string(out), err
}

// startSynapse runs Synapse with the files that its container would have. SQLite takes the place of PostgreSQL, for which its package has no driver
// here, and the port is another.
func (e *engine) startSynapse(s service) error {
	if len(s.Command) < 2 || s.Command[0] != "run" {
		return fmt.Errorf("the command is %q", s.Command)
	}
	args := []string{"-m", "synapse.app.homeserver"}
	for _, arg := range s.Command[1:] {
		path, is := strings.CutPrefix(arg, "--config-path=")
		if path = s.mounted(path); !is || path == "" {
			return fmt.Errorf("%s is nowhere", arg)
		}
		args = append(args, "-c", path)
	}
	raw, err := os.ReadFile(s.mounted("/postern.yaml"))
	if err != nil {
		return err
	}
	var over struct {
		Database struct {
			Name string
			Args map[string]any
		}
		Files []string `yaml:"app_service_config_files"`
	}
	if err = yaml.Unmarshal(raw, &over); err != nil {
		return err
	}
	if over.Database.Name != "psycopg2" || over.Database.Args["host"] != "postgres" || over.Database.Args["user"] != "synapse" || over.Database.Args["password"] != nil {
		return fmt.Errorf("the database is %v", over.Database)
	}
	registrations := []string{}
	for _, file := range over.Files {
		registrations = append(registrations, s.mounted(file))
	}
	if len(registrations) != 1 || slices.Contains(registrations, "") {
		return fmt.Errorf("the registrations are %q", over.Files)
	}
	last := fmt.Sprintf("listeners: [{port: %d, bind_addresses: [127.0.0.1], type: http, tls: false, resources: [{names: [client]}]}]\n"+
		"database: {name: sqlite3, args: {database: %s}}\napp_service_config_files: [%s]\ntrusted_key_servers: []\nbcrypt_rounds: 4\n",
		e.ports["8008"], filepath.Join(e.synapse, "homeserver.db"), registrations[0])
	file := filepath.Join(e.t.TempDir(), "last.yaml")
	if err = os.WriteFile(file, []byte(last), 0o600); err != nil {
		return err
	}
	path, err := parts.SynapsePython()
	if err != nil {
		return err
	}
	c := &container{ // it has to know the others by name
		User: "0:0", Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: e.synapse, Args: slices.Concat([]string{path}, args, []string{"-c", file}),
		Mounts: map[string]mount{"/etc/hosts": {From: e.hosts, ReadOnly: true}},
	}
	p, err := e.keep("synapse", func(log string) (*parts.Process, error) { return c.start("Synapse", log) })
	if err != nil {
		return err
	}
	return e.until(p, func() error { return answers(e.ctx, fmt.Sprintf("http://127.0.0.1:%d/health", e.ports["8008"])) })
}

func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// inSynapse runs one of the programs that Synapse's image has.
func (e *engine) inSynapse(words []string) (int, string, error) {
	if words[0] != "register_new_matrix_user" {
		return 0, "", errUnknown
	}
	args := []string{"-m", "synapse._scripts.register_new_matrix_user"}
	for _, word := range words[1:] {
		args = append(args, strings.Replace(word, "/data/", e.synapse+"/", 1))
	}
	cmd, err := e.python(args...)
	if err != nil {
		return 0, "", err
	}
	out, err := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out), err
}
