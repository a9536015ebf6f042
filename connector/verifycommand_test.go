package connector

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	picturepng "image/png"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"postern/connector/e2ee"
)

// safetyOf is a safety number of two people.
func safetyOf(t *testing.T) (ours, theirs e2ee.SafetyNumber) {
	t.Helper()
	party := func(name string) e2ee.SafetyParty {
		device, err := e2ee.NewDevice(nil)
		if err != nil {
			t.Fatal(err)
		}
		return e2ee.SafetyParty{Identifier: []byte(name), Identity: device.IdentityPublic}
	}
	us, them := party("1-4711@interop"), party("100@lid")
	return e2ee.NewSafetyNumber(1, 10, us, them), e2ee.NewSafetyNumber(1, 10, them, us)
}

func TestWhatFollowsVerifyIsTakenApart(t *testing.T) {
	ours, theirs := safetyOf(t)
	number, code := ours.Digits(), theirs.Scannable()
	lines := strings.Fields(groups(number))
	for typed, want := range map[string]comparing{
		"":                                   {who: []string{}},
		"confirm":                            {who: []string{}, confirm: true},
		"Ben Miller":                         {who: []string{"Ben", "Miller"}},
		"Ben Miller Confirm":                 {who: []string{"Ben", "Miller"}, confirm: true},
		"+491522000111 confirm":              {who: []string{"+491522000111"}, confirm: true},
		"+49 1522 000111":                    {who: []string{"+49", "1522", "000111"}},
		"Anna 2":                             {who: []string{"Anna", "2"}},
		number:                               {who: []string{}, digits: number},
		strings.Join(lines, " "):             {who: []string{}, digits: number},
		groups(number):                       {who: []string{}, digits: number},
		"+49 151 00000003 " + groups(number): {who: []string{"+49", "151", "00000003"}, digits: number},
		"+49 151 00000003 " + number:         {who: []string{"+49", "151", "00000003"}, digits: number},
		"Anna " + groups(number):             {who: []string{"Anna"}, digits: number},
		strings.Join(lines[:6], " "):         {who: []string{}, digits: number[:30]},
		// As other people write it down: dashes, line breaks, and less or more than there is of it.
		strings.Join(lines, "-"): {who: []string{}, digits: number},
		strings.Join(lines, "–"): {who: []string{}, digits: number},
		strings.Join(lines[:6], "-") + "\n" + strings.Join(lines[6:], "-"): {who: []string{}, digits: number},
		"Anna " + strings.Join(lines, " - "):                               {who: []string{"Anna"}, digits: number},
		strings.Join(lines, ",\n"):                                         {who: []string{}, digits: number},
		strings.Join(lines[:2], " "):                                       {who: []string{}, digits: number[:10]},
		"+49 151 00000003 " + strings.Join(lines[:11], " "):                {who: []string{"+49", "151", "00000003"}, digits: number[:55]},
		"+49 151 00000003 " + strings.Join(lines[:4], "-"):                 {who: []string{"+49", "151", "00000003"}, digits: number[:20]},
		"+49 15112 34567":                                                  {who: []string{"+49", "15112", "34567"}},
		"Anna 2 " + groups(number):                                         {who: []string{"Anna", "2"}, digits: number},
		"0151-2345678":                                                     {who: []string{"0151-2345678"}},
		"-":                                                                {who: []string{"-"}},
		groups(number) + " 12345":                                          {who: []string{}, digits: number + "12345"},
		number + "1":                                                       {who: []string{}, digits: number + "1"},
		"Ben " + hex.EncodeToString(code):                                  {who: []string{"Ben"}, scanned: code},
		base64.StdEncoding.EncodeToString(code):                            {who: []string{}, scanned: code},
		base64.RawURLEncoding.EncodeToString(code):                         {who: []string{}, scanned: code},
		strings.Repeat("%", 100):                                           {who: []string{strings.Repeat("%", 100)}},
	} {
		if got := parseComparing(strings.Fields(typed)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q is taken for %+v, want %+v", typed, got, want)
		}
	}
}

func TestASafetyNumberIsWrittenInTwelveGroupsOfFive(t *testing.T) {
	ours, _ := safetyOf(t)
	lines := strings.Split(groups(ours.Digits()), "\n")
	if len(lines) != 3 || strings.Join(strings.Fields(strings.Join(lines, " ")), "") != ours.Digits() {
		t.Errorf("it is written %q", lines)
	}
	for _, line := range lines {
		if groups := strings.Split(line, " "); len(groups) != 4 || len(groups[0]) != 5 || len(line) != 23 {
			t.Errorf("a line is %q", line)
		}
	}
}

// zxingVersion is the version of zxing-cpp that build.sh installs from PyPI.
const zxingVersion = "2.2.0"

// zxing reads the QR code in a picture of so many grey bytes.
const zxing = `
import sys, zxingcpp
width, height = int(sys.argv[1]), int(sys.argv[2])
found = zxingcpp.read_barcodes(memoryview(sys.stdin.buffer.read()).cast('B', (height, width)))
assert len(found) == 1 and found[0].format == zxingcpp.BarcodeFormat.QRCode, found
sys.stdout.write(found[0].bytes.hex())
`

// TestAReaderThatIsNotOursReadsTheQRCode: zxing-cpp, from PyPI.
func TestAReaderThatIsNotOursReadsTheQRCode(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(cache, "postern", "zxing-"+zxingVersion, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: zxing-cpp %s is not installed; run `./build.sh setup`", zxingVersion)
	}
	for range 5 {
		ours, theirs := safetyOf(t)
		picture, err := safetyCode(ours)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := picturepng.Decode(bytes.NewReader(picture))
		if err != nil {
			t.Fatal(err)
		}
		size := decoded.Bounds().Size()
		if size.X != codeSize || size.Y != codeSize {
			t.Errorf("the picture has %v", size)
		}
		grey := make([]byte, 0, size.X*size.Y)
		for y := range size.Y {
			for x := range size.X {
				r, _, _, _ := decoded.At(x, y).RGBA()
				grey = append(grey, byte(r>>8))
			}
		}
		cmd := exec.CommandContext(t.Context(), python, "-c", zxing, strconv.Itoa(size.X), strconv.Itoa(size.Y)) //nolint:gosec // a test's own program
		cmd.Stdin = bytes.NewReader(grey)
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, complaints.String())
		}
		scanned, err := hex.DecodeString(string(out))
		if err != nil {
			t.Fatal(err)
		}
		if equal, err := theirs.Compare(scanned); err != nil || !equal {
			t.Errorf("what was read is %x, want %x (%v)", scanned, ours.Scannable(), err)
		}
	}
}
