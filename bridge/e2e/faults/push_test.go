package faults_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/e2e/faults/homeserver"
	"postern/bridge/parts"
	"postern/connector/killpoint"
)

// The row of pushes and of streams that are open only while they are needed: F-33.

// pushKey is a key of the gatekeeper's, as far as the bridge knows.
var pushKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// pushes makes pushes that the bridge takes for the gatekeeper's, besides the gatekeeper's own.
type pushes struct {
	r       *rig
	fetches atomic.Int64
}

// attached has the bridge open streams only while they are needed, and take the test's pushes too, until the test ends.
func (r *rig) attached(more map[string]any) *pushes {
	r.t.Helper()
	p := &pushes{r: r}
	keys := httptest.NewServer(http.HandlerFunc(p.serveKeys))
	r.t.Cleanup(keys.Close)
	settings := map[string]any{
		"network.connect": "attached", "network.attached.idle": "2s", "network.gatekeepers.whatsapp.jwks_url": keys.URL,
	}
	for key, value := range more {
		settings[key] = value
	}
	r.restartWith(r.ctx, settings)
	t := r.t
	t.Cleanup(func() {
		if t.Failed() {
			return // the world is given up
		}
		ctx, cancel := context.WithTimeout(context.Background(), bound) // the test's own has ended
		defer cancel()
		r.restartWith(ctx, map[string]any{
			"network.connect": "always", "network.attached.idle": "5m", "network.client_address.policy": "off",
			"network.gatekeepers.whatsapp.jwks_url": r.Gatekeeper.Info.JWKSURL,
		})
	})
	return p
}

// restartWith starts the bridge again with other settings.
func (r *rig) restartWith(ctx context.Context, settings map[string]any) {
	r.t.Helper()
	select {
	case <-r.Bridge.Done():
	default:
		r.ok(r.Bridge.Stop())
	}
	r.ok(r.Bridge.Set(settings))
	r.ok(r.Bridge.Start(ctx))
}

// serveKeys answers with the gatekeeper's keys and the test's.
func (p *pushes) serveKeys(w http.ResponseWriter, r *http.Request) {
	p.fetches.Add(1)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, p.r.Gatekeeper.Info.JWKSURL, nil)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&set) != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	b64 := base64.RawURLEncoding.EncodeToString
	public := pushKey().PublicKey
	set.Keys = append(set.Keys, map[string]any{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "test", "n": b64(public.N.Bytes()), "e": b64(big.NewInt(int64(public.E)).Bytes()),
	})
	_ = json.NewEncoder(w).Encode(set) // the asker may have gone
}

// token signs a push, issued that long ago, by hand.
func (p *pushes) token(kid string, ago time.Duration) string {
	b64, now := base64.RawURLEncoding.EncodeToString, time.Now().Add(-ago).Unix()
	text := b64(fmt.Appendf(nil, `{"alg":"RS256","typ":"JWT","kid":%q}`, kid)) + "." +
		b64(fmt.Appendf(nil, `{"iss":"WHATSAPP","aud":%q,"iat":%d,"exp":%d}`, p.r.Bridge.PublicBase, now, now+3600))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, pushKey(), crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + b64(signature)
}

// send makes a push and returns the status and how much came with it.
func (p *pushes) send(token, to string) (status int, err error) {
	body, err := json.Marshal(map[string]string{"to": to})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(p.r.ctx, http.MethodPost, p.r.Bridge.PublicBase+"/push", strings.NewReader(string(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		return 0, errors.Join(fmt.Errorf("%d bytes came with an answer to a push", len(rest)), err)
	}
	return res.StatusCode, nil
}

// flood sends a thousand pushes a second until it is ended: repeated ones, old ones, for people who are not there, forged ones, and
// garbage. end returns how many of them there were.
func (p *pushes) flood() (end func() int) {
	changed := p.token("test", 0)
	kinds := []struct {
		token, to string
		want      int
	}{
		{p.token("test", 0), p.r.identifier, 200}, {p.token("test", 50*time.Minute), p.r.identifier, 200}, {p.token("test", time.Minute), "nobody", 200},
		{changed[:len(changed)-10] + "AAAAAAAAAA", p.r.identifier, 401}, {p.token("made-up", 0), p.r.identifier, 401},
		{p.token("test", 2*time.Hour), p.r.identifier, 401}, {"x.y.z", p.r.identifier, 401},
	}
	stop := make(chan struct{})
	var count atomic.Int64
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				k := kinds[i%len(kinds)]
				status, err := p.send(k.token, k.to)
				if count.Add(1); err != nil || status != k.want && status != http.StatusServiceUnavailable {
					p.r.t.Errorf("push of kind %d: status %d, %v; want %d", i%len(kinds), status, err, k.want)
					return
				}
			}
		})
	}
	return func() int {
		close(stop)
		all.Wait()
		return int(count.Load())
	}
}

