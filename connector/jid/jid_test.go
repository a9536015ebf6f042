package jid_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/connector/jid"
)

// valid lists text forms with the address each of them is, in both directions.
var valid = []struct {
	name, text, signal string
	want               jid.JID
}{
	{"partner user", "1-10853634039893@interop", "1-10853634039893@interop.0",
		jid.JID{User: "10853634039893", Integrator: 1, Server: jid.Interop}},
	{"partner user of the highest integrator", "999-1@interop", "999-1@interop.0",
		jid.JID{User: "1", Integrator: 999, Server: jid.Interop}},
	{"partner user with the longest account", "12-999999999999999@interop", "12-999999999999999@interop.0",
		jid.JID{User: "999999999999999", Integrator: 12, Server: jid.Interop}},
	{"interop group", "12-105@interop.g.us", "12-105@interop.g.us.0",
		jid.JID{User: "105", Integrator: 12, Server: jid.InteropGroup}},
	{"opaque WhatsApp user", "203847561029384@lid", "203847561029384@lid.0",
		jid.JID{User: "203847561029384", Server: jid.LID}},
	{"opaque user with a leading zero", "0123@lid", "0123@lid.0", jid.JID{User: "0123", Server: jid.LID}},
	{"WhatsApp user by phone number", "4915112345678@s.whatsapp.net", "4915112345678@s.whatsapp.net.0",
		jid.JID{User: "4915112345678", Server: jid.User}},
	{"companion device", "4915112345678:17@s.whatsapp.net", "4915112345678@s.whatsapp.net.17",
		jid.JID{User: "4915112345678", Device: 17, Server: jid.User}},
	{"highest companion device", "4915112345678:255@lid", "4915112345678@lid.255",
		jid.JID{User: "4915112345678", Device: 255, Server: jid.LID}},
	{"hosted device", "4915112345678:99@hosted", "4915112345678@hosted.99",
		jid.JID{User: "4915112345678", Device: 99, Server: jid.Hosted}},
	{"Messenger device", "100001234567890:65535@msgr", "100001234567890@msgr.65535",
		jid.JID{User: "100001234567890", Device: 65535, Server: jid.Messenger}},
	{"the gatekeeper", "s.whatsapp.net", "s.whatsapp.net.0", jid.ServerJID},
	{"all groups", "g.us", "g.us.0", jid.JID{Server: jid.Group}},
	{"old group", "4915112345678-1546@g.us", "4915112345678-1546@g.us.0",
		jid.JID{User: "4915112345678-1546", Server: jid.Group}},
	{"status list", "status@broadcast", "status@broadcast.0", jid.JID{User: "status", Server: "broadcast"}},
	{"old user server", "4915112345678@c.us", "4915112345678@c.us.0",
		jid.JID{User: "4915112345678", Server: jid.Legacy}},
}

func TestEveryValidAddressHasOneTextForm(t *testing.T) {
	for _, tc := range valid {
		t.Run(tc.name, func(t *testing.T) {
			got, err := jid.Parse(tc.text)
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if got != tc.want {
				t.Errorf("Parse = %+v, want %+v", got, tc.want)
			}
			if s := tc.want.String(); s != tc.text {
				t.Errorf("String = %q, want %q", s, tc.text)
			}
			if s := tc.want.SignalAddress(); s != tc.signal {
				t.Errorf("SignalAddress = %q, want %q", s, tc.signal)
			}
			if err := tc.want.Validate(); err != nil {
				t.Errorf("Validate: %v", err)
			}
		})
	}
}

var invalid = []struct{ name, text, part string }{
	{"empty", "", "text"},
	{"bare word", "text", "text"},
	{"interop without a user", "interop", "text"},
	{"lid without a user", "lid", "text"},
	{"too long", strings.Repeat("1", 200) + "@lid", "text"},
	{"empty user", "@lid", "user"},
	{"empty user of the gatekeeper", "@s.whatsapp.net", "user"},
	{"empty user with a device", ":3@s.whatsapp.net", "user"},
	{"empty server", "123@", "server"},
	{"two at signs", "1@2@lid", "server"},
	{"capital server", "1@LID", "server"},
	{"server starting with a digit", "1@1id", "server"},
	{"server too long", "1@" + strings.Repeat("a", 33), "server"},
	{"partner without integrator", "10853634039893@interop", "integrator"},
	{"integrator zero", "0-1@interop", "integrator"},
	{"integrator with a leading zero", "01-1@interop", "integrator"},
	{"integrator 1000", "1000-1@interop", "integrator"},
	{"integrator beyond 16 bits", "65537-1@interop", "integrator"},
	{"empty integrator", "-1@interop", "integrator"},
	{"integrator with a sign", "+1-1@interop", "integrator"},
	{"no account", "1-@interop", "account"},
	{"account zero", "1-0@interop", "account"},
	{"account with a leading zero", "1-01@interop", "account"},
	{"account of 16 digits", "1-1234567890123456@interop", "account"},
	{"account with letters", "1-12a@interop", "account"},
	{"account with another dash", "1-2-3@interop", "account"},
	{"partner with a device", "1-2:3@interop", "device"},
	{"partner with device zero spelt out", "1-2:0@interop", "device"},
	{"device zero spelt out", "1:0@lid", "device"},
	{"device with a leading zero", "1:01@lid", "device"},
	{"empty device", "1:@lid", "device"},
	{"device of nine bits", "1:256@s.whatsapp.net", "device"},
	{"Messenger device of 17 bits", "1:65536@msgr", "device"},
	{"device with letters", "1:a@lid", "device"},
	{"two devices", "1:2:3@lid", "device"},
	{"device on a group", "1:2@g.us", "device"},
	{"agent in the old spelling", "1.0:2@s.whatsapp.net", "user"},
	{"phone number with a plus", "+4915@s.whatsapp.net", "user"},
	{"letters for digits", "abc@lid", "user"},
	{"Arabic digits", "١٢٣@lid", "user"},
	{"21 digits", "123456789012345678901@lid", "user"},
	{"space in a name", "a b@broadcast", "user"},
	{"zero byte in a name", "a\x00@broadcast", "user"},
	{"name too long", strings.Repeat("a", 65) + "@broadcast", "user"},
	{"space behind", "1@lid ", "server"},
}

