package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// kind is what the values of a column are, in both databases.
type kind int

const (
	kindText kind = iota + 1
	kindChar      // padded with spaces by PostgreSQL
	kindInt
	kindBool
	kindBytes
	kindJSON
	kindTime // without a zone: the bridge's local time
)

// kindOf reads a column's type as either database names it. A type that is not known is not copied by guessing.
func kindOf(declared string) (kind, bool) {
	name, _, _ := strings.Cut(strings.ToLower(declared), "(")
	switch strings.TrimSpace(name) {
	case "text", "membership": // an enumeration on PostgreSQL
		return kindText, true
	case "char", "character":
		return kindChar, true
	case "bigint", "integer", "smallint":
		return kindInt, true
	case "boolean":
		return kindBool, true
	case "bytea", "blob":
		return kindBytes, true
	case "jsonb":
		return kindJSON, true
	case "timestamp", "timestamp without time zone":
		return kindTime, true
	}
	return 0, false
}

// A value is nil, int64, float64, bool, string or []byte, as the database has it: SQLite keeps numbers for truth values, and texts for times.

// textOf reads what SQLite may have in a column of text.
func textOf(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	}
	return "", false
}

// The form in which a time without a zone is written, and those in which SQLite's driver writes them.
const timeForm = "2006-01-02 15:04:05.000000"

var timeForms = []string{
	"2006-01-02 15:04:05.999999999-07:00", "2006-01-02T15:04:05.999999999-07:00", "2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02T15:04:05.999999999Z07:00",
}

func timeText(value any) (string, bool) {
	switch v := value.(type) {
	case int64: // seconds, or milliseconds, as SQLite's driver reads them
		if v > 1e12 || v < -1e12 {
			return time.UnixMilli(v).Local().Format(timeForm), true
		}
		return time.Unix(v, 0).Local().Format(timeForm), true
	case string:
		for _, form := range timeForms {
			if at, err := time.Parse(form, v); err == nil {
				return at.Local().Truncate(time.Microsecond).Format(timeForm), true
			}
		}
		for _, form := range []string{"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999"} {
			if at, err := time.Parse(form, v); err == nil {
				return at.Truncate(time.Microsecond).Format(timeForm), true
			}
		}
	}
	return "", false
}

// toServer makes of a value what PostgreSQL takes for a column of that kind; false if it cannot be one.
func toServer(value any, k kind) (any, bool) {
	if value == nil {
		return nil, true
	}
	switch k {
	case kindText, kindChar:
		text, ok := textOf(value)
		if k == kindChar {
			text = strings.TrimRight(text, " ")
		}
		return text, ok
	case kindInt:
		n, ok := value.(int64)
		return n, ok
	case kindBool:
		if n, ok := value.(int64); ok && (n == 0 || n == 1) {
			return n == 1, true
		}
		b, ok := value.(bool)
		return b, ok
	case kindBytes:
		if raw, ok := value.([]byte); ok {
			return raw, true
		}
		text, ok := textOf(value)
		return []byte(text), ok
	case kindJSON:
		text, ok := textOf(value)
		return text, ok && json.Valid([]byte(text))
	case kindTime:
		return timeOrNot(value)
	}
	return nil, false
}

func timeOrNot(value any) (any, bool) {
	text, ok := timeText(value)
	return text, ok
}

// toFile makes of a value of PostgreSQL's what SQLite's driver and the framework write for a column of that kind.
func toFile(value any, k kind) (any, bool) {
	switch v := value.(type) {
	case bool:
		if k != kindBool {
			return nil, false
		}
		if v {
			return int64(1), true
		}
		return int64(0), true
	case string:
		if k != kindTime {
			return v, true
		}
		at, err := time.ParseInLocation(timeForm, v, time.Local)
		return at.Format(timeForms[0]), err == nil
	}
	return value, true
}

// fit puts a mark in the place of what PostgreSQL has no place for in a text: a NUL, and bytes that are not UTF-8.
func fit(value any, k kind) (fitting any, changed bool) {
	text, ok := value.(string)
	if !ok || k == kindTime || k == kindBool {
		return value, false
	}
	clean := strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
	if k == kindJSON {
		clean = plainEscapes(clean)
	}
	return clean, clean != text
}

// plainEscapes replaces the escapes in a JSON text that PostgreSQL does not take: for a NUL, and for half of a pair of surrogates. One that an escaped backslash
// stands before is none.
func plainEscapes(text string) string {
	if !strings.Contains(text, `\u`) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		unit, ok := escapedUnit(text[i:])
		low, paired := uint64(0), false
		if ok && unit >= 0xd800 && unit < 0xdc00 {
			low, paired = escapedUnit(text[i+6:])
			paired = paired && low >= 0xdc00 && low < 0xe000
		}
		size := 1
		switch {
		case paired:
			size = 12
		case ok && (unit == 0 || unit >= 0xd800 && unit < 0xe000):
			out.WriteString(`\ufffd`)
			i += 6
			continue
		case ok:
			size = 6
		case text[i] == '\\' && i+1 < len(text):
			size = 2
		}
		out.WriteString(text[i : i+size])
		i += size
	}
	return out.String()
}

