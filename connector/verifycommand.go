package connector

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/skip2/go-qrcode"
	"maunium.net/go/mautrix/bridgev2/commands"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/e2ee"
	"postern/connector/interop"
	"postern/connector/matrixdurable"
	"postern/connector/words"
)

// verifyCommands show safety numbers, compare and confirm them, and take that back (PROTOCOL.md 6.14).
func verifyCommands(help words.Words) []commands.CommandHandler {
	section := commands.HelpSectionChats
	return []commands.CommandHandler{
		&commands.FullHandler{
			Func: verify, Name: "verify", RequiresLogin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.verify"), Args: help.Text("help.verify.args")},
		},
		&commands.FullHandler{
			Func: unverify, Name: "unverify", RequiresLogin: true,
			Help: commands.HelpMeta{Section: section, Description: help.Text("help.unverify"), Args: help.Text("help.unverify.args")},
		},
	}
}

// comparing is what a person wants of a safety number: to see it, to confirm it, or to have it compared with digits or with what they have
// scanned.
type comparing struct {
	who     []string
	confirm bool
	digits  string
	scanned []byte
}

// confirmWord is what is typed behind `verify` to confirm a number.
const confirmWord = "confirm"

const (
	// manyDigits is more than a phone number has: what is as long as that is meant as a safety number.
	manyDigits = 20
	// shortestScanned is the fewest characters of what is taken for scanned.
	shortestScanned = 90
)

// parseComparing takes apart what follows `verify`: whom it is about, and behind that what is wanted.
func parseComparing(args []string) comparing {
	c := comparing{who: args}
	if len(args) == 0 {
		return c
	}
	last := args[len(args)-1]
	if strings.EqualFold(last, confirmWord) {
		c.who, c.confirm = args[:len(args)-1], true
		return c
	}
	if len(last) >= shortestScanned {
		if raw := scannedBytes(last); raw != nil {
			c.who, c.scanned = args[:len(args)-1], raw
			return c
		}
	}
	if n, digits := typedDigits(args); n < len(args) {
		c.who, c.digits = args[:n], digits
	}
	return c
}

// digitGroup is a group of digits that was typed, and in which argument.
type digitGroup struct {
	digits string
	arg    int
}

// digitGroups are those at the end of what was typed, the last one first; they begin behind args[:n].
func digitGroups(args []string) (n int, groups []digitGroup) {
	n = len(args)
	for n > 0 {
		parts := strings.FieldsFunc(args[n-1], func(r rune) bool { return strings.ContainsRune("-–—,.;", r) })
		if strings.Trim(strings.Join(parts, ""), "0123456789") != "" {
			break
		}
		n--
		for _, part := range slices.Backward(parts) {
			groups = append(groups, digitGroup{part, n})
		}
	}
	return n, groups
}

// typedDigits finds a safety number, or a part of one, at the end of what was typed, however it is grouped: digits are those, and args[:n]
// is what stands before them. A phone number in groups may be that, or be all there is.
func typedDigits(args []string) (n int, digits string) {
	n, groups := digitGroups(args)
	fives := 0
	for fives < len(groups) && len(groups[fives].digits) == 5 {
		fives++
	}
	// take puts the last count groups together.
	take := func(count int) (int, string) {
		if count == 0 {
			return len(args), ""
		}
		var out strings.Builder
		for _, g := range slices.Backward(groups[:count]) {
			out.WriteString(g.digits)
		}
		return groups[count-1].arg, out.String()
	}
	// apart says whether the last count groups stand behind something else, or are all there is.
	apart := func(count int) bool {
		return count == len(groups) || n > 0 && groups[count].arg != groups[count-1].arg
	}
	for count := 1; count <= len(groups); count++ {
		if at, text := take(count); len(text) == e2ee.SafetyDigits && apart(count) {
			return at, text
		}
	}
	if fives > 0 && apart(fives) && (5*fives >= manyDigits || n == 0 && fives > 1) {
		return take(fives)
	}
	if at, text := take(len(groups)); len(text) >= manyDigits {
		return at, text
	}
	return len(args), ""
}

// scannedBytes reads what a scanner gave as text, hex or base64; nil if it is neither.
func scannedBytes(text string) []byte {
	if len(text) > 2*e2ee.MaxScanned {
		return nil
	}
	if raw, err := hex.DecodeString(text); err == nil {
		return raw
	}
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	if raw, err := base64.RawStdEncoding.DecodeString(text); err == nil {
		return raw
	}
	return nil
}

