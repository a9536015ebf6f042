package database_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

// moveWorld is two instances' databases, and what they share.
type moveWorld struct {
	*testing.T
	configs [2]database.Config
	db      [2]*database.DB
	shared  *database.Shared
}

func newMoveWorld(t *testing.T) *moveWorld {
	t.Helper()
	uri := databasetest.PostgresConfig(t).URI
	w := &moveWorld{T: t}
	for i, name := range []string{"east", "west"} {
		w.configs[i] = database.Config{
			Dialect: "postgres", URI: databasetest.Schema(t, uri, name), MasterKey: [database.KeySize]byte{byte(i + 1)}, Holder: name, Instance: &name,
			EpochFile: filepath.Join(t.TempDir(), "epoch"),
		}
	}
	w.open()
	for _, db := range w.db { // what our tables refer to of the framework's
		_, err := db.Raw().Exec(t.Context(), "CREATE TABLE portal (mxid TEXT, receiver TEXT)")
		w.ok(err)
	}
	var err error
	w.shared, err = openShared(t, uri, 7)
	w.ok(err)
	t.Cleanup(w.close)
	return w
}

func (w *moveWorld) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *moveWorld) open() {
	w.Helper()
	for i := range w.db {
		var err error
		w.db[i], err = database.Open(w.Context(), w.configs[i])
		w.ok(err)
	}
}

func (w *moveWorld) close() {
	for i, db := range w.db {
		if err := db.Close(); err != nil {
			w.Error(i, err)
		}
	}
}

func (w *moveWorld) move(mxid string) *database.UserMove {
	return &database.UserMove{From: w.db[0], To: w.db[1], Shared: w.shared, FromName: "east", ToName: "west", MXID: mxid}
}

// person makes somebody at the first instance who has a chat, and something in everything that is sealed.
func (w *moveWorld) person(id string) (chat *database.Chat) {
	w.Helper()
	ctx, db := w.Context(), w.db[0]
	mxid := "@" + id + ":example.org"
	putAccount(w.T, db, id)
	account, err := db.Accounts().Get(ctx, id)
	w.ok(err)
	account.MXID, account.Identifier, account.Login = mxid, id, "7-"+id+"@interop"
	w.ok(db.Accounts().Put(ctx, account))
	_, err = w.shared.Claim(ctx, mxid, "east")
	w.ok(err)
	contact, err := db.Contacts().Ensure(ctx, account.Gatekeeper, "carla@lid")
	w.ok(err)
	contact.Phone, contact.Name = "+4915100", "Carla"
	w.ok(db.Contacts().Update(ctx, contact))
	chat, err = db.Chats().Ensure(ctx, id, contact.ID)
	w.ok(err)
	w.ok(db.Consents().Add(ctx, &database.Consent{AccountID: id, At: 5, Wording: "w", Document: []byte("agreed")}))
	w.ok(db.ChatRooms().Put(ctx, &database.ChatRoom{ChatID: chat.ID, RoomID: "!" + id, Title: "title"}))
	queue := db.Queue(id)
	w.ok(queue.InsertIn(ctx, &database.QueueIn{ChatID: chat.ID, ItemID: "in", Seq: 1, Kind: "message", Payload: []byte("come in"), Notify: "Carla"}))
	w.ok(queue.InsertOut(ctx, []*database.QueueOut{
		{StanzaID: "out " + id, Seq: 2, ChatID: chat.ID, EventID: "$out", RoomID: "!" + id, Parts: 1, Type: "text", Plaintext: []byte("go out"), Fallback: []byte("or so")},
		{StanzaID: "file " + id, Seq: 3, ChatID: chat.ID, EventID: "$file", RoomID: "!" + id, Parts: 1, Type: "media", Recipe: []byte("how")},
	}))
	_, err = queue.SetStanzaOut(ctx, "out "+id, []byte("stanza"), 9)
	w.ok(err)
	w.ok(db.IncomingMedia().Put(ctx, &database.IncomingMedia{ChatID: chat.ID, MessageID: "m", AccountID: id, Payload: []byte("media key"), Expires: 1 << 50}))
	w.ok(db.Signal(id).PutPreKeys(ctx, []database.PreKey{{ID: 7, Record: []byte("seven")}, {ID: 8, Record: []byte("eight")}}))
	w.ok(db.Signal(id).MarkPreKeysUploaded(ctx, []uint32{7}))
	w.ok(db.Signal(id).PutSignedPreKey(ctx, database.PreKey{ID: 3, Record: []byte("signed"), CreatedAt: 4}))
	w.ok(db.Signal(id).Apply(ctx, database.SignalChange{Addr: "carla.0", Session: []byte("session"), Identity: make([]byte, 32)}, nil))
	_, err = db.Signal(id).ReservePreKeyIDs(ctx, 100)
	w.ok(err)
	_, err = db.Raw().Exec(ctx, "INSERT INTO portal VALUES ($1, $2)", "!"+id, id)
	w.ok(err)
	w.ok(db.Notices().Add(ctx, &database.Notice{ID: "notice " + id, RoomID: "!" + id, Content: []byte("about to be said")}))
	return chat
}

