package interop

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/profile"
)

// checkAllocation fails if f allocates more than bound bytes. Other goroutines are counted too, so a figure that is too high is
// measured again.
func checkAllocation(t *testing.T, bound int, f func()) {
	t.Helper()
	var used uint64
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if used = after.TotalAlloc - before.TotalAlloc; used <= uint64(bound) {
			return
		}
	}
	t.Errorf("%d bytes allocated, the bound is %d", used, bound)
}

// FuzzPlaintext unwraps whatever a message decrypts to, padded or not. What comes out is a message and nothing but the
// padding is missing; what does not is refused by one of two errors; the allocation is bounded by 64 KiB and 256 bytes for
// each byte.
//
// decoder: receive.go:Account.unwrap padding.go:unpad
func FuzzPlaintext(f *testing.F) {
	for _, m := range []*waE2E.Message{
		{}, {Conversation: proto.String("x")}, {ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("y")}},
		{EphemeralMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{Conversation: proto.String("z")}}},
	} {
		plain, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pad(plain), byte(2), true)
		f.Add(plain, byte(2), false)
		f.Add(plain, byte(3), true)
		f.Add(append(plain, bytes.Repeat([]byte{16}, 16)...), byte(2), true)
		f.Add(append(plain, 17), byte(2), true)
	}
	f.Add([]byte{}, byte(2), true)
	f.Add([]byte{0xff, 1}, byte(2), true)
	f.Add([]byte{5}, byte(2), true)
	f.Fuzz(func(t *testing.T, plaintext []byte, version byte, padded bool) {
		prof := profile.WhatsApp().Clone()
		prof.Message.Padded = padded
		a := &Account{prof: prof}
		var out []byte
		var err error
		checkAllocation(t, 64<<10+256*len(plaintext), func() { out, err = a.unwrap(int(version), plaintext) })
		if err != nil {
			if !errors.Is(err, errPadding) && !errors.Is(err, errContent) || out != nil {
				t.Errorf("%d bytes and %v", len(out), err)
			}
			return
		}
		missing := len(plaintext) - len(out)
		if int(version) != prof.Message.EncVersion || !bytes.HasPrefix(plaintext, out) || padded != (missing > 0) || missing > maxPad+1 {
			t.Errorf("version %d: %d bytes became %d", version, len(plaintext), len(out))
		}
		if proto.Unmarshal(out, &waE2E.Message{}) != nil {
			t.Error("what came out is no message")
		}
	})
}

// FuzzEnlistAnswer reads any answer to an enlistment. It is a login that can be used, or an *EnlistError with a reason; the
// allocation is bounded by 64 KiB and 64 bytes for each byte.
//
// decoder: enlist.go:parseEnlist,enlistFailure
func FuzzEnlistAnswer(f *testing.F) {
	for _, answer := range []string{
		`{"status":"ok","login":"1-10853634039893@interop","identifier":"a@b.c"}`, `{"status":"ok","login":"49@s.whatsapp.net"}`,
		`{"status":"ok","login":"1-0@interop"}`, `{"status":"ok"}`, `{"status":"fail","reason":""}`, `{"status":"odd"}`, `[]`, ``, `{"status":`,
		`{"status":"ok","login":"1-1@interop","identifier":"` + strings.Repeat("x", 401) + `"}`, strings.Repeat(" ", maxEnlistBody+1),
	} {
		f.Add([]byte(answer))
	}
	for _, reason := range []string{
		EnlistBadIntegrator, EnlistBadParam, EnlistMissingParam, EnlistBadToken, EnlistBlocked, EnlistOldVersion, EnlistNotAllowed,
		EnlistUnavailable, "new_one",
	} {
		f.Add([]byte(`{"status":"fail","reason":"` + reason + `"}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var result EnlistResult
		var err error
		checkAllocation(t, 64<<10+64*len(body), func() { result, err = parseEnlist(body) })
		var why *EnlistError
		switch {
		case err == nil:
			if result.Login.Validate() != nil || !result.Login.IsInterop() || result.Login.Device != 0 || len(body) > maxEnlistBody {
				t.Errorf("accepted %d bytes", len(body))
			}
		case !errors.As(err, &why) || why.Reason == "" || result != (EnlistResult{}):
			t.Errorf("%+v, %v", result, err)
		}
	})
}