// escapedUnit reads an escape of four hexadecimal digits that a text begins with.
func escapedUnit(text string) (unit uint64, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(text[2:6], 16, 16)
	return unit, err == nil
}

// sum is over the rows of a table, in whatever order they come.
type sum [4]uint64

func (s *sum) add(row []byte) {
	hash := sha256.Sum256(row)
	for i := range s {
		s[i] += binary.BigEndian.Uint64(hash[8*i:])
	}
}

func (s *sum) String() string {
	var b []byte
	for _, n := range s {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return hex.EncodeToString(b)
}

// canonical appends a value in a form that is the same for both databases.
func canonical(to []byte, value any, k kind) ([]byte, error) {
	value, ok := toServer(value, k)
	if !ok {
		return nil, fmt.Errorf("a %T is no value for it", value)
	}
	var raw []byte
	switch v := value.(type) {
	case nil:
		return append(to, 0), nil
	case string:
		if raw = []byte(v); k == kindJSON {
			var err error
			if raw, err = canonicalJSON(raw); err != nil {
				return nil, err
			}
		}
	case []byte:
		raw = v
	case int64:
		raw = strconv.AppendInt(nil, v, 10)
	case bool:
		raw = strconv.AppendBool(nil, v)
	}
	to = binary.AppendUvarint(append(to, 1), uint64(len(raw)))
	return append(to, raw...), nil
}

// canonicalJSON sorts keys and writes numbers in one form, as PostgreSQL changes both.
func canonicalJSON(raw []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	return json.Marshal(plainNumbers(document))
}

func plainNumbers(document any) any {
	switch d := document.(type) {
	case map[string]any:
		for key, value := range d {
			d[key] = plainNumbers(value)
		}
	case []any:
		for i, value := range d {
			d[i] = plainNumbers(value)
		}
	case json.Number:
		text := d.String()
		if at := strings.IndexAny(text, "eE"); at >= 0 && len(text)-at > 5 {
			return d // more digits than anybody wants to write out
		}
		if r, ok := new(big.Rat).SetString(text); ok {
			return r.RatString()
		}
	}
	return document
}

// encodeRow writes a row as one line of JSON. What JSON has no form for is an object with one key: b for bytes and x for a text that is not UTF-8, both in
// base64, f for a number with a fraction.
func encodeRow(row []any) ([]byte, error) {
	line := make([]any, len(row))
	for i, value := range row {
		switch v := value.(type) {
		case []byte:
			line[i] = map[string][]byte{"b": v}
		case string:
			if line[i] = v; !utf8.ValidString(v) {
				line[i] = map[string][]byte{"x": []byte(v)}
			}
		case float64:
			line[i] = map[string]string{"f": strconv.FormatFloat(v, 'g', -1, 64)}
		case nil, int64, bool:
			line[i] = v
		default:
			return nil, fmt.Errorf("a %T cannot be written", value)
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out) // ends with a line feed
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(line)
	return out.Bytes(), err
}

// decodeRow reads what encodeRow has written.
func decodeRow(text []byte, columns int) ([]any, error) {
	var line []json.RawMessage
	if err := json.Unmarshal(text, &line); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if len(line) != columns {
		return nil, fmt.Errorf("%w: a row of %d values, with %d columns", ErrArchive, len(line), columns)
	}
	row := make([]any, columns)
	for i, raw := range line {
		var err error
		if row[i], err = decodeValue(raw); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	return row, nil
}

func decodeValue(raw json.RawMessage) (any, error) {
	switch {
	case len(raw) == 0:
		return nil, fmt.Errorf("no value")
	case raw[0] == '{':
		var v struct {
			B, X *[]byte
			F    *string
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, err
		}
		switch {
		case v.B != nil:
			return *v.B, nil
		case v.X != nil:
			return string(*v.X), nil
		case v.F != nil:
			return strconv.ParseFloat(*v.F, 64)
		}
		return nil, fmt.Errorf("a value of no known form")
	case raw[0] == '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case bytes.Equal(raw, []byte("null")):
		return nil, nil
	case bytes.Equal(raw, []byte("true")):
		return true, nil
	case bytes.Equal(raw, []byte("false")):
		return false, nil
	}
	return strconv.ParseInt(string(raw), 10, 64)
}
