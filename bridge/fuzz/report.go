package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const tableHead = `| target | time | executions | coverage | seeds alone | findings |
| --- | --- | ---: | ---: | ---: | ---: |
`

const introduction = `# Fuzzing

Written by ` + "`./build.sh fuzz`" + `; do not edit it by hand.

The fuzz targets of Postern are for its decoders: code that takes bytes from a gatekeeper, a homeserver, a partner, a key
server, or from storage that a crash may have cut. Such code must not panic on any input, must refuse what it does not
understand with an error, and must bound what it allocates.

    ./build.sh fuzz                       every target for 60 seconds, then this page is written
    ./build.sh fuzz 10m -parallel 2       longer, with two workers for each target
    ./build.sh fuzz 10s 'binxml|stanza'   some of them, shortly; this page stays as it is

The last argument is a regular expression. A run of at least 60 seconds replaces the rows of the targets that it ran.
The exit status is 0 only if nothing was found and every target reaches 80 % of its decoder.

**How it runs.** One target after the other, with Go's own fuzzer (` + "`go test -fuzz`" + `, coverage-guided). It starts from the
seeds that the target adds, the inputs in ` + "`testdata/fuzz`" + ` of the package, and what earlier runs on the same machine
generated (the go command keeps these in its build cache). A finding ends its target. The failing input is written to
` + "`testdata/fuzz`" + `; together with the fix it is committed there, and from then on every ordinary test run tries it.

**What coverage means.** Afterwards the test program is built once more with coverage counters and runs over all these
inputs. The figure is the share of the decoder's statements that ran: of those functions, and no others, that the
line ` + "`// decoder: FILE[:FUNCTION,...]`" + ` in the comment of the target names; ` + "`FILE:-FUNCTION,...`" + ` is a file
without some of its functions. (What a target's own set-up calls counts as well; that is never more than its first seed
does.) "Seeds alone" is the same without generated inputs: what anybody gets from a fresh clone.
`

// record writes the document. Rows of targets that did not run now, or could
// not, are taken over from the old one.
func record(file string, all []target, results map[string]result, cores int) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read document: %w", err)
	}
	if err = os.WriteFile(file, []byte(render(all, results, oldRows(string(old)), cores)), 0o644); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}

// oldRows returns the rows of a document's table by the target's title.
func oldRows(document string) map[string]string {
	rows := map[string]string{}
	for line := range strings.Lines(document) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			if title, _, ok := strings.Cut(rest, "`"); ok {
				rows[title] = line
			}
		}
	}
	return rows
}

func render(all []target, results map[string]result, old map[string]string, cores int) string {
	var b strings.Builder
	b.WriteString(introduction)
	fmt.Fprintf(&b, "\n## What the last runs showed\n\nOn a machine with %d cores, shared with other work.\n\n%s", cores, tableHead)
	for _, t := range all {
		r, ran := results[t.title()]
		if row := old[t.title()]; row != "" && (!ran || r.finding == "" && r.err != nil) {
			b.WriteString(row)
		} else if ran {
			b.WriteString(r.row())
		}
	}
	b.WriteString("\n## What each target checks\n\nBesides the absence of panics. The words are the targets' own comments.\n")
	for _, t := range all {
		fmt.Fprintf(&b, "\n### %s\n\n", t.title())
		if t.text != "" {
			b.WriteString(wrap(t.text, 118) + "\n\n")
		}
		fmt.Fprintf(&b, "Decoder: %s.\n", decoderText(t.decoder))
	}
	return b.String()
}

// decoderText lists a decoder's parts, the functions of a file together.
func decoderText(parts []part) string {
	if len(parts) == 0 {
		return "not named"
	}
	var files []string
	functions := map[string][]string{}
	for _, p := range parts {
		if !slices.Contains(files, p.file) {
			files = append(files, p.file)
		}
		if p.function != "" {
			functions[p.file] = append(functions[p.file], "`"+p.function+"`")
		}
		if p.but != nil {
			functions[p.file] = append(functions[p.file], "without `"+strings.Join(p.but, "`, `")+"`")
		}
	}
	for i, file := range files {
		files[i] = "`" + file + "`"
		if some := functions[file]; some != nil {
			files[i] += " (" + strings.Join(some, ", ") + ")"
		}
	}
	return strings.Join(files, "; ")
}

// wrap breaks a paragraph at spaces into lines of at most so many bytes.
func wrap(text string, width int) string {
	var b strings.Builder
	used := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case used+1+len(word) > width:
			b.WriteByte('\n')
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += len(word)
	}
	return b.String()
}
