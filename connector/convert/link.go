package convert

import (
	"net/url"
	"strings"
	"unicode"
)

// endLink writes the target of a link after its words, unless they are the
// target, or the link names a person.
func (r *htmlReader) endLink(e *inlineElem) {
	if r.pre != nil {
		return
	}
	target, kind := linkTarget(e.href)
	words := string(e.text)
	due, dueIn := r.space, r.spaceIn // a space that stood at the end of the link stays behind it
	switch {
	case kind == noLink:
	case kind == personLink:
		// The name is all that a mention needs; without one, the address.
		if words == "" {
			r.words([]byte(target))
		}
	case words == target || words == e.href:
	case words == "":
		r.word(target, 0)
	case sameTarget(words, target):
		if strings.HasPrefix(target, "mailto:") || strings.HasPrefix(target, "tel:") {
			break
		}
		if e.line == len(r.lines) && e.start <= len(r.runs) {
			r.runs = r.runs[:e.start]
			r.space = false
		}
		r.word(target, 0)
	default:
		r.blank(0)
		r.word("("+target+")", 0)
	}
	r.space, r.spaceIn = due, dueIn
}

type linkKind uint8

const (
	noLink linkKind = iota
	webLink
	personLink
)

// linkTarget says what the words of a link need beside them: nothing, a web
// address, or, for a Matrix user, at most an address to show as a name.
func linkTarget(href string) (string, linkKind) {
	href = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.TrimSpace(clean(href)))
	href = strings.ReplaceAll(href, " ", "%20")
	scheme, rest, ok := strings.Cut(href, ":")
	if !ok || rest == "" {
		return "", noLink
	}
	switch strings.ToLower(scheme) {
	case "https", "http":
		if user, ok := matrixUser(href); ok {
			return user, personLink
		}
		return href, webLink
	case "matrix":
		if user, ok := strings.CutPrefix(rest, "u/"); ok {
			user, _, _ = strings.Cut(user, "?")
			return "@" + unescape(user), personLink
		}
		return href, webLink
	case "mailto", "tel", "ftp", "magnet", "geo", "xmpp", "sip", "sips":
		return href, webLink
	}
	return "", noLink
}

// matrixUser recognises the web form of a mention.
func matrixUser(href string) (string, bool) {
	for _, base := range []string{"https://matrix.to/#/", "http://matrix.to/#/"} {
		if len(href) > len(base) && strings.EqualFold(href[:len(base)], base) {
			user, _, _ := strings.Cut(href[len(base):], "?")
			user = unescape(user)
			return user, strings.HasPrefix(user, "@")
		}
	}
	return "", false
}

func unescape(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return clean(plain)
	}
	return s
}

// sameTarget says whether words are a short form of the address target, so
// that the address can stand in their place.
func sameTarget(words, target string) bool {
	target = strings.TrimSuffix(target, "/")
	words = strings.TrimSuffix(words, "/")
	for _, prefix := range []string{"https://", "http://", "ftp://", "mailto:", "tel:"} {
		if short, ok := strings.CutPrefix(target, prefix); ok {
			return strings.EqualFold(words, short) || strings.EqualFold(words, target) ||
				strings.EqualFold("www."+words, short)
		}
	}
	return false
}
