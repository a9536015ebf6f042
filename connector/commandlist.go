package connector

import (
	"slices"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/commands"

	"postern/connector/matrixdurable"
	"postern/connector/words"
)

// command is a command as people here meet it: who may type it is said in their language.
type command struct {
	*commands.FullHandler
}

// Reasons for which a command is not carried out.
const (
	mayRun       = ""
	adminsOnly   = "command.admins-only"
	mayNotJoin   = "command.may-not-join"
	notLoggedIn  = "error.not-logged-in"
	inChatsOnly  = "command.in-chats-only"
	notPossible  = "command.none"
	helpCommands = "help."
)

// verdict says whether somebody may run the command where they typed it, or the key of the words that say why not.
func (h *command) verdict(ce *commands.Event) string {
	switch {
	case h.RequiresAdmin && !ce.User.Permissions.Admin:
		return adminsOnly
	case h.RequiresLoginPermission && !ce.User.Permissions.Login:
		return mayNotJoin
	case h.RequiresLogin && ce.User.GetDefaultLogin() == nil:
		return notLoggedIn
	case h.RequiresPortal && ce.Portal == nil:
		return inChatsOnly
	}
	return mayRun
}

// everywhere are the commands that every instance carries out for everybody.
var everywhere = []string{"version", "language", "cancel"}

// Run implements commands.MinimalCommandHandler.
func (h *command) Run(ce *commands.Event) {
	if c, ok := ce.Bridge.Network.(*Connector); ok && !h.RequiresAdmin && !slices.Contains(everywhere, h.Name) {
		if err := c.belongsElsewhere(ce.Ctx, ce.User.MXID, speakTo(ce)); err != nil {
			ce.ReplyAdvanced(err.Error(), true, false)
			return
		}
	}
	if why := h.verdict(ce); why != mayRun {
		ce.ReplyAdvanced(strings.ReplaceAll(speakTo(ce).Text(why), "$cmdprefix", ce.Bridge.Config.CommandPrefix), true, false)
		return
	}
	if c, ok := ce.Bridge.Network.(*Connector); ok && !h.RequiresAdmin {
		if text := c.maintenanceWords(speakTo(ce)); text != "" {
			sayPlain(ce, text)
		}
	}
	if h.RequiresAdmin && !h.noted(ce) {
		reply(ce, "error.bridge")
		return
	}
	h.Func(ce)
}

// shownTo says whether help names the command to somebody: what they may do, or may do once they have joined.
func (h *command) shownTo(user *bridgev2.User) bool {
	switch {
	case h.RequiresAdmin && !user.Permissions.Admin:
		return false
	case (h.RequiresLoginPermission || h.RequiresLogin) && !user.Permissions.Login:
		return !h.RequiresLoginPermission && user.GetDefaultLogin() != nil
	}
	return true
}

// passed are the commands that package matrixdurable adds: what help says of them, and whom they are for.
var passed = []*commands.FullHandler{
	{Name: "discard-megolm-session", Aliases: []string{"discard-session"}, RequiresAdmin: true},
}

// refusedCommands are those of the framework that do nothing here, each with the command that people may have been looking for. What makes
// chats of rooms, gives power in them or lets somebody write in another's name is among them; and so are sudo and doin, because what
// somebody agrees to or decides is theirs alone.
var refusedCommands = map[string]string{
	"relogin": "login", "resolve-identifier": "start-chat", "search": "start-chat", "create-portal": "start-chat", "create-group": "start-chat",
	"bridge": "start-chat", "delete-chat": "decline", "unbridge": "logout", "sync-portal": "status", "debug-reset-network": "status", "id": "status",
	"mute": "", "filter": "", "set-relay": "", "unset-relay": "", "debug-register-push": "", "debug-account-data": "", "delete-all-portals": "",
	"import-image-pack": "", "sudo": "", "doin": "", "set-pl": "",
	matrixdurable.UnknownCommand: "",
}

// knownCommand says whether there is a command of that name, or a refusal of it. Other names of those that are refused are like names that
// nobody has heard of.
func (c *Connector) knownCommand(name string) bool {
	_, refused := refusedCommands[name]
	return refused || slices.ContainsFunc(c.commands, func(h *command) bool { return h.Name == name || slices.Contains(h.Aliases, name) })
}

// refusedCommand takes the place of a command that does nothing here.
func refusedCommand(name, instead string) commands.CommandHandler {
	return &commands.FullHandler{
		Name: name,
		Func: func(ce *commands.Event) {
			if instead == "" {
				reply(ce, "command.none")
				return
			}
			reply(ce, "command.none-but", "instead", words.Markdown(instead))
		},
	}
}

// addCommands puts all commands in place: ours, those of the framework that make sense here, and refusals for its others.
func (c *Connector) addCommands(processor *commands.Processor) {
	help := c.standardWords()
	c.addCommand(processor,
		logoutCommand(help), exportCommand(help), startChatCommand(help), readReceiptsCommand(help), retryMediaCommand(help), languageCommand(help),
		statusCommand(help), consentCommand(help), assignIdentifierCommand(help), regionCommand(help),
		requestsCommand(help), acceptCommand(help), declineCommand(help))
	c.addCommand(processor, append(blockCommands(help), reportCommand(help))...)
	c.addCommand(processor, suspendCommands(help)...)
	c.addCommand(processor, adminCommand(help))
	c.addCommand(processor, verifyCommands(help)...)
	helping := *commands.CommandHelp
	helping.Func = c.sayHelp
	c.addCommand(processor, &helping, cancelCommand(), loginCommand(), listLoginsCommand(help), versionCommand(c.version, c.built))
	c.addCommand(processor, append(roomCommands(), puppetCommands()...)...)
	for _, h := range passed {
		c.commands = append(c.commands, &command{h})
	}
	for name, instead := range refusedCommands {
		processor.AddHandler(refusedCommand(name, instead))
	}
}

