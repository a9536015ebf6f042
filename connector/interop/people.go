package interop

import (
	"context"
	"sync"

	"postern/connector/jid"
)

// maxPeople bounds the people an account remembers between look-ups.
const maxPeople = 1024

// people remembers who is behind an address or a chat. Entries never change, so
// there is nothing to invalidate; when full, a few are forgotten.
type people struct {
	store Directory

	mu     sync.Mutex
	byJID  map[jid.JID]Peer
	byChat map[string]Peer
}

func newPeople(store Directory) *people {
	return &people{store: store}
}

// at returns the person behind an address, whatever the device.
func (p *people) at(ctx context.Context, j jid.JID) (Peer, error) {
	return p.behind(ctx, j, p.store.PeerByJID)
}

// known is at for a person there is a chat with already; else ErrNoChat.
func (p *people) known(ctx context.Context, j jid.JID) (Peer, error) {
	return p.behind(ctx, j, p.store.FindPeer)
}

func (p *people) behind(ctx context.Context, j jid.JID, find func(context.Context, jid.JID) (Peer, error)) (Peer, error) {
	j = j.Bare()
	p.mu.Lock()
	peer, ok := p.byJID[j]
	p.mu.Unlock()
	if ok {
		return peer, nil
	}
	peer, err := find(ctx, j)
	if err == nil {
		p.remember(peer)
	}
	return peer, err
}

// in returns the other side of a chat.
func (p *people) in(ctx context.Context, chat string) (Peer, error) {
	p.mu.Lock()
	peer, ok := p.byChat[chat]
	p.mu.Unlock()
	if ok {
		return peer, nil
	}
	peer, err := p.store.PeerByChat(ctx, chat)
	if err == nil {
		p.remember(peer)
	}
	return peer, err
}

func (p *people) remember(peer Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.byChat) >= maxPeople {
		n := maxPeople / 8
		for chat, old := range p.byChat { // in random order
			delete(p.byChat, chat)
			delete(p.byJID, old.JID)
			if n--; n == 0 {
				break
			}
		}
	}
	put(&p.byJID, peer.JID, peer)
	put(&p.byChat, peer.Chat, peer)
}