func TestEveryInvalidTextIsRefusedWithTheRightPart(t *testing.T) {
	for _, tc := range invalid {
		t.Run(tc.name, func(t *testing.T) {
			got, err := jid.Parse(tc.text)
			if err == nil {
				t.Fatalf("Parse accepted it as %+v", got)
			}
			var e *jid.Error
			if !errors.As(err, &e) || !errors.Is(err, jid.ErrInvalid) {
				t.Fatalf("error is %T, want *jid.Error wrapping ErrInvalid", err)
			}
			if e.Part != tc.part {
				t.Errorf("part %q, want %q", e.Part, tc.part)
			}
			if got != (jid.JID{}) {
				t.Errorf("an address came with the error")
			}
			if err.Error() != "parse address: invalid "+tc.part {
				t.Errorf("the error text %q says more than the part", err)
			}
		})
	}
}

func TestTwoIntegratorsUsersWithOneAccountNumberAreTwoPeople(t *testing.T) {
	a, err := jid.NewInterop(12, "105")
	if err != nil {
		t.Fatal(err)
	}
	b, err := jid.NewInterop(13, "105")
	if err != nil {
		t.Fatal(err)
	}
	if a == b || a.String() == b.String() || a.SignalAddress() == b.SignalAddress() || a.SignalName() == b.SignalName() {
		t.Errorf("%v and %v are not told apart", a, b)
	}
}

func TestAddressesThatCannotBeOnTheWireAreNotValid(t *testing.T) {
	for name, j := range map[string]jid.JID{
		"nothing":                         {},
		"integrator outside interop":      {User: "1", Integrator: 1, Server: jid.LID},
		"integrator on another server":    {User: "a", Integrator: 1, Server: "broadcast"},
		"integrator on Messenger":         {User: "1", Integrator: 1, Server: jid.Messenger},
		"gatekeeper with a device":        {Device: 1, Server: jid.User},
		"lid without a user":              {Server: jid.LID},
		"other server without a user":     {Server: "broadcast"},
		"interop without integrator":      {User: "1", Server: jid.Interop},
		"interop group with a device":     {User: "1", Integrator: 1, Device: 1, Server: jid.InteropGroup},
		"at sign in the user":             {User: "a@b", Server: "broadcast"},
		"colon in the user":               {User: "a:1", Server: "broadcast"},
		"at sign in the server":           {User: "a", Server: "b@c"},
		"device the binary form cuts off": {User: "1", Device: 256, Server: jid.User},
	} {
		if j.Validate() == nil {
			t.Errorf("%s: taken as valid", name)
		}
		if _, err := j.MarshalText(); err == nil {
			t.Errorf("%s: marshalled", name)
		}
	}
}

func TestNewInteropRefusesWhatParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		integrator uint16
		account    string
		ok         bool
	}{{1, "1", true}, {999, "999999999999999", true}, {0, "1", false}, {1000, "1", false}, {1, "", false},
		{1, "01", false}, {1, "1234567890123456", false}, {1, "1@interop", false}} {
		j, err := jid.NewInterop(tc.integrator, tc.account)
		if (err == nil) != tc.ok {
			t.Errorf("NewInterop(%d, %q): %v", tc.integrator, tc.account, err)
		}
		if err != nil && !j.IsZero() {
			t.Errorf("NewInterop(%d, %q) gave an address with its error", tc.integrator, tc.account)
		}
	}
}

