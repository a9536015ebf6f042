package connector

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	up "go.mau.fi/util/configupgrade"
)

// MediaConfig is the section on attachments.
type MediaConfig struct {
	Store string `yaml:"store"`
	Path  string `yaml:"path"`
	S3    struct {
		Endpoint  string `yaml:"endpoint"`
		Bucket    string `yaml:"bucket"`
		Region    string `yaml:"region"`
		AccessKey string `yaml:"access_key"`
		SecretKey string `yaml:"secret_key"`
		Prefix    string `yaml:"prefix"`
		Insecure  bool   `yaml:"insecure"`
	} `yaml:"s3"`
	Spool       string `yaml:"spool"`
	Quota       string `yaml:"quota"`
	MaxUpload   string `yaml:"max_upload"`
	MaxDownload string `yaml:"max_download"`
	FFmpeg      string `yaml:"ffmpeg"`
	ViewOnce    string `yaml:"view_once"`

	// The sizes in bytes, 0 for no limit of our own; filled by prepare.
	quota, maxUpload, maxDownload int64
}

// Values of MediaConfig.Store and MediaConfig.ViewOnce.
const (
	storeFiles     = "files"
	storeS3        = "s3"
	viewOnceNotice = "notice"
	viewOnceShow   = "show"
)

// upgradeMediaConfig copies the values of an admin's file into the example.
func upgradeMediaConfig(helper up.Helper) {
	for _, key := range []string{"store", "path", "spool", "view_once"} {
		helper.Copy(up.Str, "media", key)
	}
	for _, key := range []string{"quota", "max_upload", "max_download"} {
		helper.Copy(up.Str|up.Int|up.Null, "media", key)
	}
	helper.Copy(up.Str|up.Null, "media", "ffmpeg")
	for _, key := range []string{"endpoint", "bucket", "region", "access_key", "secret_key", "prefix"} {
		helper.Copy(up.Str|up.Null, "media", "s3", key)
	}
	helper.Copy(up.Bool, "media", "s3", "insecure")
}

// prepare checks the section, fills in defaults and reads the sizes.
func (m *MediaConfig) prepare() error {
	for _, d := range []struct {
		value     *string
		otherwise string
	}{{&m.Store, storeFiles}, {&m.Path, "media"}, {&m.Spool, "spool"}, {&m.ViewOnce, viewOnceNotice}} {
		if *d.value == "" {
			*d.value = d.otherwise
		}
	}
	if m.Store != storeFiles && m.Store != storeS3 {
		return errors.New("network.media.store has to be files or s3")
	}
	if m.ViewOnce != viewOnceNotice && m.ViewOnce != viewOnceShow {
		return errors.New("network.media.view_once has to be notice or show")
	}
	for _, s := range []struct {
		key, text string
		to        *int64
	}{{"quota", m.Quota, &m.quota}, {"max_upload", m.MaxUpload, &m.maxUpload}, {"max_download", m.MaxDownload, &m.maxDownload}} {
		size, ok := parseSize(s.text)
		if !ok {
			return fmt.Errorf("network.media.%s has to be a size such as 500 MB or 10 GiB, or empty", s.key)
		}
		*s.to = size
	}
	if m.Store == storeS3 {
		return m.prepareS3()
	}
	return nil
}

func (m *MediaConfig) prepareS3() error {
	for _, f := range []struct{ key, value string }{
		{"endpoint", m.S3.Endpoint}, {"bucket", m.S3.Bucket}, {"access_key", m.S3.AccessKey}, {"secret_key", m.S3.SecretKey},
	} {
		if f.value == "" {
			return fmt.Errorf("network.media.s3.%s is not set, and network.media.store is s3", f.key)
		}
	}
	if strings.ContainsAny(m.S3.Endpoint, "/@?# ") {
		return errors.New("network.media.s3.endpoint has to be host or host:port, without https:// and without a path; insecure: true means http")
	}
	return nil
}

// sizeUnits are what may stand behind a number, in lower case.
var sizeUnits = map[string]float64{
	"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// parseSize reads a size in bytes: a number, also with a decimal point, and a unit. Nothing is 0.
func parseSize(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, true
	}
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(text)
	}
	number, err := strconv.ParseFloat(text[:end], 64)
	factor, known := sizeUnits[strings.ToLower(strings.TrimSpace(text[end:]))]
	if size := number * factor; err == nil && known && size < math.MaxInt64 {
		return int64(size), true
	}
	return 0, false
}
