package connector

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	up "go.mau.fi/util/configupgrade"
)

// InstancesConfig is the section on several instances of one bridge, among which the users are divided (docs/SCALE.md).
type InstancesConfig struct {
	// Name is this instance's, "" if it is the only one.
	Name string `yaml:"name"`
	// All are the names of all instances.
	All []string `yaml:"all"`
	// Schema is where in the database they keep what they share.
	Schema string `yaml:"schema"`
	// KeyFile has the key for what is secret in it.
	KeyFile string `yaml:"key_file"`
	// Address is where the others reach this one's public listener.
	Address string `yaml:"address"`
}

// instanceName is what an instance may be called, and a schema.
var instanceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// maxInstances bounds them: what one of them does not have it asks all others for.
const maxInstances = 64

func upgradeInstancesConfig(helper up.Helper) {
	for _, key := range []string{"name", "schema", "key_file", "address"} {
		helper.Copy(up.Str|up.Null, "instances", key)
	}
	helper.Copy(up.List, "instances", "all")
}

// prepareInstances checks the section.
func (c *Config) prepareInstances() error {
	i := &c.Instances
	if i.Name == "" {
		if len(i.All) > 0 {
			return errors.New("network.instances.name has to be set, since network.instances.all is")
		}
		return nil
	}
	if i.Schema == "" {
		i.Schema = "postern_shared"
	}
	if i.KeyFile == "" {
		i.KeyFile = "shared.key"
	}
	seen := map[string]bool{}
	for _, name := range append([]string{i.Name, i.Schema}, i.All...) {
		if !instanceName.MatchString(name) {
			return fmt.Errorf("network.instances: %q is not a name: small letters, digits and _, at most 40, a letter first", name)
		}
	}
	for _, name := range i.All {
		if seen[name] {
			return fmt.Errorf("network.instances.all has %q twice", name)
		}
		seen[name] = true
	}
	switch {
	case !slices.Contains(i.All, i.Name):
		return fmt.Errorf("network.instances.all has to have this instance's own name, %q, among all the others", i.Name)
	case len(i.All) > maxInstances:
		return fmt.Errorf("network.instances.all has more than %d names", maxInstances)
	case i.KeyFile == c.KeyFile || i.KeyFile == c.EpochFile:
		return errors.New("network.instances.key_file has to be a file of its own, the same for all instances")
	}
	return i.prepareAddress(c.Public.Address)
}

func (i *InstancesConfig) prepareAddress(listens string) error {
	if i.Address == "" {
		host, _, err := net.SplitHostPort(listens)
		if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
			return errors.New("network.instances.address has to say where the other instances reach this one's public listener, such as http://10.0.0.2:29341")
		}
		i.Address = "http://" + listens
	}
	address, err := url.Parse(i.Address)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" || address.RawQuery != "" || address.Fragment != "" ||
		strings.HasSuffix(i.Address, "/") {
		return errors.New("network.instances.address has to be a complete http or https address without a slash at the end")
	}
	return nil
}

// mediaPlace is where the attachments are, for comparing with other instances' places; "" for a folder.
func (m *MediaConfig) mediaPlace() string {
	if m.Store != storeS3 {
		return ""
	}
	return m.S3.Endpoint + "\n" + m.S3.Bucket + "\n" + strings.Trim(m.S3.Prefix, "/")
}
