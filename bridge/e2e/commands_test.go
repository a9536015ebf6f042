package e2e_test

import (
	"testing"
	"time"

	"postern/bridge/parts"
)

func TestStartingAChatSaysWhetherItIsNew(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	since := time.Now().Add(-time.Millisecond)
	s.command("start-chat " + ben.Phone)
	must(s.BotSays(s.ctx, s.person, s.management, since, "created a chat"))(t)
	s.command("start-chat " + ben.Phone)
	must(s.BotSays(s.ctx, s.person, s.management, since, "already have a chat"))(t)
}

func TestALaterLoginThatFailsLeavesTheEarlierOneRunning(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	ben := s.phone("Ben", true)
	room := s.startChat(ben)
	must(s.Gatekeeper.AddFault(s.ctx, parts.Fault{Kind: "enlist_fail", Reason: "unavailable", Count: 1}))(t)
	since := time.Now().Add(-time.Millisecond)
	s.command("login")
	must(s.BotSays(s.ctx, s.person, s.management, since, "please enter"))(t)
	s.command("agree")
	must(s.BotSays(s.ctx, s.person, s.management, since, "refused"))(t)
	s.toPhone(room, ben, "still here")
}

func TestTheBridgeSpeaksTheLanguageThatSomebodyChose(t *testing.T) {
	t.Parallel()
	s := open(t, setting{})
	since := time.Now().Add(-time.Millisecond)
	s.command("language klingon")
	must(s.BotSays(s.ctx, s.person, s.management, since, "does not speak that language"))(t)
	s.command("language de")
	must(s.BotSays(s.ctx, s.person, s.management, since, "spricht die Bridge Deutsch"))(t)
	s.command("start-chat 0151")
	must(s.BotSays(s.ctx, s.person, s.management, since, "muss in internationaler Form sein"))(t)
	s.ok(s.Bridge.Stop())
	s.ok(s.Bridge.Start(s.ctx))
	s.command("language")
	must(s.BotSays(s.ctx, s.person, s.management, since, "spricht Deutsch mit dir"))(t)
}
