package parts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// MinIOVersion is the version that build.sh builds from its Go module.
const MinIOVersion = "20250907161309"

// MinIO is a MinIO server on loopback, without TLS and without a bucket.
type MinIO struct {
	Endpoint             string // host:port
	AccessKey, SecretKey string
	proc                 *Process
}

// MinIOPath returns MinIO's program, or an error matching ErrMissing.
func MinIOPath() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "minio-"+MinIOVersion)
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		return "", missing("MinIO "+MinIOVersion, dir, "./build.sh setup")
	}
	return filepath.Join(dir, "minio"), nil
}

// StartMinIO starts MinIO with its data in dir and waits until it answers.
func StartMinIO(ctx context.Context, dir string) (*MinIO, error) {
	program, err := MinIOPath()
	if err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Join(dir, "data")); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	console, err := FreePort()
	if err != nil {
		return nil, err
	}
	m := &MinIO{Endpoint: fmt.Sprintf("127.0.0.1:%d", port), AccessKey: "postern-test", SecretKey: "postern-test-secret"}
	log := filepath.Join(dir, "minio.log")
	m.proc, err = Start(ProcessConfig{
		Name: "MinIO", Path: program, Dir: dir, LogPath: log,
		Args: []string{
			"server", "--quiet", "--address", m.Endpoint, "--console-address", fmt.Sprintf("127.0.0.1:%d", console), filepath.Join(dir, "data"),
		},
		Env: []string{"MINIO_ROOT_USER=" + m.AccessKey, "MINIO_ROOT_PASSWORD=" + m.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off"},
	})
	if err != nil {
		return nil, err
	}
	return m, waitReady(ctx, m.proc, "MinIO", "http://"+m.Endpoint+"/minio/health/ready", log)
}

// Stop ends it.
func (m *MinIO) Stop() error { return m.proc.Stop() }
