package convert

import (
	"maps"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// hasFile says what an edited message has.
func hasFile(role Role) string { return "The message has " + role.Noun() + "." }

// unfetchable says that a file cannot be had.
func unfetchable(role Role) string {
	return "Sent " + role.Noun() + " that cannot be fetched: its address or its key is missing."
}

// isFile says whether a noun is that of a file.
func isFile(noun string) bool {
	for _, r := range roles {
		if noun != "" && r.noun == noun {
			return true
		}
	}
	return false
}

// Phrases are all texts that Options.Words is asked for, sorted: whoever speaks another language has words for each.
func Phrases() []string {
	all := map[string]bool{}
	for _, text := range []string{
		payload{}.say(), payload{}.viewOnce(), anotherKind, editedTo, stickerName, drawnSticker, pollHint, placeless, livePlace, liveSign, deletedWhich,
		deletedTheirs, tookBack, anAlbum, anAlbumOf, and, oneImage, manyImages, oneVideo, manyVideos, "Reacted to a message" + later,
	} {
		all[text] = true
	}
	add := func(p payload) {
		if p.silent != Shown {
			return
		}
		all[p.say()], all[p.viewOnce()] = true, true
		if _, noun, _ := strings.Cut(p.noun, " "); noun != "" {
			all["["+noun+"]"] = true
		}
	}
	for _, p := range payloads {
		add(p)
	}
	for role, r := range roles {
		all[hasFile(role)], all[unfetchable(role)], all[r.sign] = true, true, true
		add(payload{noun: r.noun})
	}
	add(payload{noun: "a message"})
	for number := range waE2E.ProtocolMessage_Type_name {
		add(protocol(&waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_Type(number).Enum()}))
	}
	return slices.Sorted(maps.Keys(all))
}
