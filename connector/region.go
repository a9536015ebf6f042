package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"postern/database"
)

// verdict is what a gate knows of somebody.
type verdict int

const (
	regionUnknown  verdict = iota // it cannot be found out now
	regionAdmitted                // they may join and stay
	regionRefused                 // they may not
)

// regionGate decides who may enlist and stay enlisted (the region gate of the reference offer).
type regionGate interface {
	// judge decides about somebody, of whom known is what there is on disk. until says how long an admission holds, zero for as long as the
	// gate says so.
	judge(ctx context.Context, user id.UserID, known *database.Region) (v verdict, until time.Time)
}

// newRegionGate makes the gate that the configuration asks for, nil for none.
func newRegionGate(cfg *RegionConfig, dir string) (regionGate, error) {
	switch cfg.Gate {
	case gateList:
		return newListGate(cfg.Allow)
	case gateDeclaration:
		return &declarationGate{countries: cfg.Countries, life: time.Duration(cfg.DeclarationDays) * 24 * time.Hour}, nil
	case gateHook:
		token := cfg.Hook.Token
		if cfg.Hook.TokenFile != "" {
			var err error
			if token, err = secretFile("network.region.hook.token_file", dir, cfg.Hook.TokenFile); err != nil {
				return nil, err
			}
		}
		return &hookGate{url: cfg.Hook.URL, token: token, timeout: cfg.timeout, client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}, nil
	}
	return nil, nil
}

// listGate is the admin's list.
type listGate struct{ patterns []*regexp.Regexp }

func newListGate(allow []string) (*listGate, error) {
	g := &listGate{}
	for _, pattern := range allow {
		parts := strings.Split(pattern, "*")
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		compiled, err := regexp.Compile(`^(?s:` + strings.Join(parts, ".*") + `)$`)
		if err != nil {
			return nil, fmt.Errorf("network.region.allow: %w", err)
		}
		g.patterns = append(g.patterns, compiled)
	}
	return g, nil
}

func (g *listGate) judge(_ context.Context, user id.UserID, _ *database.Region) (verdict, time.Time) {
	for _, pattern := range g.patterns {
		if pattern.MatchString(user.String()) {
			return regionAdmitted, time.Time{}
		}
	}
	return regionRefused, time.Time{}
}

// declarationGate believes what people say themselves, for a while.
type declarationGate struct {
	countries []string
	life      time.Duration
}

func (g *declarationGate) judge(_ context.Context, _ id.UserID, known *database.Region) (verdict, time.Time) {
	until := time.UnixMilli(known.Declared).Add(g.life)
	if known.Country == "" || !slices.Contains(g.countries, known.Country) || !time.Now().Before(until) {
		return regionRefused, time.Time{}
	}
	return regionAdmitted, until
}

// hookGate asks a service of the operator's. Its address is the operator's own choice.
type hookGate struct {
	url, token string
	timeout    time.Duration
	client     *http.Client
}

// maxHookAnswer is the most bytes of an answer.
const maxHookAnswer = 64 << 10

// hookAnswer is what the service says.
type hookAnswer struct {
	// Allow has to be there.
	Allow *bool `json:"allow"`
	// Until, if there, is how long that holds, RFC 3339.
	Until *time.Time `json:"until"`
}

var errHook = errors.New("connector: region: not an answer")

func (g *hookGate) judge(ctx context.Context, user id.UserID, _ *database.Region) (verdict, time.Time) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	answer, err := g.ask(ctx, user)
	switch {
	case err != nil:
		return regionUnknown, time.Time{}
	case !*answer.Allow:
		return regionRefused, time.Time{}
	case answer.Until == nil:
		return regionAdmitted, time.Time{}
	case !time.Now().Before(*answer.Until):
		return regionRefused, time.Time{}
	}
	return regionAdmitted, *answer.Until
}

func (g *hookGate) ask(ctx context.Context, user id.UserID) (*hookAnswer, error) {
	body, err := json.Marshal(map[string]string{"user_id": user.String()})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if g.token != "" {
		req.Header.Set("Authorization", "Bearer "+g.token)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errHook
	}
	return readHookAnswer(io.LimitReader(resp.Body, maxHookAnswer))
}

// readHookAnswer reads what the operator's service says.
func readHookAnswer(from io.Reader) (*hookAnswer, error) {
	answer := &hookAnswer{}
	if err := json.NewDecoder(from).Decode(answer); err != nil || answer.Allow == nil {
		return nil, errHook
	}
	return answer, nil
}

// admit asks the gate about somebody who wants to join, or to stay after a change, and stores an admission. Nobody joins while it is not
// known that they may.
func (c *Connector) admit(ctx context.Context, user id.UserID) (verdict, error) {
	if c.region == nil {
		return regionAdmitted, nil
	}
	known, err := c.db.Regions().Get(ctx, user.String())
	if err != nil {
		return regionUnknown, err
	}
	v, until := c.region.judge(ctx, user, known)
	if v != regionAdmitted {
		return v, nil
	}
	known.Checked, known.Until = time.Now().UnixMilli(), 0
	if !until.IsZero() {
		known.Until = until.UnixMilli()
	}
	return v, c.db.Regions().Put(ctx, known)
}

// forgetRegion forgets where somebody is who has no login any more.
func (c *Connector) forgetRegion(ctx context.Context, user id.UserID) error {
	accounts, err := c.db.Accounts().ByMXID(ctx, user.String())
	if err != nil || len(accounts) > 0 {
		return err
	}
	return c.db.Regions().Delete(ctx, user.String())
}
