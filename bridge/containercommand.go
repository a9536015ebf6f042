package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"gopkg.in/yaml.v3"

	"postern/connector"
)

const containerUsage = `postern container - what a container does: write what is missing, or run the bridge

  postern container [-c config.yaml] [-r registration.yaml] [--ignore-unsupported-server]

The first start writes a configuration that is fit for a container, the second one the registration for the homeserver; both say what to do
then, and end. Every later one runs the bridge. It is the image's own command; docs/DOCKER.md leads through it.

Exit status: that of the bridge; 0 after one of the first two steps, 10 or 11 if the configuration cannot be used as it is, 20 if something
could not be written.
`

// containerSettings is what stands otherwise in the configuration of a container: listeners that others reach, under the name that the compose
// files give it, an epoch file that a copy of the other files need not have in it, and keys that the environment may set.
var containerSettings = [][2]string{
	{"network.public.address", "0.0.0.0:29341"},
	{"network.epoch_file", "epoch/postern.epoch"},
	{"appservice.address", "http://postern:29340"},
	{"appservice.hostname", "0.0.0.0"},
	{"env_config_prefix", "POSTERN_"},
}

// containerTop takes the place of the example's words on how to go on.
const containerTop = `# Then start the container again: that writes registration.yaml, beside this file. Give it to the homeserver, restart that, and
# start the container a third time. Any key can be set by the environment instead: POSTERN_HOMESERVER__ADDRESS=…
`

// containerCommand takes one of the three steps, and returns the exit status.
func containerCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseRunFlags(args)
	if err == nil && (f.example || f.generate || f.version) {
		err = errors.New("-e, -g and -v are for the program without this command")
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "postern: %v\n\n%s", err, containerUsage)
		return exitUsage
	case f.help:
		fmt.Fprint(stdout, containerUsage)
		return 0
	case !isThere(f.config):
		return firstStep(f, stdout, stderr)
	}
	// A file that is there and cannot be read is no reason to write another.
	if err := mayRead(f.config); err != nil {
		return report(stderr, err, exitConfig)
	}
	if !isThere(f.registration) {
		return secondStep(f, stdout, stderr)
	}
	return thirdStep(ctx, f, stderr)
}

// firstStep writes the configuration.
func firstStep(f *runFlags, stdout, stderr io.Writer) int {
	if err := mayWriteIn(filepath.Dir(f.config)); err != nil {
		return report(stderr, err, exitRegistration)
	}
	text, err := containerExample()
	if err == nil {
		err = writeNew(f.config, text)
	}
	if err != nil {
		return report(stderr, fmt.Errorf("writing the configuration: %w", err), exitRegistration)
	}
	fmt.Fprintf(stdout, "Wrote a configuration to %s. Set the five things that its top names, there or by the environment, and start again.\n", whole(f.config))
	return 0
}

// secondStep writes the registration, if the configuration can be used.
func secondStep(f *runFlags, stdout, stderr io.Writer) int {
	if err := whatIsMissing(f.config); err != nil {
		return report(stderr, err, exitInvalid)
	}
	if err := mayWriteIn(filepath.Dir(f.registration)); err != nil {
		return report(stderr, err, exitRegistration)
	}
	if err := generateRegistration(f.config, f.registration, &yaml.Node{}); err != nil {
		return report(stderr, err, exitRegistration)
	}
	fmt.Fprintf(stdout, "Wrote the registration to %s. Give it to the homeserver (app_service_config_files in Synapse), restart that, and start again.\n",
		whole(f.registration))
	return 0
}

// thirdStep runs the bridge. The folder of the epoch file is made if it is missing, since it is left out of backups.
func thirdStep(ctx context.Context, f *runFlags, stderr io.Writer) int {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	if _, err := loadConfig(f.config, network); err != nil {
		return report(stderr, err, exitConfig)
	}
	if epoch := bridge.Config.EpochFile; epoch != "" {
		folder := filepath.Dir(beside(f.config, epoch))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return report(stderr, fmt.Errorf("making the folder of network.epoch_file: %w", errors.Join(err, mayWriteIn(filepath.Dir(folder)))), exitDatabase)
		}
	}
	return bridgeStatus(runBridge(ctx, f), stderr)
}

