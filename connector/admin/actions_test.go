package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/admin"
)

func TestAnOrderIsReadInOneWayForShellAndRoom(t *testing.T) {
	for typed, want := range map[string]admin.Order{
		"users":                        {Action: "users"},
		"users 50":                     {Action: "users", Words: []string{"50"}, Offset: 50},
		"user @anna:example.org":       {Action: "user", Words: []string{"@anna:example.org"}},
		"Disconnect abc":               {Action: "disconnect", Words: []string{"abc"}},
		"delete --yes @a:b":            {Action: "delete", Words: []string{"@a:b"}, Yes: true},
		"delete @a:b \u2014yes":        {Action: "delete", Words: []string{"@a:b"}, Yes: true},
		"re-enlist 0123456789abcdefgh": {Action: "re-enlist", Words: []string{"0123456789abcdefgh"}},
		"maintenance":                  {Action: "maintenance"},
		"maintenance on a new disk":    {Action: "maintenance", Words: []string{"on", "a", "new", "disk"}},
		"log-level":                    {Action: "log-level"},
		"log-level database trace":     {Action: "log-level", Words: []string{"database", "trace"}},
		"log-level configured":         {Action: "log-level", Words: []string{"configured"}},
		"media-purge 0s @a:b --force":  {Action: "media-purge", Words: []string{"0s", "@a:b"}, Force: true},
	} {
		if got, err := admin.ParseOrder(strings.Fields(typed)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v (%v)", typed, got, err)
		}
	}
	for typed, want := range map[string]string{
		"": admin.WrongNoAction, "--yes": admin.WrongNoAction, "fly": admin.WrongAction, "disconnect": admin.WrongMissing, "user a b": admin.WrongMore,
		"user Anna": admin.WrongWho, "users --yes": admin.WrongFlag, "disconnect abc --force": admin.WrongFlag, "user abc --loud": admin.WrongFlag,
		"maintenance soon": admin.WrongSwitch, "maintenance off now": admin.WrongSwitch, "maintenance on \u001b[2J": admin.WrongText,
		"log-level loud": admin.WrongLevel, "log-level a configured": admin.WrongLevel, "log-level A debug": admin.WrongComponent, "log-level databse debug": admin.WrongComponent, "media-purge 1h 2h": admin.WrongMore,
		"media-purge -1h": admin.WrongMore, "media-purge abc def": admin.WrongMore, "media-purge Anna": admin.WrongWho, "rotate-key now": admin.WrongMore,
		"delete abc": admin.WrongUnconfirmed, "users soon": admin.WrongNumber, "users -1": admin.WrongNumber, "users \u001b[2J": admin.WrongText,
	} {
		var wrong *admin.WrongOrder
		if _, err := admin.ParseOrder(strings.Fields(typed)); !errors.As(err, &wrong) || wrong.Kind != want {
			t.Errorf("%s: %v, want %s", typed, err, want)
		}
	}
}

// orderly notes its orders and answers as it is told.
type orderly struct {
	admin.Service
	asked  []admin.Order
	answer admin.Answer
	err    error
}

func (o *orderly) Do(_ context.Context, order admin.Order) (*admin.Answer, error) {
	o.asked = append(o.asked, order)
	return &o.answer, o.err
}