// TestEveryTableMovesOrStaysForAReason reads the schema: what a later version adds has to be decided upon.
func TestEveryTableMovesOrStaysForAReason(t *testing.T) {
	moved, left := database.MoveDecisions()
	tables := databasetest.Open(t, databasetest.SQLiteConfig(t)).Raw()
	rows, err := tables.Query(t.Context(), "SELECT name FROM sqlite_master WHERE type='table' AND name LIKE 'postern_%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		seen++
		if moves, stays := slices.Contains(moved, name), left[name] != ""; moves == stays {
			t.Errorf("%s moves: %v, stays: %v", name, moves, stays)
		}
	}
	if err := rows.Err(); err != nil || seen != len(moved)+len(left) {
		t.Errorf("%d tables, %d are decided upon, %v", seen, len(moved)+len(left), err)
	}
}

// TestAUserWhoIsMovedHasEverythingAtTheOtherInstanceAndNothingIsLeft moves one of two users, whose contact the other instance knows by another id.
func TestAUserWhoIsMovedHasEverythingAtTheOtherInstanceAndNothingIsLeft(t *testing.T) {
	w := newMoveWorld(t)
	ctx := t.Context()
	chat := w.person("anna")
	w.person("ben")
	known, err := w.db[1].Contacts().Ensure(ctx, "whatsapp", "carla@lid")
	w.ok(err)

	broken := errors.New("broken off")
	if err := w.move("@anna:example.org").Copy(ctx, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if home, err := w.shared.Home(ctx, "@anna:example.org"); err != nil || home.Instance != "east" {
		t.Fatalf("what was broken off has moved somebody: %+v, %v", home, err)
	}
	m := w.move("@anna:example.org")
	w.ok(m.Copy(ctx, nil))
	if home, err := w.shared.Home(ctx, "@anna:example.org"); err != nil || home.Instance != "west" || !home.Account {
		t.Fatalf("they belong to %+v, %v", home, err)
	}
	if err := w.move("@anna:example.org").Copy(ctx, nil); !errors.Is(err, database.ErrMoveHome) {
		t.Errorf("moved twice: %v", err)
	}
	w.ok(m.Forget(ctx, nil))
	w.close()
	w.open() // with epoch files: an old copy would be noticed
	w.isThere(chat, known.ID)
	w.isGone()

	// When they leave, the old instance is told whose files it still has.
	gone := func(instance string) string {
		t.Helper()
		accounts, err := w.shared.GoneFrom(ctx, instance)
		w.ok(err)
		return strings.Join(accounts, " ")
	}
	w.ok(w.shared.Gone(ctx, "ben"))
	if got := gone("east"); got != "" {
		t.Errorf("gone are %q", got)
	}
	w.ok(w.shared.Gone(ctx, "anna"))
	if got := gone("east") + gone("west"); got != "anna" {
		t.Errorf("gone are %q", got)
	}
	w.ok(w.shared.ForgetGone(ctx, "anna", "east"))
	if got := gone("east"); got != "" {
		t.Errorf("gone are still %q", got)
	}
}

// isThere looks for all of anna's at the second instance.
func (w *moveWorld) isThere(chat *database.Chat, contact string) {
	w.Helper()
	ctx, db := w.Context(), w.db[1]
	account, err := db.Accounts().ByIdentifier(ctx, "whatsapp", "anna")
	w.ok(err)
	if account == nil || account.ID != "anna" || len(account.NoiseKey) == 0 || len(account.HMACKey) == 0 {
		w.Fatalf("the account is %+v", account)
	}
	there, err := db.Chats().ByContact(ctx, "anna", contact)
	w.ok(err)
	if there == nil || there.ID != chat.ID {
		w.Fatalf("the chat is %+v", there)
	}
	texts := map[string]string{}
	list, err := db.Queue("anna").PendingIn(ctx, chat.ID, 0, 9)
	w.ok(err)
	for _, in := range list {
		texts["in"] += string(in.Payload) + in.Notify
	}
	for _, id := range []string{"out anna", "file anna"} {
		out, err := db.Queue("anna").Out(ctx, id)
		w.ok(err)
		texts[id] = strings.Join([]string{string(out.Plaintext), string(out.Fallback), string(out.Stanza), string(out.Recipe)}, "|")
	}
	media, err := db.IncomingMedia().Get(ctx, chat.ID, "m")
	w.ok(err)
	texts["media"] = string(media.Payload)
	room, err := db.ChatRooms().Get(ctx, chat.ID)
	w.ok(err)
	texts["title"] = room.Title
	documents, err := db.Consents().Documents(ctx, "anna")
	w.ok(err)
	for _, d := range documents {
		texts["consent"] += string(d)
	}
	notices, err := db.Notices().Waiting(ctx, 9)
	w.ok(err)
	for _, n := range notices {
		texts["notice"] += string(n.Content)
	}
	signal := db.Signal("anna")
	session, old, err := signal.LoadSession(ctx, "carla.0")
	w.ok(err)
	texts["session"] = string(session)
	if old {
		w.Error("nothing is encrypted in the session any more")
	}
	key, err := signal.LoadPreKey(ctx, 8)
	w.ok(err)
	signed, err := signal.LoadSignedPreKey(ctx, 3)
	w.ok(err)
	texts["keys"] = string(key) + string(signed)
	for what, want := range map[string]string{
		"in": "come inCarla", "out anna": "go out|or so|stanza|", "file anna": "|||how", "media": "media key", "title": "title", "consent": "agreed",
		"notice": "about to be said", "session": "session", "keys": "eightsigned",
	} {
		if texts[what] != want {
			w.Errorf("%s is %q, want %q", what, texts[what], want)
		}
	}
	if all, uploaded, err := signal.CountPreKeys(ctx); err != nil || all != 2 || uploaded != 1 {
		w.Errorf("%d prekeys, %d uploaded, %v", all, uploaded, err)
	}
	if next, err := signal.ReservePreKeyIDs(ctx, 1); err != nil || next != 101 {
		w.Errorf("the next prekey is %d, %v", next, err)
	}
	for i, db := range w.db {
		if err := db.CheckRows(ctx); err != nil {
			w.Error(i, err)
		}
		if renewal, err := db.Signal([]string{"ben", "anna"}[i]).Renewal(ctx); err != nil || renewal.Keys != "" || renewal.Untold != "" {
			w.Errorf("instance %d: %+v, %v", i, renewal, err)
		}
	}
}

// isGone looks for what the first instance has: ben's, and nothing of anna's.
func (w *moveWorld) isGone() {
	w.Helper()
	ctx := w.Context()
	all, err := w.db[0].Accounts().All(ctx)
	w.ok(err)
	if len(all) != 1 || all[0].ID != "ben" {
		w.Errorf("accounts: %d", len(all))
	}
	for table, lines := range databasetest.Contents(w, w.db[0].Raw()) {
		for _, line := range lines {
			if strings.Contains(line, "anna") && table != "portal" && table != "postern_notice" {
				w.Errorf("%s has %s", table, line)
			}
		}
	}
	if contact, err := w.db[0].Contacts().ByJID(ctx, "whatsapp", "carla@lid"); err != nil || contact == nil {
		w.Errorf("ben's contact is gone: %v", err)
	}
}

// TestAnOldSessionStaysOldAtTheOtherInstance: nothing is encrypted in it there either.
func TestAnOldSessionStaysOldAtTheOtherInstance(t *testing.T) {
	w := newMoveWorld(t)
	w.person("anna")
	w.close()
	w.configs[0].EpochFile += " that is gone"
	w.open()
	w.ok(w.move("@anna:example.org").Copy(t.Context(), nil))
	if session, old, err := w.db[1].Signal("anna").LoadSession(t.Context(), "carla.0"); err != nil || !old || string(session) != "session" {
		t.Errorf("%q, old: %v, %v", session, old, err)
	}
	if renewal, err := w.db[1].Signal("anna").Renewal(t.Context()); err != nil || renewal.Keys == "" || renewal.Untold == "" {
		t.Errorf("what is to be done about that is forgotten: %+v, %v", renewal, err)
	}
}

// TestTheJournalOfARoomGoesBehindWhatTheOtherInstanceHas: what is handled stays handled, what waits waits once, in order.
func TestTheJournalOfARoomGoesBehindWhatTheOtherInstanceHas(t *testing.T) {
	w := newMoveWorld(t)
	ctx := t.Context()
	w.person("anna")
	event := func(id, body string) database.JournalEvent {
		return database.JournalEvent{Kind: "room", EventID: id, RoomID: "!anna", Body: []byte(body)}
	}
	stored, _, err := w.db[0].Journal().Accept(ctx, "1", []database.JournalEvent{event("$done", "1"), event("$ours", "ours"), event("$first", "2"), event("$second", "3")})
	w.ok(err)
	w.ok(w.db[0].Journal().Finish(ctx, []int64{stored[0].Seq}))
	// The other bot was in the room before, when there was no chat for it.
	other, _, err := w.db[1].Journal().Accept(ctx, "2", []database.JournalEvent{event("$second", "3"), event("$done", "1"), {Kind: "room", EventID: "$x", RoomID: "!x", Body: []byte("x")}})
	w.ok(err)
	w.ok(w.db[1].Journal().Finish(ctx, []int64{other[0].Seq}))
	m := w.move("@anna:example.org")
	w.ok(m.Copy(ctx, func(ctx context.Context) error {
		n, err := m.CopyJournal(ctx, "!anna", func(body []byte) bool { return string(body) == "ours" })
		if n != 2 {
			t.Errorf("%d wait", n)
		}
		return err
	}))
	waiting, err := w.db[1].Journal().Unfinished(ctx)
	w.ok(err)
	got := ""
	for _, e := range waiting {
		body, err := w.db[1].Journal().Load(ctx, e.Seq)
		w.ok(err)
		got += e.EventID + " " + string(body) + " "
	}
	if got != "$x x $first 2 $second 3 " {
		t.Errorf("what waits is %s", got)
	}
}

// TestEverySealedColumnThatMovesIsSealedAnew: a column that is not on the list would not open at the other instance.
func TestEverySealedColumnThatMovesIsSealedAnew(t *testing.T) {
	moved := database.MoveSealed()
	for table, columns := range map[string]string{
		"postern_account": "identifier noise_key device hmac_key", "postern_out": "plaintext stanza recipe fallback", "postern_in": "payload",
		"postern_incoming_media": "payload", "postern_verified": "keys", "postern_region": "country", "postern_assigned": "identifier",
		"postern_chat_room": "title", "postern_consent": "document", "postern_notice": "content",
	} {
		for _, column := range strings.Fields(columns) {
			if !slices.Contains(moved, table+"."+column) {
				t.Errorf("%s.%s moves as it is", table, column)
			}
			moved = slices.DeleteFunc(moved, func(name string) bool { return name == table+"."+column })
		}
	}
	if len(moved) > 0 {
		t.Errorf("%q are not known to be sealed", moved)
	}
}
