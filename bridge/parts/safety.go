package parts

import (
	"context"
	"net/http"
	"net/url"
)

// Safety is what a phone shows of the safety number of a chat.
type Safety struct {
	Number    string `json:"number"`    // 60 digits
	Scannable []byte `json:"scannable"` // what its QR code holds
}

// Safety asks for what a phone shows of its chat with a partner user.
func (g *Gatekeeper) Safety(ctx context.Context, phone, to string) (Safety, error) {
	var s Safety
	err := g.Call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(phone)+"/safety?to="+url.QueryEscape(to), nil, &s)
	return s, err
}

// NewPhone gives somebody a new phone; silent: nobody is told.
func (g *Gatekeeper) NewPhone(ctx context.Context, phone string, silent bool) error {
	return g.Call(ctx, http.MethodPost, "/v1/users/"+url.PathEscape(phone)+"/reinstall", map[string]any{"silent": silent}, nil)
}
