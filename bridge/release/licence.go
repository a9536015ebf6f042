package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// compatible are the licences of code that may be in a program under AGPL-3.0-or-later, with the reason.
var compatible = map[string]string{
	"MIT":          "asks for its notice only",
	"ISC":          "asks for its notice only",
	"BSD-2-Clause": "asks for its notice only",
	"BSD-3-Clause": "asks for its notice, and not to advertise with names",
	"Apache-2.0":   "may be combined with version 3 of the GNU licences",
	"MPL-2.0":      "names the GNU licences as secondary ones (3.3), unless a file excludes them",
	"GPL-3.0-only": "allows the combination with AGPL-3.0 (13)",
	"blessing":     "in the public domain",
}

// licences says of each component what it may be used under. A new one is entered here after somebody has read its licence; what
// the files themselves say has to be the same.
var licences = map[string]string{
	standard:                              "BSD-3-Clause",
	sqlite:                                "blessing",
	"filippo.io/edwards25519":             "BSD-3-Clause",
	"github.com/beorn7/perks":             "MIT",
	"github.com/buckket/go-blurhash":      "GPL-3.0-only",
	"github.com/cespare/xxhash/v2":        "MIT",
	"github.com/coder/websocket":          "ISC",
	"github.com/coreos/go-systemd/v22":    "Apache-2.0",
	"github.com/dustin/go-humanize":       "MIT",
	"github.com/go-jose/go-jose/v4":       "Apache-2.0 AND BSD-3-Clause",
	"github.com/google/uuid":              "BSD-3-Clause",
	"github.com/klauspost/compress":       "Apache-2.0 AND BSD-3-Clause AND MIT",
	"github.com/klauspost/cpuid/v2":       "MIT",
	"github.com/klauspost/crc32":          "BSD-3-Clause",
	"github.com/lib/pq":                   "MIT",
	"github.com/mattn/go-colorable":       "MIT",
	"github.com/mattn/go-isatty":          "MIT",
	"github.com/mattn/go-sqlite3":         "MIT",
	"github.com/minio/crc64nvme":          "Apache-2.0",
	"github.com/minio/md5-simd":           "Apache-2.0 AND BSD-3-Clause",
	"github.com/minio/minio-go/v7":        "Apache-2.0",
	"github.com/munnerz/goautoneg":        "BSD-3-Clause",
	"github.com/petermattis/goid":         "Apache-2.0",
	"github.com/philhofer/fwd":            "MIT",
	"github.com/prometheus/client_golang": "Apache-2.0 AND BSD-3-Clause",
	"github.com/prometheus/client_model":  "Apache-2.0",
	"github.com/prometheus/common":        "Apache-2.0",
	"github.com/prometheus/procfs":        "Apache-2.0",
	"github.com/rs/xid":                   "MIT",
	"github.com/rs/zerolog":               "MIT",
	"github.com/skip2/go-qrcode":          "MIT",
	"github.com/tidwall/gjson":            "MIT",
	"github.com/tidwall/match":            "MIT",
	"github.com/tidwall/pretty":           "MIT",
	"github.com/tidwall/sjson":            "MIT",
	"github.com/tinylib/msgp":             "MIT",
	"github.com/yuin/goldmark":            "MIT",
	"github.com/zeebo/xxh3":               "BSD-2-Clause",
	"go.mau.fi/libsignal":                 "GPL-3.0-only",
	"go.mau.fi/util":                      "MPL-2.0",
	"go.mau.fi/whatsmeow":                 "MPL-2.0",
	"go.mau.fi/zeroconfig":                "MPL-2.0",
	"go.yaml.in/yaml/v3":                  "Apache-2.0 AND MIT",
	"golang.org/x/crypto":                 "BSD-3-Clause",
	"golang.org/x/exp":                    "BSD-3-Clause",
	"golang.org/x/image":                  "BSD-3-Clause",
	"golang.org/x/net":                    "BSD-3-Clause",
	"golang.org/x/sync":                   "BSD-3-Clause",
	"golang.org/x/sys":                    "BSD-3-Clause",
	"golang.org/x/text":                   "BSD-3-Clause",
	"google.golang.org/protobuf":          "BSD-3-Clause",
	"gopkg.in/ini.v1":                     "Apache-2.0",
	"gopkg.in/natefinch/lumberjack.v2":    "MIT",
	"gopkg.in/yaml.v3":                    "Apache-2.0 AND MIT",
	"maunium.net/go/mautrix":              "MPL-2.0",
}

