package convert

import (
	"mime"
	"path"
	"strings"
	"unicode"
)

const (
	maxFileName  = 255 // bytes, what file systems take
	maxExtension = 16  // bytes, with its dot
	maxMimetype  = 128 // bytes
)

// fileName makes a name from outside fit to be shown and stored: on one line, with an underscore for each character that turns
// text round or that file systems refuse, slashes among them, at most maxFileName bytes with its ending kept. "" if nothing is left, so
// that a name is made up.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		const joiner = '\u200d' // within emoji
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), strings.ContainsRune(`/\<>:"|?*`, r):
			return '_'
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Cf, r) && r != joiner:
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, "\uFFFD"))
	name = strings.TrimRight(strings.TrimLeft(name, ". "), ". ")
	if strings.Trim(name, "._ ") == "" {
		return ""
	}
	if len(name) <= maxFileName {
		return name
	}
	extension := path.Ext(name)
	if len(extension) > maxExtension {
		extension = ""
	}
	stem := name[:len(name)-len(extension)]
	return strings.TrimRight(stem[:cut(stem, maxFileName-len(extension), runeBytes)], ". ") + extension
}

func runeBytes(_ rune, size int) int { return size }

// oneLine makes a name from outside fit to stand in a sentence: on one line, without control characters and characters that turn text
// round, and at most limit UTF-16 units long.
func oneLine(name string, limit int) string {
	if len(name) > 8*limit {
		name = name[:8*limit]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, clean(name))
	name = strings.Join(strings.Fields(name), " ")
	if units(name) > limit {
		name = strings.TrimSpace(name[:cut(name, limit-1, runeUnits)]) + "…"
	}
	return name
}

// baseType gives a MIME type in lower case without parameters, "" if it is not one.
func baseType(told string) string {
	if len(told) > maxMimetype {
		return ""
	}
	base, _, err := mime.ParseMediaType(told)
	if err != nil && base == "" || !strings.Contains(base, "/") {
		return ""
	}
	return base
}

// fullType gives a MIME type with its parameters in the usual form, "" if it is not one.
func fullType(told string) string {
	if len(told) > maxMimetype {
		return ""
	}
	base, parameters, err := mime.ParseMediaType(told)
	if err != nil || !strings.Contains(base, "/") {
		return ""
	}
	return mime.FormatMediaType(base, parameters)
}

// extensions are the endings of names that are made up, by MIME type.
var extensions = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif", "image/heic": ".heic",
	"video/mp4": ".mp4", "video/3gpp": ".3gp", "video/quicktime": ".mov", "video/webm": ".webm",
	"audio/ogg": ".ogg", "audio/mpeg": ".mp3", "audio/mp4": ".m4a", "audio/aac": ".aac", "audio/amr": ".amr", "audio/wav": ".wav",
	"application/pdf": ".pdf", "application/zip": ".zip", "text/plain": ".txt", "text/vcard": ".vcf",
}

// madeUpName names a file that has no name.
func madeUpName(role Role, mimetype string) string {
	known := role.known()
	extension, ok := extensions[baseType(mimetype)]
	if !ok {
		return known.name
	}
	return strings.TrimSuffix(known.name, path.Ext(known.name)) + extension
}
