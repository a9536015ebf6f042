package main

// replacement is a change of one source file: old occurs in it exactly once.
type replacement struct{ file, old, new string }

// mutant is a broken bridge.
type mutant struct {
	// name is also a build tag of its build, so that the program says what it is.
	name string
	// rule is what it breaks.
	rule string
	// first is a regular expression for the tests that are tried first; if they let it live, all others are.
	first   string
	changes []replacement
}

const (
	inbox     = "connector/interop/inbox.go"
	receive   = "connector/interop/receive.go"
	mail      = "connector/interop/mail.go"
	outbox    = "connector/interop/outbox.go"
	encrypt   = "connector/interop/encrypt.go"
	ratchet   = "connector/e2ee/signal.go"
	transport = "connector/matrixdurable/transport.go"
	listener  = "connector/matrixdurable/listener.go"
	dispatch  = "connector/matrixdurable/dispatcher.go"
	sends     = "connector/handlematrix.go"
	statuses  = "connector/status.go"
	signals   = "connector/store_signal.go"
	epoch     = "database/epoch.go"
	store     = "connector/mediastore/store.go"
	arrive    = "connector/arrivals.go"
	keys      = "connector/interop/keys.go"
)

// mutants are the rules of the two pipelines, each broken once. Where the bridge has two defences for one rule, both are broken, or
// the tests take away what the other one lives on.
var mutants = []mutant{
	{"ack_before_commit", "a message is acked after its commit", "F01|F02|F03|F04", []replacement{{
		inbox, "		code, err = b.message(ctx, j.turn, s)\n",
		"		b.answer(ctx, j.turn, s, 0)\n		if code, err = b.message(ctx, j.turn, s); err == nil {\n			return\n		}\n",
	}}},
	{"ratchet_apart_from_message", "ratchet and message are one transaction", "F02|F03", []replacement{{
		ratchet, "	return failed(operation, s.store.Commit(ctx, change, extra))",
		"	if err = s.store.Commit(ctx, change, func(context.Context) error { return nil }); err == nil {\n		err = extra(ctx)\n	}\n	return failed(operation, err)",
	}}},
	{"rejected_message_is_kept", "a rejected message leaves the stored state as it was", "F28", []replacement{{
		ratchet, "	plaintext, info, change, err := s.open(ctx, row, known, incoming)\n	if err != nil {\n",
		"	plaintext, info, change, err := s.open(ctx, row, known, incoming)\n	if err != nil {\n" +
			"		_ = s.store.Commit(ctx, &Change{Addr: addr, Session: row.marshal()}, func(context.Context) error { return nil })\n",
	}}},
	{"dedupe_removed", "a message that came before is known", "F04|Campaign", []replacement{
		{receive, "	if row != nil && row.State != InWaiting && bytes.Equal(row.Hash, hash[:]) {", "	if false && row != nil && row.State != InWaiting && bytes.Equal(row.Hash, hash[:]) {"},
		{receive, "	return in.row != nil && in.row.State != InWaiting && in.row.Kind == KindMessage", "	return false"},
	}},
	{"erased_before_delivered", "a message is kept until Matrix has it", "F05|F06", []replacement{{
		mail, "	err = errDeliverPanic\n", "	if err = a.store.FinishInbound(ctx, row, InDone, ReceiptDue); err != nil {\n		return settled, err\n	}\n	err = errDeliverPanic\n",
	}}},
	{"receipt_before_delivered", "a delivery receipt goes out when Matrix has the message", "F05", []replacement{{
		receive, "	a.waits.forget(chat, in.m.ID)\n	if used", "	if row != nil {\n		a.receipts.due(row)\n	}\n	a.waits.forget(chat, in.m.ID)\n	if used",
	}}},
	{"given_up_after_a_failure", "what Matrix did not take is tried again, and nothing overtakes it", "F23|F06", []replacement{{
		mail, "			m.failed(chat)\n			return\n", "			m.done(chat, row)\n			continue\n",
	}}},
	{"random_transaction_id", "a message has one transaction id for ever, and a mark to be found by", "F06|F07", []replacement{{
		transport, "	body, err := readBody(req)\n	if err != nil {\n		return nil, err\n	}\n	if body, err = withMarker",
		"	identity = steps[3]\n	body, err := readBody(req)\n	if err != nil {\n		return nil, err\n	}\n	if body, err = withMarker",
	}}},
	{"no_search_in_the_room", "an uncertain send looks into the room first", "F06|F07", []replacement{{
		transport, "	if s.uncertain() {\n		if s.foundParts() == nil {", "	if s.uncertain() && len(steps) == 0 {\n		if s.foundParts() == nil {",
	}}},
	{"statuses_not_searched", "a status that may have been told is looked for", "F15AState", []replacement{{
		transport, "	if !slices.Contains(sayings, kind) {", "	if !slices.Contains(sayings, kind) && sender == \"\" {",
	}}},
	{"random_status_id", "a status has one transaction id for ever", "F15AState", []replacement{{
		statuses, "	identity := matrixdurable.Identity(\"status\", s.EventID, s.State.String())\n", "	identity := string(c.connector.matrix.Bot.TxnID())\n",
	}}},
	{"answer_before_journal", "a transaction is answered after its commit", "F09|F10|F11", []replacement{{
		listener, "	if len(durable) > 0 {\n		killpoint.Hit(killpoint.OutTaken)",
		"	w.Header().Set(\"Content-Length\", \"2\")\n	_, _ = io.WriteString(w, \"{}\")\n	_ = http.NewResponseController(w).Flush()\n" +
			"	if len(durable) > 0 {\n		killpoint.Hit(killpoint.OutTaken)",
	}}},
	{"journal_skipped", "what was answered is on disk", "F11|F12", []replacement{{
		listener, "	stored, _, err := l.cfg.Journal.Accept(ctx, transactionKey(txn, durable), durable)",
		"	stored, err := durable, ctx.Err()",
	}}},
	{"finished_before_handled", "an event is finished after it was handled", "F12", []replacement{{
		dispatch, "	outcome := d.handle(e, panics)\n", "	_ = d.cfg.Journal.Finish(context.WithoutCancel(d.ctx), []int64{e.Seq})\n	outcome := d.handle(e, panics)\n",
	}}},
	{"random_stanza_id", "a stanza id follows from the event's id", "F12", []replacement{
		{outbox, "StanzaID: StanzaID(a.cfg.StanzaKey, out.EventID, i),", "StanzaID: StanzaID(a.cfg.StanzaKey, out.EventID+time.Now().String(), i),"},
		{sends, "	} else if known != nil {\n", "	} else if known != nil && msg == nil {\n"},
		{sends, "	return c.connector.rows.Message.Insert(ctx, row)\n", "	if known, err := c.connector.bridge.DB.Message.GetPartByMXID(ctx, row.MXID); err != nil || known != nil {\n		return err\n	}\n	return c.connector.rows.Message.Insert(ctx, row)\n"},
	}},
	{"stanza_apart_from_ratchet", "ratchet and stanza are one transaction", "F13|F14", []replacement{{
		ratchet, "	if err = s.store.Commit(ctx, &Change{Addr: addr, Session: row.marshal()}, extra); err != nil {\n		return Sealed{}, failed(operation, err)\n	}\n	return sealed, nil",
		"	if err = extra(ctx); err == nil {\n		err = s.store.Commit(ctx, &Change{Addr: addr, Session: row.marshal()}, func(context.Context) error { return nil })\n	}\n	if err != nil {\n		return Sealed{}, failed(operation, err)\n	}\n	return sealed, nil",
	}}},
	{"sent_before_commit", "nothing is written to the socket before its commit", "F13", []replacement{{
		encrypt, "			killpoint.Hit(killpoint.OutSealing)\n",
		"			if stream, _, up := a.link.current(); up {\n				_ = stream.SendFrame(ctx, frame)\n			}\n			killpoint.Hit(killpoint.OutSealing)\n",
	}}},
	{"encrypted_again_on_resend", "what was encrypted goes out again as it is", "F15What", []replacement{
		{encrypt, "	if row.Stanza == nil {\n		if err := o.encrypt", "	if c := row.State; c < PartSent {\n		if err := o.encrypt"},
		{"database/queue_out.go", "		WHERE account_id=$1 AND stanza_id=$2 AND state=0`,\n		s.account, stanzaID, s.sealStanza(stanzaID, 0, stanza), now)", "		WHERE account_id=$1 AND stanza_id=$2 AND state<=1`,\n		s.account, stanzaID, s.sealStanza(stanzaID, 0, stanza), now)"},
	}},
	{"sent_without_the_ack", "sent is what the gatekeeper has acked", "F32|F15", []replacement{{
		encrypt, "		killpoint.Hit(killpoint.OutWritten)\n		return nil\n", "		killpoint.Hit(killpoint.OutWritten)\n		return o.advance(ctx, []*OutRow{row}, PartSent)\n",
	}}},
	{"room_without_alias", "a room is made once", "F17", []replacement{{
		transport, "strings.HasSuffix(path, \"/_matrix/client/v3/createRoom\") && t.AliasPrefix != \"\" {", "strings.HasSuffix(path, \"/_matrix/client/v3/createRoom\") && t.AliasPrefix == \"\" {",
	}}},
	{"fsync_error_ignored", "a failed fsync ends the process", "F41", []replacement{
		{"database/health.go", "	case sqlite3.ErrIoErrFsync, sqlite3.ErrIoErrDirFsync:\n		return true\n", ""},
		{"database/outcome.go", "	case err.Code == sqlite3.ErrIoErr:\n		return outcomeFatal\n", "	case err.Code == sqlite3.ErrIoErr:\n		return outcomeRolledBack\n"},
	}},
	{"known_event_not_queued", "what a commit of unknown outcome has stored is handled", "F42WhatACommit", []replacement{{
		listener, "		l.cfg.Sink.Doubt() // when it comes again, it may be known\n", "",
	}}},
	{"old_copy_not_noticed", "an old copy of the database is noticed", "F27", []replacement{{
		epoch, "	if reason == \"\" || !used {\n", "	if reason == \"\" || reason != \"\" || !used {\n",
	}}},
	{"sessions_of_the_copy_go_on", "nothing is encrypted in a session of an old copy", "F27", []replacement{{
		signals, "	if old && err == nil {\n", "	if old && err != nil {\n",
	}}},
	{"index_before_file", "a file is in the index when it is on disk under its name", "F16KilledWhileAnAttachmentGoesOut", []replacement{{
		store, "	if err := blob.Commit(ctx, o.name); err != nil {", "	_ = s.Commit(ctx, o)\n	if err := blob.Commit(ctx, o.name); err != nil {",
	}}},
	{"orphans_stay", "a file that nothing refers to is collected", "F16KilledWhileAnAttachmentGoesOut", []replacement{{
		"connector/mediastore/sweep.go", "	if now.Sub(blob.Modified) <= grace {", "	if now.Sub(blob.Modified) <= grace || blob.Modified.Before(now) {",
	}}},
	{"spool_stays", "what a kill leaves in the spool is removed", "F16", []replacement{{
		"connector/media_open.go", "		if e.Name() != spoolMark {", "		if e.Name() == spoolMark+spoolMark {",
	}}},
	{"uploaded_twice", "what was prepared is not prepared again", "F16KilledWhileAnAttachmentGoesOut", []replacement{
		{"database/queue_conversation.go", "SET recipe=NULL, plaintext=$3", "SET plaintext=$3"},
	}},
	{"shown_twice", "what comes later takes its place once", "F16KilledWhileAnAttachmentIs", []replacement{
		{arrive, "Uncertain: true, Settled", "Uncertain: false, Settled"},
		{arrive, "fmt.Sprint(row.Tries), row.Reason)", "fmt.Sprint(row.Tries), row.Reason, time.Now().String())"},
	}},
	{"sent_without_its_file", "a message whose file is not there is not sent", "F35WhatGotLost", []replacement{{
		encrypt, "	if row.Type != stanza.TypeMedia {", "	if row.Type != \"\" {",
	}}},
	{"damage_is_served", "what is served is what was stored", "F35ADamaged", []replacement{{
		"connector/mediastore/http.go", "	if err := s.sound(r.Context(), row); err != nil {", "	if err := s.sound(r.Context(), row); err != nil && !errors.Is(err, ErrDamaged) {",
	}}},
	{"damage_is_shown", "what is shown is what was sent", "F35AMediaHost", []replacement{{
		"connector/fetchmedia.go", "sealed, n, m.Media); err != nil {", "sealed, n, m.Media); err != nil && !errors.Is(err, media.ErrHash) {",
	}}},
	{"prekeys_sent_before_stored", "a prekey that the gatekeeper has is on disk", "F17KilledWhileSomebodyLogsIn", []replacement{
		{keys, "	if err = store.PutPreKeys(ctx, more); err != nil {", "	if err = ctx.Err(); err != nil {"},
		{keys, "		killpoint.Hit(killpoint.KeysUploaded)\n", "		killpoint.Hit(killpoint.KeysUploaded)\n		_ = a.store.PutPreKeys(ctx, records)\n		_ = a.store.MarkPreKeysUploaded(ctx, ids)\n"},
	}},
	{"management_room_without_alias", "a management room is made once", "F17KilledWhileAManagement", []replacement{{
		"connector/matrixdurable/rooms.go", "	if c.LocalID == \"\" && c.management() {", "	if c.LocalID == \"\" && c.management() && c.Direct == c.management() && c.Topic == \"\" {",
	}}},
	{"new_keys_untold", "a new key is told in the room", "F29", []replacement{
		{encrypt, "		if !news {\n", "		if news || !news {\n"},
		{receive, "info.IdentityChanged, info.Identity); news {\n", "info.IdentityChanged, info.Identity); news && info.UsedPreKey == nil && change != nil {\n"},
	}},
	{"asked_and_forgotten", "a request to send again is on disk before it is acked", "F31AMessageIsSentAgain", []replacement{{
		"connector/interop/answers.go", "		return a.store.SetRetry(ctx, row.StanzaID, req, mark)\n", "		row.Retry = req\n		return nil\n",
	}}},
	{"again_in_the_dead_session", "what could not be read goes again in a session that can be", "F29ANew|F31", []replacement{{
		"connector/interop/answers.go", "	if req.Bundle != nil {\n		err := o.beginWith", "	if req.Bundle != nil && req.Count > 100 {\n		err := o.beginWith",
	}, {
		"connector/interop/answers.go", "	if err == nil && ok && id == req.RegistrationID && req.Count < freshSessionFrom {\n", "	if err == nil && ok && id > 0 {\n",
	}}},
	{"unreadable_not_asked_for", "what cannot be read is asked for", "F28What|F31AMessageIsAsked", []replacement{{
		"connector/interop/waits.go", "	w.send(ctx, turn, m, row, reason, keys)\n	return 0, nil\n", "	_ = keys\n	return 0, ctx.Err()\n",
	}}},
	{"damaged_prekey_stops_the_refill", "a damaged prekey costs no other", "F30What", []replacement{{
		"connector/interop/keys.go", "			damaged = append(damaged, r.ID)\n			continue\n", "			return nil, nil, err\n",
	}}},
}