// TestF33WhatComesForAnIdleUserArrivesAfterItsPushAndTheirTextsGoOutAtOnce: nothing is lost between the two states, in either direction.
func TestF33WhatComesForAnIdleUserArrivesAfterItsPushAndTheirTextsGoOutAtOnce(t *testing.T) {
	each(t, func(r *rig) {
		r.attached(nil)
		c := r.newChat()
		r.connected(false)
		begun := time.Now()
		c.fromPhone(3)
		c.settled()
		arrived := time.Since(begun)
		r.connected(false)
		begun = time.Now()
		c.fromMatrix(2)
		c.settled()
		r.t.Logf("a message for an idle user came after %v, an idle user's went after %v, both with their receipts", arrived, time.Since(begun))
		if arrived > 30*time.Second {
			r.t.Errorf("a message for an idle user came after %v", arrived)
		}
		for n := range 40 { // in the campaign also while the stream is on its way down
			if !all() {
				break
			}
			c.settled()
			pause(1900*time.Millisecond+time.Duration(n*5)*time.Millisecond, r.Bridge.Done())
			c.fromPhone(1)
			if n%4 == 0 {
				c.fromMatrix(1)
			}
		}
		c.check()
	})
}

// TestF33AThousandPushesASecondLoseAndDelayNothing: repeated, old, forged, for nobody, with key ids that do not exist.
func TestF33AThousandPushesASecondLoseAndDelayNothing(t *testing.T) {
	each(t, func(r *rig) {
		p := r.attached(nil)
		c, his := r.newChat(), r.neighbour().newChat()
		texts := 10
		if all() {
			texts = 200
		}
		quiet := his.tripTime(texts)
		before, fetched, begun := r.memory(), p.fetches.Load(), time.Now()
		end := p.flood()
		flooded := his.tripTime(texts)
		c.fromPhone(5)
		c.fromMatrix(5)
		c.settled()
		must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "cut", Identifier: r.identifier, Count: 1}))(r.t)
		c.fromPhone(5)
		c.settled()
		count, took := end(), time.Since(begun)
		r.t.Logf("%d pushes in %v; p99 of another's messages %v by itself, %v beside them; memory grew by %d KiB",
			count, took.Round(time.Millisecond), quiet, flooded, (r.memory()-before)>>10)
		if all() && flooded > 2*quiet+latencySlack {
			r.t.Errorf("messages of others take %v beside pushes, %v by themselves", flooded, quiet)
		}
		if most := int64(took/time.Second) + 3; p.fetches.Load()-fetched > most {
			r.t.Errorf("the keys were fetched %d times in %v, want %d at most", p.fetches.Load()-fetched, took, most)
		}
		if grown := r.memory() - before; grown > 64<<20 {
			r.t.Errorf("memory has grown by %d MiB", grown>>20)
		}
		r.connected(false) // the pushes over, nobody needs the stream
		c.check()
		his.check()
	})
}

