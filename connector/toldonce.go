package connector

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"maunium.net/go/mautrix/bridgev2/status"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"postern/connector/matrixdurable"
	"postern/database"
)

// newsTold is the kind under which it is on disk that the person of an account was told what keeps it from being connected. It is not for the operator.
const newsTold = "told"

// needsPerson says of a login's state that it does not pass by itself.
func needsPerson(state status.BridgeState) bool {
	return state.StateEvent == status.StateBadCredentials && state.RemoteID != ""
}

// tellOnce tells a person that a login is not connected and needs somebody to do something. The framework says so anew in each run of the process; here it
// is said once until the login has been connected again, and what is said is on disk in the transaction that notes it, so that no kill or
// homeserver that is away loses it.
func (c *Connector) tellOnce(room id.RoomID, state status.BridgeState, content *event.Content) error {
	raw, err := content.MarshalJSON()
	if err != nil {
		return fmt.Errorf("connector: tell a state: %w", err)
	}
	account, now := string(state.RemoteID), time.Now()
	identity := matrixdurable.Identity(newsTold, string(state.Error), account)
	// The time is part of it: what is over and comes again is told again.
	notice := matrixdurable.Notice{ID: matrixdurable.Identity("notice", identity, strconv.FormatInt(now.UnixNano(), 10)), Room: room, Content: raw}
	err = again(c.ctx, func() error {
		return c.db.Do(c.ctx, func(ctx context.Context) error {
			isNew, err := c.db.Operator().NoteTold(ctx, &database.News{Identity: identity, Kind: newsTold, AccountID: account, At: now.UnixMilli()})
			if err != nil || !isNew {
				return err
			}
			return (notices{c.db.Notices()}).AddNotice(ctx, notice)
		})
	})
	if err != nil {
		return fmt.Errorf("connector: tell a state: %w", err)
	}
	c.news.has(account)
	c.stack.Notices.Wake()
	return nil
}
