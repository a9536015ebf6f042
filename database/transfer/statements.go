package transfer

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// errStatement: a statement of an archive is none of those that make tables.
var errStatement = errors.New("not a statement that makes a table, an index, a type or a reference")

// sqlToken is what such statements consist of. A comment is one, too, and is left out.
var sqlToken = regexp.MustCompile(`^(?:--[^\n]*|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|'(?:[^'\x00\\]|'')*'|"(?:[^"\x00]|"")+"|::|<>|<=|>=|[(),=<>-]|[ \t\r\n]+)`)

// beforeGroup are the words that a parenthesis may come after, besides the names of tables: none of them calls a function.
var beforeGroup = []string{"KEY", "UNIQUE", "CHECK", "ENUM", "BTREE", "AND", "OR", "NOT", "IN", "CHAR", "CHARACTER", "VARCHAR", "VARYING", "(", ",", "=", "<", ">", "<>", "<=", ">="}

// serverType is the one type that the framework makes, on PostgreSQL.
const serverType = "membership"

// tokens takes a statement apart.
func tokens(statement string) (list []string, err error) {
	for rest := statement; rest != ""; {
		token := sqlToken.FindString(rest)
		if token == "" {
			return nil, errStatement
		}
		rest = rest[len(token):]
		if !strings.HasPrefix(token, "--") && strings.TrimSpace(token) != "" {
			list = append(list, token)
		}
	}
	return list, nil
}

// nameOf is a name without its quotes, "" for what is none.
func nameOf(token string) string {
	switch {
	case strings.HasPrefix(token, `"`):
		return strings.ReplaceAll(token[1:len(token)-1], `""`, `"`)
	case token != "" && (token[0] == '_' || token[0]|0x20 >= 'a' && token[0]|0x20 <= 'z'):
		return token
	}
	return ""
}

// plainStatement says whether a statement makes a table, an index, a type or a reference of the bridge's or the framework's, and does nothing else: an archive is not to run what its
// maker likes. It returns the statement as it is to be run, without comments.
//
//nolint:gocyclo // one case for each kind of statement
func plainStatement(statement string) (string, error) {
	list, err := tokens(statement)
	if err != nil {
		return "", err
	}
	at := 0
	take := func(words ...string) bool {
		if at+len(words) > len(list) {
			return false
		}
		for i, word := range words {
			if !strings.EqualFold(list[at+i], word) {
				return false
			}
		}
		at += len(words)
		return true
	}
	name := func() string {
		if at >= len(list) {
			return ""
		}
		at++
		return nameOf(list[at-1])
	}
	table, ends := "", true // ends: nothing comes after the first group
	switch {
	case take("CREATE", "TABLE"):
		table = name()
	case take("CREATE", "TYPE"):
		if table = name(); table != serverType || !take("AS", "ENUM") {
			return "", errStatement
		}
	case take("ALTER", "TABLE"):
		if table = name(); !take("ADD", "CONSTRAINT") || name() == "" || !take("FOREIGN", "KEY") {
			return "", errStatement
		}
		ends = false
	case take("CREATE", "INDEX"), take("CREATE", "UNIQUE", "INDEX"):
		if name() == "" || !take("ON") {
			return "", errStatement
		}
		table, ends = name(), false
		take("USING", "btree")
	default:
		return "", errStatement
	}
	if table != serverType && !belongs(table) || at >= len(list) || list[at] != "(" {
		return "", errStatement
	}
	if err := groups(list, at, ends); err != nil {
		return "", err
	}
	return strings.Join(list, " "), nil
}

// groups goes through what comes from the first parenthesis on.
func groups(list []string, first int, ends bool) error {
	depth := 0
	for i := first; i < len(list); i++ {
		switch token := list[i]; {
		case token == "(":
			before := strings.ToUpper(list[i-1])
			reference := i >= 2 && strings.EqualFold(list[i-2], "REFERENCES") && nameOf(list[i-1]) != ""
			if i != first && !reference && !slices.Contains(beforeGroup, before) {
				return fmt.Errorf("%w: it calls something", errStatement)
			}
			depth++
		case token == ")":
			if depth--; depth < 0 || depth == 0 && ends && i != len(list)-1 {
				return errStatement
			}
		case strings.EqualFold(token, "SELECT"):
			return errStatement
		}
	}
	if depth != 0 {
		return errStatement
	}
	return nil
}
