package parts

import (
	"encoding/hex"
	"testing"
)

func TestWhatIsSaidAboutPeopleIsHeardAndNothingElse(t *testing.T) {
	var h Heard
	h.hear([]byte(`{"events":[{"kind":"message","from":"7-108536340@interop","text":"a text","media":{"file_name":"a.pdf","media_key":"000102030405060708090a0b0c0d0e0f"}}]}`))
	h.hear([]byte(`{"msgtype":"m.text","body":"report spam and fraud","m.relates_to":{"event_id":"$abc"}}`))
	h.hear([]byte(`{"phone":"+4915228100001","name":"Ben","opted_in":true}`))
	h.hear([]byte(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"password-of-alice"}`))
	h.hear([]byte(`no JSON`))
	(*Heard)(nil).hear([]byte(`{"body":"nobody hears"}`))
	texts := h.Texts()
	for _, want := range []string{
		"a text", "a.pdf", "7-108536340@interop", "7-108536340", "108536340", "report spam and fraud", "spam and fraud", "and fraud", "+4915228100001", "4915228100001", "Ben", "alice",
		"password-of-alice",
	} {
		if texts[want] == "" {
			t.Errorf("%q was not heard", want)
		}
	}
	for _, not := range []string{"message", "m.text", "$abc", "m.login.password", "m.id.user", "nobody hears"} {
		if texts[not] != "" {
			t.Errorf("%q was taken for %s", not, texts[not])
		}
	}
	key, _ := hex.DecodeString("000102030405060708090a0b0c0d0e0f")
	if keys := h.Keys(); len(keys) != 1 || keys[string(key)] != "a file's key" {
		t.Errorf("the keys are %q", keys)
	}
}
