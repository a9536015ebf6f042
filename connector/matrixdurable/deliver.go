package matrixdurable

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/networkid"
)

// Errors of Deliver.
var (
	// ErrUnknown: nobody knows whether the event has reached Matrix. It is to be delivered again, as
	// uncertain.
	ErrUnknown = errors.New("matrixdurable: deliver: outcome unknown")
	// ErrIgnored: the framework did not want the event, for example because the chat has no room and may not get one.
	ErrIgnored = errors.New("matrixdurable: deliver: ignored by the framework")
)

// Deliver hands a remote message to the framework and returns nil if and only if Matrix has all of it: the framework's
// message table is asked, since its answer ("queued", "ignored", "success") does not tell. It needs
// portal_event_buffer: 0, and must not be called from within a handler of the same portal.
//
// Errors: what the framework reports, ErrUnknown, ErrIgnored. Permanent tells those that will not go away.
func Deliver(ctx context.Context, login *bridgev2.UserLogin, evt bridgev2.RemoteMessage, parts []networkid.PartID) error {
	result := login.QueueRemoteEvent(evt)
	missing, err := Missing(ctx, login, evt.GetPortalKey(), evt.GetID(), parts)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if len(missing) == 0 {
		return nil
	}
	return outcome(result)
}

// Missing returns those of a remote message's parts that Matrix does not have according to the framework's table.
func Missing(ctx context.Context, login *bridgev2.UserLogin, portal networkid.PortalKey, message networkid.MessageID, parts []networkid.PartID) ([]networkid.PartID, error) {
	rows, err := login.Bridge.DB.Message.GetAllPartsByID(ctx, portal.Receiver, message)
	if err != nil {
		return nil, err
	}
	have := make(map[networkid.PartID]bool, len(rows))
	for _, row := range rows {
		have[row.PartID] = true
	}
	var missing []networkid.PartID
	for _, p := range parts {
		if !have[p] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// Permanent says whether an error is a refusal by the homeserver that repeating does not change: the event is too large or malformed, or the
// sender may not write to the room.
func Permanent(err error) bool {
	switch codeOf(err) {
	case "":
		return false
	case "M_FORBIDDEN", "M_TOO_LARGE", "M_BAD_JSON", "M_NOT_JSON", "M_INVALID_PARAM", "M_MISSING_PARAM",
		"M_NOT_FOUND", "M_GUEST_ACCESS_FORBIDDEN", "M_UNSUPPORTED_ROOM_VERSION", "M_INCOMPATIBLE_ROOM_VERSION",
		"M_BAD_STATE", "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM":
		return true
	}
	return statusOf(err) == http.StatusRequestEntityTooLarge
}

// Refusal names the reason of a permanent error in one word without user data: forbidden, too_large, not_found or refused.
func Refusal(err error) string {
	switch codeOf(err) {
	case "M_FORBIDDEN", "M_GUEST_ACCESS_FORBIDDEN":
		return "forbidden"
	case "M_TOO_LARGE":
		return "too_large"
	case "M_NOT_FOUND":
		return "not_found"
	}
	if statusOf(err) == http.StatusRequestEntityTooLarge {
		return "too_large"
	}
	return "refused"
}

// Away says whether an error means that the homeserver cannot be reached for now, or asks for patience; it says nothing about what was asked.
func Away(err error) bool {
	switch status := statusOf(err); status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return true
	default:
		return err != nil && status == 0
	}
}

// codeOf returns the homeserver's error code behind an error, "" if there is none.
func codeOf(err error) string {
	var refusal mautrix.HTTPError
	if errors.As(err, &refusal) && refusal.RespError != nil {
		return refusal.RespError.ErrCode
	}
	return ""
}

// statusOf returns the HTTP status behind an error, 0 if there is none.
func statusOf(err error) int {
	var refusal mautrix.HTTPError
	if errors.As(err, &refusal) && refusal.Response != nil {
		return refusal.Response.StatusCode
	}
	return 0
}