// containerExample is the example with the settings of a container.
func containerExample() (string, error) {
	text := exampleConfig
	for _, set := range containerSettings {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			return "", err
		}
		value := doc.Content[0]
		for key := range strings.SplitSeq(set[0], ".") {
			if value = valueOf(value, key); value == nil {
				return "", fmt.Errorf("the example has no key %s", set[0])
			}
		}
		lines := strings.SplitAfter(text, "\n")
		line, ok := replaceScalar(lines[value.Line-1], value, set[1])
		if !ok {
			return "", fmt.Errorf("the example's %s stands in a form that cannot be replaced", set[0])
		}
		lines[value.Line-1] = line
		text = strings.Join(lines, "")
	}
	top, rest, found := strings.Cut(text, "# Then: ")
	_, rest, ends := strings.Cut(rest, "\n\n")
	if !found || !ends {
		return "", errors.New("the example does not say how to go on")
	}
	return top + containerTop + "\n" + rest, nil
}

// whatIsMissing says everything that has still to be set, or may not be, before a registration is of use.
func whatIsMissing(path string) error {
	bridge := connector.New()
	_, network, _ := bridge.GetConfig()
	cfg, err := loadConfig(path, network)
	if err != nil {
		return err
	}
	if cfg.AppService.ASToken == tokenPlaceholder || cfg.AppService.HSToken == tokenPlaceholder {
		cfg.AppService.ASToken, cfg.AppService.HSToken = "as", "hs" // the registration brings them
	}
	var wrong []string
	for _, r := range slices.Concat(homeserverRules(cfg), appserviceRules(cfg), otherRules(cfg), valueRules(cfg)) {
		if r.broken {
			wrong = append(wrong, r.words)
		}
	}
	if len(wrong) == 0 {
		if err := validateConfig(cfg); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if err := bridge.ValidateConfig(); err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%s cannot be used yet, so no registration was written:\n  %s", whole(path), strings.Join(wrong, "\n  "))
}

// writeNew writes a file that is not there yet, for its owner alone.
func writeNew(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// isThere says whether a file is there, or something that hinders us from knowing.
func isThere(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// whole is a path that can be followed from anywhere.
func whole(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return path
}

// mayRead says whether a file can be read and, if not, whose it is.
func mayRead(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s cannot be read: %s", whole(path), whose(path))
	} else if err != nil {
		return err
	}
	return file.Close()
}

// mayWriteIn says whether files can be made in a folder and, if not, what to do.
func mayWriteIn(folder string) error {
	probe, err := os.CreateTemp(folder, ".postern-*")
	switch {
	case err == nil:
		return errors.Join(probe.Close(), os.Remove(probe.Name()))
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s cannot be written: it is read-only. Mount a volume, or a folder, there", whole(folder))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be written: %s", whole(folder), whose(folder))
	}
	return fmt.Errorf("%s cannot be written: %w", whole(folder), err)
}

// whose says who we are, whose a file is (or the folder that keeps us from it), and what to do about it.
func whose(path string) string {
	path = whole(path)
	info, err := os.Stat(path)
	for err != nil && filepath.Dir(path) != path {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	me := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	if err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			return fmt.Sprintf("this is user %s, and %s belongs to user %d:%d, with mode %#o. "+
				"Either give it to this user (chown -R %s, on the host) or start the container as the other (--user %d:%d)",
				me, path, owner.Uid, owner.Gid, info.Mode().Perm(), me, owner.Uid, owner.Gid)
		}
	}
	return fmt.Sprintf("this is user %s, who may not use %s. Give it to that user", me, path)
}
