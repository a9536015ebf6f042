package connector

import (
	"context"
	"fmt"
	"strings"

	"maunium.net/go/mautrix/bridgev2"
	"maunium.net/go/mautrix/bridgev2/status"

	"postern/connector/interop"
)

// Error codes of bridge states, and what people read for them.
const (
	stateNoAccount   status.BridgeStateErrorCode = "postern-no-account"
	stateLeaving     status.BridgeStateErrorCode = "postern-leaving"
	stateElsewhere   status.BridgeStateErrorCode = "postern-elsewhere"
	stateSwitchedOff status.BridgeStateErrorCode = "postern-gatekeeper-off"
	stateWaiting     status.BridgeStateErrorCode = "postern-gatekeeper-away"
	stateBanned      status.BridgeStateErrorCode = "postern-banned"
	stateReplaced    status.BridgeStateErrorCode = "postern-replaced"
	stateNotEnlisted status.BridgeStateErrorCode = "postern-not-enlisted"
	stateRefused     status.BridgeStateErrorCode = "postern-refused"
	stateStorage     status.BridgeStateErrorCode = "postern-storage"
	stateFault       status.BridgeStateErrorCode = "postern-fault"
	stateMatrixSlow  status.BridgeStateErrorCode = "postern-matrix-slow"
	stateNoAddress   status.BridgeStateErrorCode = "postern-no-address"
	stateSuspended   status.BridgeStateErrorCode = "postern-suspended"
	stateClock       status.BridgeStateErrorCode = "postern-clock"
	// stateDisconnected is for streams that the operator has closed.
	stateDisconnected status.BridgeStateErrorCode = "postern-disconnected"
	stateMaintenance  status.BridgeStateErrorCode = "postern-maintenance"
)

// sayState sends a state with the words that the person of the login reads. The framework's own table of words has one language, so
// the codes are not in it.
func (c *Connector) sayState(login *bridgev2.UserLogin, state status.BridgeState) {
	if state.Error != "" {
		state.Message = c.wordsFor(login.UserMXID).Text("state." + strings.TrimPrefix(string(state.Error), "postern-"))
	}
	login.BridgeState.Send(state)
}

// Connection implements interop.Upcalls: it puts the state of the stream into the framework's words.
func (c *client) Connection(ctx context.Context, s interop.ConnState) {
	c.seen(ctx, s)
	c.connector.news.state(string(c.login.ID), s)
	if s.Kind == interop.ConnLive {
		c.arrived()
	}
	switch s.Kind {
	case interop.ConnWaiting, interop.ConnBanned, interop.ConnNoAddress, interop.ConnReplaced, interop.ConnRefused:
		c.failing(ctx)
	case interop.ConnLive:
		c.reach.lively()
	}
	if s.Kind == interop.ConnNoAddress {
		c.log.Warn().Msg("Not connected: the gatekeeper is to be told the address of the user's client, and the homeserver does not say it")
	}
	if s.Kind == interop.ConnConnecting && c.rested.Load() {
		return // to the person an account that rests is connected, and stays so unless it fails
	}
	// Without a stream, where none is needed, messages are taken at once too.
	c.live.Store(s.Kind == interop.ConnLive || s.Kind == interop.ConnBackPressure || s.Kind == interop.ConnIdle)
	c.rested.Store(s.Kind == interop.ConnIdle)
	if state, tell := bridgeState(s); tell {
		c.connector.sayState(c.login, state)
	}
}

// bridgeState is what the framework is told of a stream's state, if anything.
func bridgeState(s interop.ConnState) (state status.BridgeState, tell bool) {
	state = status.BridgeState{StateEvent: status.StateTransientDisconnect}
	switch s.Kind {
	case interop.ConnConnecting:
		state.StateEvent = status.StateConnecting
	case interop.ConnLive, interop.ConnIdle:
		state.StateEvent = status.StateConnected
	case interop.ConnWaiting:
		state.Error = stateWaiting
	case interop.ConnBanned:
		state.Error = stateBanned
	case interop.ConnBackPressure:
		state.Error = stateMatrixSlow
	case interop.ConnNoAddress:
		state.Error = stateNoAddress
	case interop.ConnClock:
		state.StateEvent, state.Error = status.StateUnknownError, stateClock
	case interop.ConnStorage:
		state.Error = stateStorage
	case interop.ConnFault:
		state.StateEvent, state.Error = status.StateUnknownError, stateFault
	case interop.ConnReplaced:
		state.StateEvent, state.Error, state.UserAction = status.StateBadCredentials, stateReplaced, status.UserActionRelogin
	case interop.ConnNotEnlisted:
		state.StateEvent, state.Error, state.UserAction = status.StateBadCredentials, stateNotEnlisted, status.UserActionRelogin
	case interop.ConnRefused:
		state.StateEvent, state.Error = status.StateBadCredentials, stateRefused
	case interop.ConnDeleted:
		state.StateEvent = status.StateLoggedOut
	case connDisconnected:
		state.Error = stateDisconnected
	case connMaintenance:
		state.Error = stateMaintenance
	default: // the end of a run, and what a later version may add
		return state, false
	}
	return withCode(state, s.Code), true
}

// withCode adds the gatekeeper's code to a state, if there is one.
func withCode(state status.BridgeState, code int) status.BridgeState {
	if code != 0 {
		state.Info = map[string]any{"code": code}
		state.Reason = fmt.Sprintf("code %d", code)
	}
	return state
}