func TestOrdersPassTheSeamAndNamesStandInNoLogLine(t *testing.T) {
	var log bytes.Buffer
	keys := 7
	service := &orderly{answer: admin.Answer{
		Results: []admin.Result{{ID: "abc", Outcome: admin.Done}}, More: true,
		Users: []admin.User{{Account: "abc", User: "@anna:example.org", Gatekeeper: "whatsapp", State: "not_enlisted", PreKeys: &keys, Since: time.Unix(1_700_000_000, 0).UTC()}},
	}}
	client := serve(t, admin.NewHandler(service, "secret", zerolog.New(&log)))("secret")
	order := admin.Order{Action: "delete", Words: []string{"@anna:example.org"}, Yes: true, Offset: 3, Limit: 4}
	got, err := client.Do(t.Context(), order)
	if err != nil || !reflect.DeepEqual(*got, service.answer) || !reflect.DeepEqual(service.asked, []admin.Order{order}) {
		t.Errorf("%+v (%v), asked %+v", got, err, service.asked)
	}
	if text := log.String(); strings.Contains(text, "anna") || !strings.Contains(text, `"action":"delete"`) {
		t.Errorf("the log: %s", text)
	}
	if _, err = client.Do(t.Context(), admin.Order{Action: "delete", Words: []string{"abc"}}); !errors.As(err, new(*admin.WrongOrder)) {
		t.Errorf("without a confirmation: %v", err)
	}
	service.answer = admin.Answer{Users: []admin.User{{Account: "abc", User: "@anna:example.org", Gatekeeper: "whatsapp", State: "\u001b[2J"}}}
	if _, err = client.Do(t.Context(), admin.Order{Action: "users"}); !errors.Is(err, admin.ErrNotBridge) {
		t.Errorf("a control sequence: %v", err)
	}
	service.err = admin.ErrNotReady
	if _, err = client.Do(t.Context(), admin.Order{Action: "users"}); !errors.Is(err, admin.ErrNotReady) {
		t.Errorf("not ready: %v", err)
	}
	service.err = &admin.WrongOrder{Kind: admin.WrongAction}
	if _, err = client.Do(t.Context(), admin.Order{Action: "users"}); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("refused over there: %v", err)
	}
}

func TestAnOrderThatIsNoneIsRefusedAtTheSeam(t *testing.T) {
	service := &orderly{}
	h := admin.NewHandler(service, "secret", zerolog.Nop())
	answers(t, h, "do", map[string]posted{
		"no action":     {"application/json", `{}`, 400},
		"another":       {"application/json", `{"action":"fly"}`, 400},
		"unconfirmed":   {"application/json", `{"action":"delete","words":["abc"]}`, 400},
		"nobody":        {"application/json", `{"action":"disconnect"}`, 400},
		"its own":       {"application/json", `{"action":"suspend","words":["@a:b"]}`, 400},
		"a long page":   {"application/json", `{"action":"users","limit":501}`, 400},
		"not JSON":      {"application/json", `users`, 400},
		"another kind":  {"text/plain", `{"action":"users"}`, 415},
		"far too large": {"application/json", strings.Repeat(" ", 64<<10) + `{"action":"users"}`, 413},
	})
	if len(service.asked) > 0 {
		t.Errorf("asked: %+v", service.asked)
	}
}

// fieldsOf are the paths of all JSON keys of a type.
func fieldsOf(of reflect.Type, path string) (list []string) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Kind() == reflect.Slice {
		return fieldsOf(of.Elem(), path+"[]")
	}
	if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
		return []string{path}
	}
	for field := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		list = append(list, fieldsOf(field.Type, strings.TrimPrefix(path+"."+name, "."))...)
	}
	return list
}

// TestTheFormOfAnswersIsTheDocumentedOne: scripts rely on it, so what is documented stays, and what is new is documented.
func TestTheFormOfAnswersIsTheDocumentedOne(t *testing.T) {
	raw, err := os.ReadFile("../../docs/ADMIN.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(raw), `\|`, "|")
	_, form, _ := strings.Cut(page, "## JSON")
	var documented []string
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|").FindAllStringSubmatch(form, -1) {
		documented = append(documented, found[1])
	}
	if got := fieldsOf(reflect.TypeFor[admin.Answer](), ""); !slices.Equal(got, documented) {
		t.Errorf("the program answers with\n%s\nand the page has\n%s", strings.Join(got, "\n"), strings.Join(documented, "\n"))
	}
	for _, a := range admin.Actions {
		if !strings.Contains(page, "`"+strings.TrimSpace(a.Name+" "+a.Args)) {
			t.Errorf("the page does not have %s %s", a.Name, a.Args)
		}
	}
	empty, err := json.Marshal(admin.Answer{Users: []admin.User{}})
	if err != nil || string(empty) != `{"users":[]}` {
		t.Errorf("an empty list is %s (%v)", empty, err)
	}
}