// TestF33KilledBetweenIdleAndConnectedNothingIsLost: the push was answered and dies with the bridge, or the text was queued and the stream
// not there yet, or what it brought was on its way.
func TestF33KilledBetweenIdleAndConnectedNothingIsLost(t *testing.T) {
	points := []string{killpoint.OutQueued, killpoint.InRead, killpoint.InStored}
	if all() {
		points = append(points, killpoint.OutSealed, killpoint.OutAck, killpoint.InAcked, killpoint.InReceipt)
	}
	each(t, func(r *rig) {
		r.attached(nil)
		c := r.newChat()
		for _, point := range points {
			r.connected(false)
			r.arm(point, 1)
			if strings.HasPrefix(point, "O") {
				c.fromMatrix(2)
			} else {
				c.fromPhone(2)
			}
			r.dead(point)
			c.fromPhone(1) // its push finds nobody
			r.run()
			c.settled()
		}
		c.check()
	})
}

// TestF33PushesThatAreLostCostNothingButTime: the bridge looks after itself when it starts, and so do those who show signs of life.
func TestF33PushesThatAreLostCostNothingButTime(t *testing.T) {
	each(t, func(r *rig) {
		r.attached(nil)
		c := r.newChat()
		r.connected(false)
		lost := func() {
			must(r.Gatekeeper.AddFault(r.ctx, parts.Fault{Kind: "push_off", Identifier: r.identifier, Count: 1}))(r.t)
			c.fromPhone(1)
		}
		lost()
		r.Bridge.Kill() // in the moment of a push, at the worst
		r.run()
		c.settled()
		for _, sign := range []func() error{
			func() error { return r.alice.Typing(r.ctx, c.room, true) },
			func() error { _, err := r.alice.SendText(r.ctx, r.management, "status"); return err },
		} {
			r.connected(false)
			lost()
			r.ok(sign())
			c.settled()
		}
		c.check()
	})
}

// TestTheAddressOfAUsersClientIsToldOrTheUserIsNotConnected: the homeserver knows it, or does not (profile 4.7).
func TestTheAddressOfAUsersClientIsToldOrTheUserIsNotConnected(t *testing.T) {
	each(t, func(r *rig) {
		whois := func(ip string) (end func()) {
			body := fmt.Sprintf(`{"devices":{"":{"sessions":[{"connections":[{"ip":%q,"last_seen":%d}]}]}}}`, ip, time.Now().UnixMilli())
			return r.hs.AddFault(homeserver.Fault{Method: "GET", Path: "/admin/whois/", Status: 200, Kind: "application/json", Body: body, Count: 1000})
		}
		told := func() string {
			var out struct {
				Partners []struct {
					Identifier string `json:"identifier"`
					Connected  bool   `json:"connected"`
					Address    string `json:"client_address"`
				} `json:"partners"`
			}
			r.ok(r.Gatekeeper.Call(r.ctx, http.MethodGet, "/v1/partners", nil, &out))
			for _, p := range out.Partners {
				if p.Identifier == r.identifier && p.Connected {
					return p.Address
				}
			}
			return "none"
		}
		end := whois("192.0.2.77")
		r.attached(map[string]any{
			"network.connect": "always", "network.client_address.policy": "require", "network.client_address.admin_token": "token-of-an-admin",
		})
		r.soon("the address to be told", func() bool { return told() == "192.0.2.77" })
		c := r.newChat()
		end()
		end = whois("10.0.0.1") // a proxy's
		defer end()
		from := r.logSize()
		r.restartWith(r.ctx, nil)
		r.soon("an attempt without an address", func() bool { return r.logged(from, "the homeserver does not say it") > 0 })
		since := time.Now().Add(-time.Second)
		for said := false; !said && r.ctx.Err() == nil; { // the attempt may have been another account's
			must(r.alice.SendText(r.ctx, r.management, "status"))(r.t)
			ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
			_, err := r.BotSays(ctx, r.alice, r.management, since, "from where you are connected")
			cancel()
			said = err == nil
		}
		if address := told(); address != "none" {
			r.t.Error("a user whose address is not known is connected")
		}
		end()
		defer whois("192.0.2.78")()
		c.fromMatrix(1) // by which the homeserver sees her
		c.settled()
		if address := told(); address != "192.0.2.78" {
			r.t.Errorf("the gatekeeper was told another address")
		}
		for _, secret := range []string{"192.0.2.7", "10.0.0.1", "token-of-an-admin"} {
			if r.logged(0, secret) > 0 {
				r.t.Errorf("%s is in the log", secret)
			}
		}
		c.check()
	})
}