// marks are what licences are recognised by, in small letters and with single spaces. Those of the GNU family are their titles
// with the date: their texts name each other.
var marks = []struct{ id, text string }{
	{"AGPL-3.0-only", "gnu affero general public license version 3, 19 november 2007"},
	{"LGPL-3.0-only", "gnu lesser general public license version 3, 29 june 2007"},
	{"LGPL-2.1-only", "gnu lesser general public license version 2.1, february 1999"},
	{"GPL-3.0-only", "gnu general public license version 3, 29 june 2007"},
	{"GPL-2.0-only", "gnu general public license version 2, june 1991"},
	{"MPL-2.0", "mozilla public license version 2.0"},
	{"MPL-1.1", "mozilla public license version 1.1"},
	{"Apache-2.0", "apache license version 2.0, january 2004"},
	{"Apache-2.0", "licensed under the apache license, version 2.0"},
	{"MIT", "permission is hereby granted, free of charge"},
	{"ISC", "permission to use, copy, modify, and distribute this software for any purpose"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"BSD-4-Clause", "all advertising materials mentioning features"},
	{"Unlicense", "this is free and unencumbered software released into the public domain"},
	{"CC0-1.0", "cc0 1.0 universal"},
	{"BUSL-1.1", "business source license 1.1"},
	{"SSPL-1.0", "server side public license"},
	{"EPL-2.0", "eclipse public license - v 2.0"},
	{"CC-BY-NC-4.0", "creative commons attribution-noncommercial"},
	{"blessing", "may you do good and not evil"},
}

// Conditions that people add to licences, and that none of the compatible ones has.
var additions = []string{"commons clause", "may not be used for", "non-commercial use only", "for personal use only"}

// recognise finds the licences in a text, as SPDX ids in order.
func recognise(text string) []string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	found := map[string]bool{}
	for _, mark := range marks {
		if strings.Contains(text, mark.text) {
			found[mark.id] = true
		}
	}
	if strings.Contains(text, "redistributions in binary form must reproduce") && !found["BSD-4-Clause"] {
		if strings.Contains(text, "neither the name") {
			found["BSD-3-Clause"] = true
		} else {
			found["BSD-2-Clause"] = true
		}
	}
	for _, addition := range additions {
		if strings.Contains(text, addition) {
			found["LicenseRef-with-conditions"] = true
		}
	}
	return sorted(found)
}

// isLicence tells a licence from what goes along with one.
func (l licenceFile) isLicence() bool {
	name := strings.ToLower(l.name[strings.LastIndex(l.name, "/")+1:])
	return !strings.HasPrefix(name, "notice") && !strings.HasPrefix(name, "patents")
}

// decide looks each component up, compares what its files say, and refuses what may not be in the program. It names all that is wrong.
func (m *materials) decide() error {
	var wrong []error
	for i := range m.components {
		one := &m.components[i]
		if err := one.decide(licences); err != nil {
			wrong = append(wrong, fmt.Errorf("%s %s: %w", one.path, one.version, err))
		}
	}
	return errors.Join(wrong...)
}

func (c *component) decide(table map[string]string) error {
	var ids []string
	for _, file := range c.texts {
		if !file.isLicence() {
			continue
		}
		found := recognise(file.text)
		if len(found) == 0 {
			return fmt.Errorf("nobody knows the licence in %s", file.name)
		}
		ids = append(ids, found...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return errors.New("there is no licence beside it")
	}
	for _, id := range ids {
		if compatible[id] == "" {
			return fmt.Errorf("%s is not among the licences that go together with AGPL-3.0-or-later", id)
		}
	}
	c.licence = strings.Join(ids, " AND ")
	switch want := table[c.path]; want {
	case c.licence:
		return nil
	case "":
		return fmt.Errorf("its files say %s, and nobody has entered it", c.licence)
	default:
		return fmt.Errorf("its files say %s, and %s is entered", c.licence, want)
	}
}

const licenceHead = `Postern is free software under the GNU Affero General Public License, version 3 or later (file LICENSE).
The program contains what is listed here, each under its own licence. The texts follow the list, each of them once.

`

// licenceText is the list of what is in the program, and every text that has to go along with it.
func (m *materials) licenceText() []byte {
	var out bytes.Buffer
	out.WriteString(licenceHead)
	users, order := map[string][]string{}, []string{}
	for _, one := range m.components {
		name := one.path
		if name == standard {
			name = "Go's standard library"
		}
		fmt.Fprintf(&out, "%-46s %-42s %s\n", name, one.version, one.licence)
		for _, file := range one.texts {
			if users[file.text] == nil {
				order = append(order, file.text)
			}
			users[file.text] = append(users[file.text], name+", "+file.name)
		}
	}
	for _, text := range order {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(users[text], "\n"), strings.Trim(text, "\n"))
	}
	return out.Bytes()
}