func verify(ce *commands.Event) {
	wish := parseComparing(ce.Args)
	ce.Args = wish.who
	who, ok := meant(ce, "verify.usage")
	if !ok {
		return
	}
	if wish.confirm {
		confirmSafety(ce, who)
		return
	}
	safety, err := who.client.account.Safety(ce.Ctx, who.chat)
	if err == nil && (wish.digits != "" || wish.scanned != nil) {
		err = who.client.compareSafety(ce, who, safety, wish)
	} else if err == nil {
		err = who.client.showSafety(ce, who, safety)
	}
	sayUnverifiable(ce, who, err)
}

// sayUnverifiable answers with why something about a safety number could not be done, if it could not.
func sayUnverifiable(ce *commands.Event, who counterpart, err error) {
	switch {
	case err == nil:
	case errors.Is(err, interop.ErrNoKey):
		reply(ce, "verify.no-key", "name", who.name)
	case errors.Is(err, interop.ErrNotShown):
		reply(ce, "verify.not-shown", "command", words.Markdown(who.command(ce, "verify")))
	default:
		who.client.log.Err(err).Str("chat", who.chat).Msg("Could not do something with a safety number")
		reply(ce, "error.bridge")
	}
}

// command is how a command about somebody is typed where ce was.
func (who counterpart) command(ce *commands.Event, command string) string {
	typed := ce.Bridge.Config.CommandPrefix + " " + command
	if who.room == ce.RoomID {
		return typed
	}
	if name := ce.Args; len(name) > 0 {
		typed += " " + strings.ReplaceAll(strings.Join(name, " "), "`", "")
	}
	return typed
}

// showSafety shows a safety number, its QR code, and how things stand.
func (c *client) showSafety(ce *commands.Event, who counterpart, safety interop.Safety) error {
	code, err := safetyCode(safety.Number)
	if err != nil {
		return err
	}
	if err = c.account.SafetyShown(ce.Ctx, who.chat, safety.Identity); err != nil {
		return err
	}
	state := "verify.is-not"
	switch {
	case safety.Confirmed:
		state = "verify.is"
	case safety.Held:
		state = "verify.is-held"
	}
	w := speakTo(ce)
	confirm, forget := who.command(ce, "verify")+" "+confirmWord, who.command(ce, "unverify")
	reply(ce, "verify.number", "name", who.name, "gatekeeper", c.profile.DisplayName, "digits", words.Markdown("```\n"+groups(safety.Number.Digits())+"\n```"),
		"state", words.Markdown(w.Text(state, "confirm", confirm, "unverify", forget)))
	return c.sendCode(ce.Ctx, ce.RoomID, code, w.Text("verify.code", "name", who.name))
}

// groups writes a safety number in three lines of four groups of five digits.
func groups(digits string) string {
	var out strings.Builder
	for i, digit := range digits {
		switch {
		case i > 0 && i%20 == 0:
			out.WriteByte('\n')
		case i > 0 && i%5 == 0:
			out.WriteByte(' ')
		}
		out.WriteRune(digit)
	}
	return out.String()
}

// codeSize is the width of a QR code's picture, in pixels.
const codeSize = 512

// safetyCode is the QR code of a safety number, a PNG.
func safetyCode(number e2ee.SafetyNumber) ([]byte, error) {
	code, err := qrcode.New(string(number.Scannable()), qrcode.Medium)
	if err != nil {
		return nil, err
	}
	return code.PNG(codeSize)
}

// sendCode puts the picture of a QR code into a room.
func (c *client) sendCode(ctx context.Context, room id.RoomID, code []byte, caption string) error {
	const name, mimetype = "safety-number.png", "image/png"
	uploaded, err := c.connector.uploadBytes(ctx, room, c.connector.matrix.Bot.UserID, code, mimetype, name, false)
	if err != nil {
		return err
	}
	content := &event.MessageEventContent{
		MsgType: event.MsgImage, Body: caption, FileName: name, URL: uploaded.URL, File: uploaded.File,
		Info: &event.FileInfo{MimeType: mimetype, Size: len(code), Width: codeSize, Height: codeSize}, Mentions: &event.Mentions{},
	}
	_, err = c.connector.bridge.Bot.SendMessage(ctx, room, event.EventMessage, &event.Content{Parsed: content}, nil)
	return err
}

