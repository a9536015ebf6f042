package connector

import (
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/words"
)

// loginCommand takes the place of the framework's, which speaks English and takes an agreement that is typed behind `login`, unread.
func loginCommand() *commands.FullHandler {
	command := *commands.CommandLogin
	command.Func = beginLogin
	return &command
}

// cancelCommand takes the place of the framework's.
func cancelCommand() *commands.FullHandler {
	command := *commands.CommandCancel
	command.Func = cancelLogin
	return &command
}

// talking is a login that waits for what its person types next: fields has what is still to ask in this step, given what was answered.
type talking struct {
	login  bridgev2.LoginProcess
	fields []bridgev2.LoginInputDataField
	given  map[string]string
}

func beginLogin(ce *commands.Event) {
	switch {
	case ce.User.HasTooManyLogins():
		reply(ce, "login.too-many", "n", ce.User.Permissions.MaxLogins)
		return
	case commands.LoadCommandState(ce.User) != nil:
		reply(ce, "login.ongoing")
		return
	}
	flow := chosenFlow(ce)
	if flow == "" {
		return
	}
	if !ce.Sudo && ce.RoomID != ce.User.ManagementRoom {
		reply(ce, "login.prefix")
	}
	login, err := ce.Bridge.Network.CreateLogin(ce.Ctx, ce.User, flow)
	if err != nil {
		ce.Log.Err(err).Msg("Could not begin a login")
		reply(ce, "error.bridge")
		return
	}
	step, err := login.Start(ce.Ctx)
	(&talking{login: login}).goOn(ce, step, err)
}

// chosenFlow is the service that was named behind `login`, or the only one; "" after an answer that says which there are.
func chosenFlow(ce *commands.Event) string {
	flows := ce.Bridge.Network.GetLoginFlows()
	lines := make([]string, len(flows))
	for i, flow := range flows {
		lines[i] = "* `" + flow.ID + "` – " + gatekeeperName(flow.ID)
	}
	services := words.Markdown(strings.Join(lines, "\n"))
	switch {
	case len(flows) == 0:
		reply(ce, "login.no-service")
	case len(ce.Args) > 1:
		reply(ce, "login.one-word", "service", ce.Args[0])
	case len(ce.Args) == 0 && len(flows) == 1:
		return flows[0].ID
	case len(ce.Args) == 0:
		reply(ce, "login.which", "services", services)
	default:
		for _, flow := range flows {
			if flow.ID == strings.ToLower(ce.Args[0]) {
				return flow.ID
			}
		}
		reply(ce, "login.unknown-service", "services", services)
	}
	return ""
}

// goOn says what the next step says, and asks for what it needs. A login that fails is over, and nothing of it is kept.
func (t *talking) goOn(ce *commands.Event, step *bridgev2.LoginStep, err error) {
	if err != nil {
		t.login.Cancel()
		reply(ce, "login.failed", "why", words.Markdown(toldWords(err)))
		return
	}
	if step.Instructions != "" {
		ce.ReplyAdvanced(strings.ReplaceAll(step.Instructions, "$cmdprefix", ce.Bridge.Config.CommandPrefix), true, false)
	}
	switch step.Type {
	case bridgev2.LoginStepTypeComplete:
	case bridgev2.LoginStepTypeUserInput:
		t.fields, t.given = step.UserInputParams.Fields, map[string]string{}
		t.ask(ce)
	default: // to show something and wait, to bring cookies: no login here has such a step
		t.login.Cancel()
		ce.Log.Error().Str("type", string(step.Type)).Msg("A login has a step that cannot be typed")
		reply(ce, "login.not-typed")
	}
}

// ask says what is wanted next. The one state of a person's commands is stored before that, so that no answer is too quick for it.
func (t *talking) ask(ce *commands.Event) {
	commands.StoreCommandState(ce.User, &commands.CommandState{Next: commands.MinimalCommandHandlerFunc(t.take), Action: "login", Cancel: t.login.Cancel})
	field, w := t.fields[0], speakTo(ce)
	lines := []string{w.Text("login.ask", "field", field.Name)}
	if field.Description != "" {
		lines = append(lines, field.Description)
	}
	if len(field.Options) > 0 {
		lines = append(lines, w.Text("login.options", "options", "`"+strings.Join(field.Options, "`, `")+"`"))
	}
	ce.ReplyAdvanced(strings.Join(lines, "\n"), true, false)
}

// take is what a person types within a login.
func (t *talking) take(ce *commands.Event) {
	field := t.fields[0]
	field.FillDefaultValidate()
	switch field.Type {
	case bridgev2.LoginInputFieldTypePassword, bridgev2.LoginInputFieldTypeToken:
		ce.Redact()
	}
	answer, err := field.Validate(ce.RawArgs)
	if err != nil {
		reply(ce, "login.not-valid", "why", words.Markdown(toldWords(err)))
		return
	}
	if commands.SwapCommandState(ce.User, nil) == nil {
		return // another answer was quicker, or a cancel
	}
	t.given[field.ID], t.fields = answer, t.fields[1:]
	if len(t.fields) > 0 {
		t.ask(ce)
		return
	}
	taking, ok := t.login.(bridgev2.LoginProcessUserInput)
	if !ok {
		t.login.Cancel()
		reply(ce, "login.not-typed")
		return
	}
	step, err := taking.SubmitUserInput(ce.Ctx, t.given)
	t.goOn(ce, step, err)
}

func cancelLogin(ce *commands.Event) {
	state := commands.SwapCommandState(ce.User, nil)
	if state == nil {
		reply(ce, "login.none-to-cancel")
		return
	}
	if state.Cancel != nil {
		state.Cancel()
	}
	reply(ce, "login.cancelled")
}
