package gatekeeper

import (
	"context"
	"fmt"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"google.golang.org/protobuf/proto"
)

// loginPayload builds the payload of the last handshake message (PROTOCOL.md 4.3).
func (s *Stream) loginPayload(ctx context.Context, reason waWa6.ClientPayload_ConnectReason) ([]byte, error) {
	token, err := s.cfg.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("gatekeeper: make token: %w", err)
	}
	if len(token) > s.cfg.Profile.Token.MaxBytes {
		return nil, ErrTokenTooLong
	}
	login := s.cfg.Profile.Login
	payload, err := proto.Marshal(&waWa6.ClientPayload{
		Product: login.Product.Enum(),
		InteropData: &waWa6.ClientPayload_InteropData{
			AccountID:          proto.Uint64(s.cfg.AccountID),
			Token:              []byte(token),
			EnableReadReceipts: proto.Bool(s.cfg.ReadReceipts),
		},
		Device:        proto.Uint32(0),
		Passive:       proto.Bool(false),
		Pull:          proto.Bool(true),
		ConnectType:   waWa6.ClientPayload_WIFI_UNKNOWN.Enum(),
		ConnectReason: reason.Enum(),
		UserAgent: &waWa6.ClientPayload_UserAgent{
			AppVersion: &waWa6.ClientPayload_UserAgent_AppVersion{
				Primary:   proto.Uint32(login.InteropVersion[0]),
				Secondary: proto.Uint32(login.InteropVersion[1]),
				Tertiary:  proto.Uint32(login.InteropVersion[2]),
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("gatekeeper: marshal login payload: %w", err)
	}
	return payload, nil
}