// compareSafety compares a safety number with what the person has from the other side. One that is the same has been seen.
func (c *client) compareSafety(ce *commands.Event, who counterpart, safety interop.Safety, wish comparing) error {
	equal := wish.digits == safety.Number.Digits()
	if wish.scanned != nil {
		var err error
		equal, err = safety.Number.Compare(wish.scanned)
		switch {
		case errors.Is(err, e2ee.ErrScannedVersion):
			reply(ce, "verify.other-version")
			return nil
		case err != nil:
			reply(ce, "verify.not-a-code")
			return nil
		}
	} else if len(wish.digits) != e2ee.SafetyDigits {
		reply(ce, "verify.not-complete", "n", len(wish.digits), "wanted", e2ee.SafetyDigits)
		return nil
	}
	if !equal {
		reply(ce, "verify.different", "name", who.name, "gatekeeper", c.profile.DisplayName)
		return nil
	}
	if safety.Confirmed {
		reply(ce, "verify.equal-confirmed")
		return nil
	}
	if err := c.account.SafetyShown(ce.Ctx, who.chat, safety.Identity); err != nil {
		return err
	}
	reply(ce, "verify.equal", "confirm", words.Markdown(who.command(ce, "verify")+" "+confirmWord))
	return nil
}

// confirmSafety notes that a person has compared the number they were shown.
func confirmSafety(ce *commands.Event, who counterpart) {
	c := who.client
	changed, err := c.settleSafety(ce, who, "verify.notice", c.account.ConfirmSafety)
	switch {
	case err != nil:
		sayUnverifiable(ce, who, err)
	case !changed:
		reply(ce, "verify.already", "name", who.name)
	case who.room == ce.RoomID: // where the notice is
	default:
		reply(ce, "verify.done", "name", who.name)
	}
}

func unverify(ce *commands.Event) {
	who, ok := meant(ce, "unverify.usage")
	if !ok {
		return
	}
	c := who.client
	changed, err := c.settleSafety(ce, who, "verify.notice-ended", c.account.ForgetSafety)
	switch {
	case err != nil:
		sayUnverifiable(ce, who, err)
	case !changed:
		reply(ce, "verify.not-verified", "name", who.name)
	case who.room == ce.RoomID: // where the notice is
	default:
		reply(ce, "verify.ended", "name", who.name)
	}
}

// settleSafety stores what a person has decided about a safety number, together with the notice for the chat's room.
func (c *client) settleSafety(ce *commands.Event, who counterpart, key string,
	settle func(ctx context.Context, chat string, and func(ctx context.Context) error) (bool, error)) (changed bool, err error) {
	kind := "safety " + string(c.login.ID) + " " + who.chat + " " + ce.EventID.String()
	text := c.words().Text(key, "prefix", ce.Bridge.Config.CommandPrefix)
	changed, err = settle(ce.Ctx, who.chat, func(ctx context.Context) error {
		if who.room == "" {
			return nil
		}
		notice, err := matrixdurable.ReplyNotice(kind, who.room, "", c.login.UserMXID, text)
		if err != nil {
			return err
		}
		return c.connector.stack.Notices.Add(ctx, notice)
	})
	c.connector.stack.Notices.Wake()
	return changed, err
}

// heldNotice is what the room reads of a message that waits for a new key to be confirmed: one notice for each key, and one more when the
// person has looked or decided in between. ok is false if the message does not wait.
func (c *client) heldNotice(ctx context.Context, out interop.Outgoing) (notice matrixdurable.Notice, ok bool, err error) {
	identity, decided, held, err := c.account.Held(ctx, out.Chat)
	if err != nil || !held {
		return notice, false, err
	}
	notice, err = matrixdurable.ReplyNotice("held", id.RoomID(out.RoomID), id.EventID(out.EventID), c.login.UserMXID,
		c.words().Text("chat.held", "prefix", c.connector.bridge.Config.CommandPrefix))
	sum := sha256.Sum256(identity[:])
	notice.ID = matrixdurable.Identity("held", string(c.login.ID), out.Chat, hex.EncodeToString(sum[:]), strconv.FormatInt(decided, 10))
	return notice, err == nil, err
}
