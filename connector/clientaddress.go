package connector

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/connector/gatekeeper"
)

const (
	// addressAge is how old what the homeserver knows of a user's client may be.
	addressAge = 24 * time.Hour
	// addressKeep is for how long an answer is used again.
	addressKeep = time.Minute
	// addressPatience bounds a question, addressAnswer its answer's length in bytes.
	addressPatience = 10 * time.Second
	addressAnswer   = 1 << 20
	// addressesKept bounds what is remembered.
	addressesKept = 10_000
)

// addresses finds the addresses of users' clients by asking the homeserver (`GET /admin/whois` of the Matrix specification, which its
// administrators may use). What it finds is told to the gatekeeper (PROTOCOL.md 4.7) and to nobody else: it is in no log and no error.
type addresses struct {
	homeserver string // URL without a slash at its end
	token      string
	require    bool
	http       *http.Client

	mu    sync.Mutex
	known map[id.UserID]knownAddress
}

type knownAddress struct {
	address netip.Addr // the zero value if there is none
	at      time.Time
}

func newAddresses(homeserver, token string, require bool) *addresses {
	return &addresses{
		homeserver: strings.TrimRight(homeserver, "/"), token: token, require: require,
		http: &http.Client{
			Timeout:       addressPatience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
		},
		known: make(map[id.UserID]knownAddress),
	}
}

// find returns the address of a user's client, the zero value if it is not known. Where it is required, that is
// gatekeeper.ErrNoAddress.
func (a *addresses) find(ctx context.Context, user id.UserID) (netip.Addr, error) {
	a.mu.Lock()
	known, ok := a.known[user]
	a.mu.Unlock()
	if !ok || time.Since(known.at) >= addressKeep {
		address, err := a.ask(ctx, user)
		if ctx.Err() != nil {
			return netip.Addr{}, ctx.Err()
		}
		known = knownAddress{address, time.Now()}
		if err == nil && address.IsValid() { // or it would be missing for longer than it is
			a.keep(user, known)
		}
	}
	if !known.address.IsValid() && a.require {
		return netip.Addr{}, gatekeeper.ErrNoAddress
	}
	return known.address, nil
}

func (a *addresses) keep(user id.UserID, known knownAddress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= addressesKept {
		clear(a.known)
	}
	a.known[user] = known
}

var errWhois = errors.New("connector: find client address: homeserver does not say")

// ask asks the homeserver. Its error names nothing.
func (a *addresses) ask(ctx context.Context, user id.UserID) (netip.Addr, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.homeserver+"/_matrix/client/v3/admin/whois/"+url.PathEscape(user.String()), nil)
	if err != nil {
		return netip.Addr{}, errWhois
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.http.Do(req)
	if err != nil {
		return netip.Addr{}, errWhois
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, addressAnswer+1))
	if err != nil || res.StatusCode != http.StatusOK || len(body) > addressAnswer {
		return netip.Addr{}, errWhois
	}
	return parseWhois(body, time.Now())
}

// parseWhois takes the address that was seen last out of an answer, the zero value if none is fit to be told: one of a network of its own is
// a proxy's that does not say for whom it asks.
func parseWhois(body []byte, now time.Time) (newest netip.Addr, err error) {
	var answer struct {
		Devices map[string]struct {
			Sessions []struct {
				Connections []struct {
					IP       string `json:"ip"`
					LastSeen int64  `json:"last_seen"`
				} `json:"connections"`
			} `json:"sessions"`
		} `json:"devices"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return netip.Addr{}, errWhois
	}
	last := now.Add(-addressAge).UnixMilli()
	for _, device := range answer.Devices {
		for _, session := range device.Sessions {
			for _, c := range session.Connections {
				address, err := netip.ParseAddr(c.IP)
				if err != nil || c.LastSeen <= last {
					continue
				}
				address = address.Unmap().WithZone("")
				if !address.IsGlobalUnicast() || address.IsPrivate() {
					continue
				}
				newest, last = address, c.LastSeen
			}
		}
	}
	return newest, nil
}
