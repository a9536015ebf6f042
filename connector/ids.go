package connector

import (
	"strings"

	"maunium.net/go/mautrix/bridgev2/networkid"

	"postern/connector/profile"
)

// Ids on the Matrix side are made of opaque local ids and the profile's prefix. They are in rooms and log
// lines for ever, so nothing of an address is in them, and they are never made anew.

// ghostID is the id of a contact's ghost.
func ghostID(p *profile.Profile, contact string) networkid.UserID {
	return networkid.UserID(p.Prefix + "-" + contact)
}

// selfID is the id under which the framework knows an account's own person. It has a letter of its own, so that
// it is never a contact's.
func selfID(p *profile.Profile, account string) networkid.UserID {
	return networkid.UserID(p.Prefix + "-me-" + account)
}

// contactOf returns the contact's local id in a ghost id of that profile.
func contactOf(p *profile.Profile, ghost networkid.UserID) (string, bool) {
	contact, found := strings.CutPrefix(string(ghost), p.Prefix+"-")
	return contact, found && contact != "" && !strings.Contains(contact, "-")
}

// loginID is the framework's id of an account.
func loginID(account string) networkid.UserLoginID { return networkid.UserLoginID(account) }

// portalKey is the framework's id of a chat: the chat's local id, never the other person's.
func portalKey(account, chat string) networkid.PortalKey {
	return networkid.PortalKey{ID: networkid.PortalID(chat), Receiver: loginID(account)}
}

// incomingID and outgoingID are the framework's ids of messages. A stanza id is chosen by its sender and known to the other side, so
// chat and direction are in it: nobody can take the place of somebody else's message.
func incomingID(chat, stanza string) networkid.MessageID {
	return networkid.MessageID("in/" + chat + "/" + stanza)
}

func outgoingID(chat, stanza string) networkid.MessageID {
	return networkid.MessageID("out/" + chat + "/" + stanza)
}