func TestPartsOfAnAddress(t *testing.T) {
	partner := jid.JID{User: "10853634039893", Integrator: 1, Server: jid.Interop}
	phone := jid.JID{User: "4915112345678", Device: 3, Server: jid.User}
	if n, ok := partner.Account(); !ok || n != 10853634039893 {
		t.Errorf("Account = %d, %v", n, ok)
	}
	if _, ok := phone.Account(); ok {
		t.Error("a WhatsApp user has an account number")
	}
	if !partner.IsInterop() || phone.IsInterop() || partner.IsServer() || !jid.ServerJID.IsServer() {
		t.Error("IsInterop or IsServer is wrong")
	}
	if !(jid.JID{}).IsZero() || phone.IsZero() || (jid.JID{}).IsServer() || (jid.JID{}).String() != "" {
		t.Error("the zero value is wrong")
	}
	if phone.Bare() != (jid.JID{User: phone.User, Server: jid.User}) || phone.Device != 3 {
		t.Error("Bare is wrong")
	}
	if got := phone.SignalName(); got != "4915112345678@s.whatsapp.net" {
		t.Errorf("SignalName = %q", got)
	}
}

func TestAddressesTravelThroughJSON(t *testing.T) {
	for _, tc := range valid {
		b, err := json.Marshal(map[string]jid.JID{"j": tc.want})
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		var back map[string]jid.JID
		if err = json.Unmarshal(b, &back); err != nil || back["j"] != tc.want {
			t.Errorf("%s: came back as %v, %v", tc.name, back, err)
		}
	}
	var j jid.JID
	if err := json.Unmarshal([]byte(`"nobody"`), &j); !errors.Is(err, jid.ErrInvalid) {
		t.Errorf("an invalid address was unmarshalled: %v", err)
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	for _, tc := range valid {
		if n := testing.AllocsPerRun(100, func() { _, _ = jid.Parse(tc.text) }); n != 0 {
			t.Errorf("%s: %v allocations", tc.name, n)
		}
	}
}

// FuzzParse checks that whatever is accepted prints back byte for byte, that nothing is allocated beyond the printed
// form, and that two texts never share a Signal address.
//
// decoder: jid.go:-Error.Error,-Error.Unwrap,-NewInterop,-JID.IsZero,-JID.IsInterop,-JID.IsServer,-JID.Account,-JID.MarshalText
func FuzzParse(f *testing.F) {
	for _, tc := range valid {
		f.Add(tc.text, "1-1@interop")
	}
	for _, tc := range invalid {
		f.Add(tc.text, "1@lid")
	}
	f.Add("1:2@lid", "1@lid")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, errX := jid.Parse(a)
		y, errY := jid.Parse(b)
		if errX == nil {
			if x.String() != a || x.Validate() != nil || len(a) > jid.MaxText {
				t.Errorf("%q parsed as %+v prints %q", a, x, x.String())
			}
			if again, err := jid.Parse(x.String()); err != nil || again != x {
				t.Errorf("%q does not come back: %v", a, err)
			}
			if name := x.SignalName(); x.SignalAddress() != fmt.Sprintf("%s.%d", name, x.Device) {
				t.Errorf("%q has the Signal name %q", a, name)
			}
		}
		var z jid.JID
		if err := z.UnmarshalText([]byte(a)); (err == nil) != (errX == nil) || z != x {
			t.Errorf("%q is unmarshalled as %+v, %v", a, z, err)
		}
		if errX == nil && errY == nil && a != b && (x == y || x.SignalAddress() == y.SignalAddress()) {
			t.Errorf("%q and %q are not told apart", a, b)
		}
		least := 1.0 // other goroutines of the fuzzer allocate too
		for range 8 {
			least = min(least, testing.AllocsPerRun(1, func() { _, _ = jid.Parse(a) }))
		}
		if least > 0 {
			t.Errorf("Parse of %d bytes allocates", len(a))
		}
	})
}

// FuzzFields checks the other direction: every address Validate accepts survives printing and parsing.
//
// decoder: jid.go:-Error.Error,-Error.Unwrap,-NewInterop,-JID.IsZero,-JID.IsInterop,-JID.IsServer,-JID.Account,-JID.MarshalText,-JID.UnmarshalText,-JID.Bare,-JID.SignalName,-JID.SignalAddress
func FuzzFields(f *testing.F) {
	for _, tc := range valid {
		f.Add(tc.want.User, tc.want.Integrator, tc.want.Device, string(tc.want.Server))
	}
	for _, server := range []string{"interop", "lid", "msgr", "broadcast", "", "LID", strings.Repeat("a", 33)} {
		f.Add("1", uint16(0), uint16(0), server)
		f.Add("a b", uint16(1), uint16(0), server)
		f.Add("a-b", uint16(0), uint16(300), server)
		f.Add(strings.Repeat("1", 65), uint16(1), uint16(65535), server)
		f.Add("", uint16(1000), uint16(1), server)
	}
	f.Fuzz(func(t *testing.T, user string, integrator, device uint16, server string) {
		j := jid.JID{User: user, Integrator: integrator, Device: device, Server: jid.Server(server)}
		text := j.String() // must not panic whatever j is
		if j.Validate() != nil {
			return
		}
		back, err := jid.Parse(text)
		if err != nil || back != j {
			t.Errorf("%+v prints %q, which parses as %+v, %v", j, text, back, err)
		}
	})
}
