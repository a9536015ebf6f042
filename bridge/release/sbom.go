package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// The shapes of CycloneDX 1.6, as far as they are used: https://cyclonedx.org/docs/1.6/json/
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     bomMetadata  `json:"metadata"`
		Components   []bomPart    `json:"components"`
		Dependencies []bomRelated `json:"dependencies"`
	}
	bomMetadata struct {
		Timestamp  string        `json:"timestamp"`
		Lifecycles []bomPhase    `json:"lifecycles"`
		Component  bomPart       `json:"component"`
		Properties []bomProperty `json:"properties"`
	}
	bomPhase struct {
		Phase string `json:"phase"`
	}
	bomPart struct {
		Ref        string        `json:"bom-ref"`
		Type       string        `json:"type"`
		Name       string        `json:"name"`
		Version    string        `json:"version"`
		Scope      string        `json:"scope,omitempty"`
		Hashes     []bomHash     `json:"hashes,omitempty"`
		Licences   []bomLicence  `json:"licenses"`
		PURL       string        `json:"purl,omitempty"`
		Properties []bomProperty `json:"properties,omitempty"`
	}
	bomHash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	bomLicence struct {
		Expression string `json:"expression"`
	}
	bomProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	bomRelated struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// sumProperty is the name under which a module's checksum stands as go.sum has it.
const sumProperty = "postern:go.sum"

// cycloneDX is the bill of materials of a built program. Its serial number comes from the program's bytes, its time from the commit.
func (m *materials) cycloneDX(program string, v version) ([]byte, error) {
	digest, err := digestOf(program)
	if err != nil {
		return nil, err
	}
	root := "postern-linux-" + m.arch
	bill := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Serial: "urn:uuid:" + serial(digest),
		Metadata: bomMetadata{
			Timestamp: v.stamp(), Lifecycles: []bomPhase{{"build"}},
			Component: bomPart{
				Ref: root, Type: "application", Name: "postern", Version: v.tag,
				Hashes: []bomHash{{"SHA-256", hex.EncodeToString(digest)}}, Licences: []bomLicence{{"AGPL-3.0-or-later"}},
			},
			Properties: []bomProperty{{"postern:commit", v.commit}, {"postern:build:go", m.goVersion}, {"postern:build:c", m.compiler}},
		},
		Dependencies: []bomRelated{{root, m.direct}},
	}
	for _, setting := range m.settings {
		if !strings.HasPrefix(setting.Key, "vcs") {
			bill.Metadata.Properties = append(bill.Metadata.Properties, bomProperty{"postern:build:" + setting.Key, setting.Value})
		}
	}
	for _, one := range m.components {
		part := bomPart{
			Ref: one.purl, Type: "library", Name: one.path, Version: one.version, Scope: "required",
			PURL: one.purl, Licences: []bomLicence{{one.licence}},
		}
		if one.sum != "" {
			if part.Hashes, err = moduleHash(one.sum); err != nil {
				return nil, fmt.Errorf("%s: %w", one.path, err)
			}
			part.Properties = []bomProperty{{sumProperty, one.sum}}
		}
		bill.Components = append(bill.Components, part)
		bill.Dependencies = append(bill.Dependencies, bomRelated{one.purl, one.imports})
	}
	text, err := json.MarshalIndent(bill, "", "  ")
	return append(text, '\n'), err
}

// moduleHash is the SHA-256 in a module's checksum: that of the list of its files' own.
func moduleHash(sum string) ([]bomHash, error) {
	digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:"))
	if err != nil || !strings.HasPrefix(sum, "h1:") || len(digest) != sha256.Size {
		return nil, fmt.Errorf("%q is not a checksum of a module", sum)
	}
	return []bomHash{{"SHA-256", hex.EncodeToString(digest)}}, nil
}

// serial makes a UUID (RFC 9562, version 8) of a digest.
func serial(digest []byte) string {
	id := append([]byte(nil), digest[:16]...)
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// digestOf is the SHA-256 of a file.
func digestOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return hash.Sum(nil), err
}
