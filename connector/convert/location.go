package convert

import (
	"math"
	"strconv"
	"strings"

	"maunium.net/go/mautrix/event"
)

// position is a place on earth.
type position struct {
	latitude, longitude float64
	accuracy            float64 // metres, 0 if not known
}

// maxAccuracy is the widest circle that says something: half of the earth's girth, in metres.
const maxAccuracy = 20_000_000

// newPosition bounds coordinates; ok is false if they are none.
func newPosition(latitude, longitude, accuracy float64) (p position, ok bool) {
	if !(math.Abs(latitude) <= 90 && math.Abs(longitude) <= 180) { // not a number fails too
		return p, false
	}
	if !(accuracy > 0 && accuracy <= maxAccuracy) {
		accuracy = 0
	}
	return position{latitude, longitude, accuracy}, true
}

// parseGeo reads a geo URI (RFC 5870) in the one system of coordinates that it knows, WGS 84.
func parseGeo(uri string) (p position, ok bool) {
	const longest = 256
	if len(uri) > longest || len(uri) < 4 || !strings.EqualFold(uri[:4], "geo:") {
		return p, false
	}
	coordinates, parameters, _ := strings.Cut(uri[4:], ";")
	numbers := strings.Split(coordinates, ",")
	if len(numbers) < 2 || len(numbers) > 3 {
		return p, false
	}
	var parsed [2]float64
	for i := range parsed {
		n, err := strconv.ParseFloat(strings.TrimSpace(numbers[i]), 64)
		if err != nil {
			return p, false
		}
		parsed[i] = n
	}
	var accuracy float64
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(name, "crs") && !strings.EqualFold(value, "wgs84") {
			return p, false
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil && strings.EqualFold(name, "u") {
			accuracy = n
		}
	}
	return newPosition(parsed[0], parsed[1], accuracy)
}

// degrees writes coordinates with six digits after the point, which is about a decimetre.
func (p position) degrees() (latitude, longitude string) {
	return strconv.FormatFloat(p.latitude, 'f', 6, 64), strconv.FormatFloat(p.longitude, 'f', 6, 64)
}

// geo writes a geo URI.
func (p position) geo() string {
	latitude, longitude := p.degrees()
	uri := "geo:" + latitude + "," + longitude
	if p.accuracy > 0 {
		uri += ";u=" + strconv.FormatFloat(p.accuracy, 'f', 0, 64)
	}
	return uri
}

// link writes the address of a map.
func (p position) link() string {
	latitude, longitude := p.degrees()
	return "https://www.openstreetmap.org/?mlat=" + latitude + "&mlon=" + longitude
}

// words writes a position for people: its name, its coordinates, a map.
func (p position) words(name string) string {
	latitude, longitude := p.degrees()
	coordinates := latitude + ", " + longitude
	if strings.TrimSpace(name) == "" {
		return "📍 " + coordinates + "\n" + p.link()
	}
	return "📍 " + name + "\n" + coordinates + "\n" + p.link()
}

// locationText gives the text for a Matrix location, "" if there is no position in it. Bodies that clients make up by themselves, with
// the URI in them, are left out.
func locationText(content *event.MessageEventContent) string {
	p, ok := parseGeo(content.GeoURI)
	if !ok {
		return ""
	}
	name := clean(content.Body)
	if strings.Contains(name, "geo:") {
		name = ""
	}
	return p.words(name)
}
