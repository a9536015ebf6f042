package profile

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waWa6"

	"postern/connector/jid"
	"postern/connector/noise"
)

func TestEachGatekeeperIsFoundByItsName(t *testing.T) {
	if len(All()) != 2 {
		t.Fatalf("%d profiles", len(All()))
	}
	for _, p := range All() {
		got, err := ByName(p.Name)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	for _, name := range []string{"", "WhatsApp", "signal"} {
		if p, err := ByName(name); err != ErrUnknown || p != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What one gatekeeper's users, tokens or media could be taken for the other's must
// differ.
func TestGatekeepersShareNoIdentity(t *testing.T) {
	w, m := WhatsApp(), Messenger()
	for what, pair := range map[string][2]any{
		"name":       {w.Name, m.Name},
		"prefix":     {w.Prefix, m.Prefix},
		"display":    {w.DisplayName, m.DisplayName},
		"product":    {w.Login.Product, m.Login.Product},
		"audience":   {w.Token.Audience, m.Token.Audience},
		"push":       {w.Push.Issuer, m.Push.Issuer},
		"enlistment": {w.Paths.Enlist, m.Paths.Enlist},
		"media path": {w.MediaPathProduct, m.MediaPathProduct},
	} {
		if pair[0] == pair[1] {
			t.Errorf("both have the %s %v", what, pair[0])
		}
	}
}

func TestWhatsAppIsWhatTheProtocolSays(t *testing.T) {
	p := WhatsApp()
	for what, pair := range map[string][2]any{
		"prefix":               {p.Prefix, "wa"},
		"product (4.3)":        {p.Login.Product, waWa6.ClientPayload_INTEROP},
		"version (4.3)":        {p.Login.InteropVersion, [3]uint32{1, 0, 3}},
		"audience (2.2)":       {p.Token.Audience, "WHATSAPP"},
		"token bytes (2.1)":    {p.Token.MaxBytes, 4096},
		"lifetime (2.2)":       {p.Token.Lifetime, 3600 * time.Second},
		"enlistment (3.1)":     {p.Endpoints.Enlist, "https://v.whatsapp.net/3p/interop_reg"},
		"chat (4.1)":           {p.Endpoints.ChatTCP, "tcp://g.whatsapp.net:443"},
		"mode (4.2)":           {p.Noise.Mode, noise.ModeWhatsApp},
		"intro (4.2)":          {p.Noise.Intro, [4]byte{'W', 'A', 6, 3}},
		"server (1.4)":         {p.ServerJID, jid.ServerJID},
		"keep-alive (4.6)":     {p.Timing.KeepAlive, 25 * time.Second},
		"answer (4.6)":         {p.Timing.Answer, 10 * time.Second},
		"least backoff (4.5)":  {p.Timing.BackoffMin, time.Second},
		"most backoff (4.5)":   {p.Timing.BackoffMax, 5 * time.Minute},
		"good stream (4.5)":    {p.Timing.GoodStream, time.Minute},
		"lost backoff (4.5)":   {p.Timing.BackoffLost, 8 * time.Second},
		"rate limit (4.5)":     {p.Timing.RateLimited, 5 * time.Minute},
		"prekeys (5.1)":        {p.PreKeys, PreKeys{Initial: 200, RefillBelow: 100, RefillTo: 200}},
		"text (6.4)":           {p.Message.MaxTextUnits, 65536},
		"enc (6.1)":            {p.Message.EncVersion, 2},
		"padding (6.3)":        {p.Message.Padded, true},
		"retries (6.8)":        {p.Message.MaxRetries, 5},
		"resends (6.8)":        {p.Message.MaxResends, 10},
		"typing (6.7)":         {p.Timing.TypingRepeat, 10 * time.Second},
		"typing expires (6.7)": {p.Timing.TypingExpire, 25 * time.Second},
		"media path (7.2)":     {p.MediaPathProduct, "whatsapp"},
		"push issuer (8.2)":    {p.Push.Issuer, "WHATSAPP"},
		"images (6.4)":         {p.Media.ImageTypes, []string{"image/jpeg", "image/png"}},
		"videos (6.4)":         {p.Media.VideoTypes, []string{"video/mp4", "video/3gpp"}},
		"audio files (6.4)":    {p.Media.AudioTypes, []string{"audio/aac", "audio/mp4", "audio/amr", "audio/mpeg"}},
		"voice (6.4)":          {p.Media.VoiceType, "audio/ogg; codecs=opus"},
		"media kept (7.3)":     {p.Media.Keep, 45 * 24 * time.Hour},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	if m := Messenger(); m.Login.Product != waWa6.ClientPayload_INTEROP_MSGR || m.Token.Audience != "MESSENGER" {
		t.Error("Messenger's product or audience")
	}
}

func TestNamesFitTheirUse(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]{2,16}$`)
	for _, p := range All() {
		for _, s := range []string{p.Name, p.Prefix, p.MediaPathProduct} {
			if !word.MatchString(s) {
				t.Errorf("%s: %q is not a plain word", p.Name, s)
			}
		}
		for _, path := range []string{p.Paths.ChatWS, p.Paths.Enlist, p.Paths.JWKS} {
			if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") {
				t.Errorf("%s: path %q", p.Name, path)
			}
		}
		e := p.Endpoints
		for _, pair := range [][2]string{{e.ChatWS, p.Paths.ChatWS}, {e.Enlist, p.Paths.Enlist}, {e.JWKS, p.Paths.JWKS}} {
			if pair[0] != "" && !strings.HasSuffix(pair[0], pair[1]) {
				t.Errorf("%s: %s does not end in %s", p.Name, pair[0], pair[1])
			}
		}
		if len(p.UserServers) == 0 {
			t.Errorf("%s: nobody to talk to", p.Name)
		}
	}
}

// A profile without a value for a field would do something by accident. What may be
// zero is named here.
func TestEveryFieldIsSet(t *testing.T) {
	mayBeZero := map[string]bool{
		"Noise.Mode": true, "ReadDialect": true, "WriteDialect": true, "Message.Reply": true, "Message.Padded": true,
		"Endpoints.ChatTCP": true, "Endpoints.ChatWS": true, "Endpoints.Enlist": true, "Endpoints.Media": true,
		"Endpoints.JWKS": true, "ServerJID.User": true, "ServerJID.Integrator": true, "ServerJID.Device": true,
	}
	var check func(path string, v reflect.Value)
	check = func(path string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				name := v.Type().Field(i).Name
				check(strings.TrimPrefix(path+"."+name, "."), v.Field(i))
			}
			return
		}
		if v.IsZero() && !mayBeZero[path] && !strings.HasPrefix(path, "Features.") {
			t.Errorf("%s is not set", path)
		}
	}
	for _, p := range All() {
		check("", reflect.ValueOf(*p))
	}
}

func TestChangingOneCopyLeavesOthersAlone(t *testing.T) {
	a, b := WhatsApp(), WhatsApp()
	c := a.Clone()
	c.UserServers[0], c.Name, c.Noise.RootKey[0] = "changed", "changed", 1
	if !reflect.DeepEqual(a, b) {
		t.Error("the original changed with its copy")
	}
	d := a.WithEndpoints(Endpoints{Media: "http://127.0.0.1:1"})
	d.UserServers[0] = "changed"
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(a, WhatsApp()) {
		t.Error("the original changed with its copy")
	}
}

func TestConfiguredEndpointsReplaceTheProfiles(t *testing.T) {
	base := WhatsApp()
	for _, test := range []struct {
		name      string
		set, want Endpoints
	}{
		{"none", Endpoints{}, base.Endpoints},
		{"websocket displaces tcp", Endpoints{ChatWS: "ws://h/p"},
			Endpoints{ChatWS: "ws://h/p", Enlist: base.Endpoints.Enlist, Media: base.Endpoints.Media, JWKS: base.Endpoints.JWKS}},
		{"all", Endpoints{"tcp://h:1", "ws://h/p", "http://e", "http://m", "http://j"},
			Endpoints{"tcp://h:1", "ws://h/p", "http://e", "http://m", "http://j"}},
	} {
		if got := base.WithEndpoints(test.set).Endpoints; got != test.want {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

func TestProfileIsCheckedBeforeUse(t *testing.T) {
	if err := WhatsApp().Validate(); err != nil {
		t.Errorf("WhatsApp as it comes: %v", err)
	}
	if err := Messenger().Validate(); err == nil {
		t.Error("Messenger as it comes has endpoints that nobody knows")
	}
	full := Endpoints{ChatTCP: "tcp://h:1", Enlist: "https://e/p", Media: "http://m", JWKS: "http://j/k"}
	if err := Messenger().WithEndpoints(full).Validate(); err != nil {
		t.Errorf("Messenger with endpoints: %v", err)
	}
	for name, change := range map[string]func(*Profile){
		"no chat":                func(p *Profile) { p.Endpoints.ChatTCP = "" },
		"chat by http":           func(p *Profile) { p.Endpoints.ChatTCP = "http://h:1" },
		"chat without port":      func(p *Profile) { p.Endpoints.ChatTCP = "tcp://h" },
		"chat with path":         func(p *Profile) { p.Endpoints.ChatTCP = "tcp://h:1/p" },
		"websocket by https":     func(p *Profile) { p.Endpoints.ChatWS = "https://h/p" },
		"no enlistment":          func(p *Profile) { p.Endpoints.Enlist = "" },
		"no media":               func(p *Profile) { p.Endpoints.Media = "" },
		"no keys":                func(p *Profile) { p.Endpoints.JWKS = "" },
		"slash at the end":       func(p *Profile) { p.Endpoints.Media = "http://m/" },
		"user in the url":        func(p *Profile) { p.Endpoints.Media = "http://secret@m" },
		"fragment":               func(p *Profile) { p.Endpoints.Media = "http://m/#x" },
		"no host":                func(p *Profile) { p.Endpoints.Media = "http:///x" },
		"no url":                 func(p *Profile) { p.Endpoints.Media = "http://[secret" },
		"no root key":            func(p *Profile) { p.Noise.RootKey = [32]byte{} },
		"media by another thing": func(p *Profile) { p.Endpoints.Media = "ftp://m" },
	} {
		p := Messenger().WithEndpoints(full)
		change(p)
		err := p.Validate()
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the value: %v", name, err)
		}
	}
}

// The mark of where a value comes from stands beside it in the source; this keeps it
// there.
func TestEveryValueIsMarkedPaperObservedOrAssumed(t *testing.T) {
	mark := regexp.MustCompile(`^// (paper|observed|assumed)(: .+|;.+)?$`)
	for _, file := range []string{"whatsapp.go", "messenger.go"} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		comments := map[int]string{}
		for _, group := range f.Comments {
			for _, c := range group.List {
				comments[fset.Position(c.Pos()).Line] = c.Text
			}
		}
		values := 0
		ast.Inspect(f, func(n ast.Node) bool {
			kv, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			line := fset.Position(kv.Pos()).Line
			if fset.Position(kv.End()).Line != line {
				return true // a group: its members are marked
			}
			if call, ok := kv.Value.(*ast.CallExpr); ok {
				if name := call.Fun.(*ast.Ident).Name; name == "timing" || name == "media" {
					return true // marked inside
				}
			}
			values++
			if !mark.MatchString(comments[line]) {
				t.Errorf("%s:%d: %s is not marked", file, line, kv.Key.(*ast.Ident).Name)
			}
			return true
		})
		if values < 40 {
			t.Errorf("%s: only %d values looked at", file, values)
		}
	}
}