// addCommand adds commands that people may type.
func (c *Connector) addCommand(processor *commands.Processor, handlers ...commands.CommandHandler) {
	for _, handler := range handlers {
		full, ok := handler.(*commands.FullHandler)
		if !ok {
			continue // there is no other kind; a test compares what the processor has with this list
		}
		own := *full // the framework's are the same for all bridges
		h := &command{&own}
		c.commands = append(c.commands, h)
		processor.AddHandler(h)
	}
}

// helpSections are the parts of help in order, each with its commands in order. What is in none of them stands at the end of that which its
// own section means.
var helpSections = []struct {
	name     string
	commands []string
	takes    []commands.HelpSection
}{
	{"join", []string{"login", "consent", "region", "status", "list-logins", "set-preferred-login", "export", "logout"}, []commands.HelpSection{commands.HelpSectionAuth}},
	{"people", []string{"requests", "accept", "decline", "block", "unblock", "blocked", "report", "verify", "unverify"}, nil},
	{"chats", []string{"start-chat", "retry-media", "read-receipts"}, []commands.HelpSection{commands.HelpSectionChats}},
	{
		"bot", []string{"help", "language", "cancel", "set-management-room", "login-matrix", "ping-matrix", "logout-matrix", "version"},
		[]commands.HelpSection{commands.HelpSectionGeneral, commands.HelpSectionMisc, {}},
	},
	{"admin", []string{"admin", "assign-identifier", "suspend", "unsuspend", "suspended", "delete-portal", "discard-megolm-session"}, []commands.HelpSection{commands.HelpSectionAdmin}},
}

// sectionOf says where help has a command: the section, and the place in it.
func sectionOf(h *command) (section, place int) {
	for i, s := range helpSections {
		if at := slices.Index(s.commands, h.Name); at >= 0 {
			return i, at
		}
	}
	for i, s := range helpSections {
		if slices.Contains(s.takes, h.Help.Section) {
			return i, len(s.commands)
		}
	}
	return len(helpSections) - 1, len(helpSections[len(helpSections)-1].commands)
}

// line is what help says of a command.
func (h *command) line(w words.Words) string {
	what, args := h.Help.Description, h.Help.Args
	if w.Has(helpCommands + h.Name) {
		what = w.Text(helpCommands + h.Name)
	}
	if w.Has(helpCommands + h.Name + ".args") {
		args = w.Text(helpCommands + h.Name + ".args")
	}
	if args != "" {
		args = " " + args
	}
	return "* **" + h.Name + "**" + args + " – " + what
}

// sayHelp is the command help: how to begin, and then what whoever asks may do; with a command's name, what that one does.
func (c *Connector) sayHelp(ce *commands.Event) {
	w := speakTo(ce)
	if len(ce.Args) > 0 {
		name := strings.ToLower(strings.Trim(ce.Args[0], "`*"))
		for _, h := range c.commands {
			if (h.Name == name || slices.Contains(h.Aliases, name)) && h.shownTo(ce.User) {
				ce.ReplyAdvanced(h.line(w)+"\n\n"+w.Text("help.brackets"), true, false)
				return
			}
		}
		reply(ce, "command.none")
		return
	}
	ce.ReplyAdvanced(c.help(w, ce.User, c.helpWhere(w, ce)), true, false)
}

// helpWhere says how commands are typed in the room.
func (c *Connector) helpWhere(w words.Words, ce *commands.Event) string {
	prefix := ce.Bridge.Config.CommandPrefix
	switch {
	case ce.RoomID == ce.User.ManagementRoom:
		return w.Text("help.where-home")
	case ce.Portal != nil:
		return w.Text("help.where-chat", "prefix", prefix)
	}
	return w.Text("help.where-other", "prefix", prefix)
}

// help is the whole text.
func (c *Connector) help(w words.Words, user *bridgev2.User, where string) string {
	var out strings.Builder
	names, first := c.enabledNames()
	begin := w.Text("help.may-not-join", "contact", c.contact(w))
	if user.Permissions.Login || user.GetDefaultLogin() != nil {
		begin = w.Text("help.begin", "gatekeeper", first)
	}
	out.WriteString(w.Text("help.intro", "gatekeepers", names) + " " + where + "\n\n" + begin + "\n\n" + w.Text("help.brackets") + "\n")
	sections := make([][]*command, len(helpSections))
	places := map[*command]int{}
	for _, h := range c.commands {
		if h.shownTo(user) {
			at, place := sectionOf(h)
			sections[at], places[h] = append(sections[at], h), place
		}
	}
	for i, list := range sections {
		if len(list) == 0 {
			continue
		}
		slices.SortStableFunc(list, func(a, b *command) int {
			if places[a] != places[b] {
				return places[a] - places[b]
			}
			return strings.Compare(a.Name, b.Name)
		})
		out.WriteString("\n#### " + w.Text("help.section."+helpSections[i].name) + "\n")
		for _, h := range list {
			out.WriteString(h.line(w) + "\n")
		}
	}
	return out.String()
}

// enabledNames are the gatekeepers that can be joined, as people call them, and the first one as `login` does.
func (c *Connector) enabledNames() (names, first string) {
	var all []string
	for _, flow := range c.GetLoginFlows() {
		if first == "" {
			first = flow.ID
		}
		all = append(all, gatekeeperName(flow.ID))
	}
	return strings.Join(all, ", "), first
}
