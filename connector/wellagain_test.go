package connector

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"postern/connector/e2ee"
	"postern/connector/gatekeeper"
	"postern/connector/interop"
	"postern/connector/jid"
	"postern/connector/noise"
)

func TestWhatWaitsForMatrixIsTriedAgainWhenTheHomeserverIsWell(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	row := w.accountRow()
	device, err := e2ee.UnmarshalDevice(row.Device)
	if err != nil {
		t.Fatal(err)
	}
	static, err := noise.KeyPairFromPrivate([noise.KeySize]byte(row.NoiseKey))
	if err != nil {
		t.Fatal(err)
	}
	address, err := jid.Parse(row.Login)
	if err != nil {
		t.Fatal(err)
	}
	store := NewAccountStore(w.connector.db, row.ID, row.Gatekeeper)
	// By itself it would try again in a day.
	w.client.account = interop.New(interop.Config{
		ID: row.ID, Profile: w.client.profile, JID: address, Device: device, Store: store, Upcalls: w.client, Log: w.client.log,
		Gatekeeper: gatekeeper.Config{Static: static, Token: w.client.token},
		Limits:     interop.Limits{RetryMin: 48 * time.Hour, RetryMax: 48 * time.Hour},
	})
	text := "it waited"
	raw, err := proto.Marshal(&waE2E.Message{Conversation: &text})
	if err != nil {
		t.Fatal(err)
	}
	if err = store.InsertInbound(ctx, &interop.InRow{
		Seq: 1, Chat: w.peer.Chat, ID: "A", Kind: interop.KindMessage, Timestamp: time.Now().Unix(), Received: time.Now().UnixMilli(), Payload: raw,
	}); err != nil {
		t.Fatal(err)
	}
	var refused atomic.Bool
	looks := 0
	w.matrix.setBefore(func(r *http.Request) int {
		switch {
		case strings.HasSuffix(r.URL.Path, "/sync"): // it comes and goes
			if looks++; looks%2 == 1 {
				return http.StatusBadGateway
			}
		case strings.Contains(r.URL.Path, "/send/") && !refused.Swap(true):
			return http.StatusBadGateway
		}
		return 0
	})
	w.client.arrivals.close() // Connect opens it
	w.client.Connect(ctx)
	defer w.client.Disconnect()
	w.connector.Run()
	defer func() {
		if err := w.connector.StopTaking(ctx); err != nil {
			t.Error(err)
		}
	}()
	w.matrix.await(t, func(events []*fakeEvent) bool {
		for _, e := range events {
			if e.Content["body"] == text {
				return true
			}
		}
		return false
	})
	if !refused.Load() {
		t.Error("it was not refused before")
	}
}
