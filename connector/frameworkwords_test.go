package connector

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"

	"postern/connector/words"
)

// frameworkSpeaks are the places outside of its commands where the framework says something in its own words, each with what keeps them from
// people.
var frameworkSpeaks = map[string]string{
	"bridgestate.immediateSendBridgeState": "speakingBot", "bridgestate.scheduleNotice": "speakingBot", "bridgestate.sendNotice": "speakingBot",
	"matrixinvite.handleBotInvite":     "Connector.member greets",
	"matrixinvite.handleGhostDMInvite": "Connector.member", "matrixinvite.sendErrorAndLeave": "only handleGhostDMInvite calls it",
	"matrixinvite.sendNotice": "only handleGhostDMInvite calls it", "queue.rejectInviteOnNoPermission": "Connector.member",
	"commands/event.Reply": "what others say", "commands/event.ReplyAdvanced": "what others say",
	"commands/handler.Run": "command.Run; the others have no requirements", "commands/handler.userHasRoomPermission": "as Run",
	"commands/processor.handleCommand": "UnknownCommand",
}

func TestNothingThatTheFrameworkSaysInEnglishReachesAnybody(t *testing.T) {
	w := newWorld(t)
	handlers := reflect.ValueOf(processorOf(t, w.connector.bridge)).Elem().FieldByName("handlers")
	for _, key := range handlers.MapKeys() {
		h := handlers.MapIndex(key).Elem().Elem()
		checks := h.Type() == reflect.TypeFor[command]()
		if checks {
			h = h.FieldByName("FullHandler").Elem()
		}
		if by := runtime.FuncForPC(h.FieldByName("Func").Pointer()).Name(); !strings.HasPrefix(by, "postern/") {
			t.Errorf("%s is answered by %s", key.String(), by)
		}
		for _, need := range []string{"RequiresAdmin", "RequiresPortal", "RequiresLogin", "RequiresLoginPermission"} {
			if h.FieldByName(need).Bool() && !checks {
				t.Errorf("%s has the framework check %s", key.String(), need)
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "maunium.net/go/mautrix").Output()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	root := filepath.Join(strings.TrimSpace(string(out)), "bridgev2")
	for _, place := range []string{"*.go", "commands/*.go", "matrix/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, place))
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources in %s: %v", root, err)
		}
		for _, file := range files {
			name, err := filepath.Rel(root, strings.TrimSuffix(file, ".go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, who := range speakersIn(t, file) {
				there[name+"."+who] = true
			}
		}
	}
	for where := range there {
		inCommand := strings.HasPrefix(where, "matrix/cmd") || strings.HasPrefix(where, "commands/") &&
			!strings.HasPrefix(where, "commands/event.") && !strings.HasPrefix(where, "commands/handler.") && where != "commands/processor.handleCommand"
		if !inCommand && frameworkSpeaks[where] == "" {
			t.Errorf("the framework speaks in %s: what keeps that from people?", where)
		}
	}
	for where := range frameworkSpeaks {
		if !there[where] {
			t.Errorf("the framework does not speak in %s any more", where)
		}
	}
}

// speakersIn are the functions and commands of a file of the framework in which something is said to people.
func speakersIn(t *testing.T, path string) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		name := ""
		switch d := decl.(type) {
		case *ast.FuncDecl:
			name = d.Name.Name
		case *ast.GenDecl:
			if value, ok := d.Specs[0].(*ast.ValueSpec); ok {
				name = value.Names[0].Name
			}
		}
		speaks := false
		ast.Inspect(decl, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			called := ""
			switch f := call.Fun.(type) {
			case *ast.SelectorExpr:
				called = f.Sel.Name
			case *ast.Ident:
				called = f.Name
			}
			switch called {
			case "Reply", "ReplyAdvanced", "RenderMarkdown", "sendNotice", "sendErrorAndLeave", "SendText", "SendNotice", "rejectInvite":
				speaks = true
			}
			return true
		})
		if speaks {
			names = append(names, name)
		}
	}
	return names
}

func TestTheStateOfALoginIsSaidInThePersonsLanguage(t *testing.T) {
	w := newWorld(t)
	if err := w.connector.languages.choose(t.Context(), fakePerson, "de"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		state status.BridgeState
		want  string
	}{
		{status.BridgeState{StateEvent: status.StateConnected}, "**a_b** ist verbunden."},
		{status.BridgeState{StateEvent: status.StateBadCredentials, Message: words.For("de").Text("state.refused")}, "**a_b**: Der Dienst lehnt"},
		{status.BridgeState{StateEvent: status.StateUnknownError}, "**a_b** ist nicht verbunden."},
		{status.BridgeState{StateEvent: status.StateLoggedOut}, "**a_b** ist abgemeldet."},
		{status.BridgeState{StateEvent: status.StateConnecting}, "**a_b** wird verbunden."},
	} {
		x.state.UserID, x.state.RemoteName = fakePerson, "a_b"
		before := len(w.matrix.timeline())
		content := &event.Content{
			Parsed: event.MessageEventContent{MsgType: event.MsgNotice, Body: "State update for a_b"}, Raw: map[string]any{"fi.mau.bridge_state": x.state},
		}
		if _, err := w.connector.bridge.Bot.SendMessage(t.Context(), fakeRoom, event.EventMessage, content, nil); err != nil {
			t.Fatal(err)
		}
		said := w.matrix.timeline()[before:]
		if len(said) != 1 || !strings.Contains(body(said[0]), x.want) || said[0].Content["msgtype"] != "m.notice" {
			t.Errorf("%s: %q", x.state.StateEvent, body(said[0]))
		}
		if _, there := said[0].Content["fi.mau.bridge_state"]; !there {
			t.Error("what programs read is gone")
		}
	}
}
