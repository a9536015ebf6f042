package main

import (
	"maps"
	"slices"

	"go.mau.fi/zeroconfig"
	"maunium.net/go/mautrix/bridgev2/bridgeconfig"
)

// choices are the values of keys that have a few only, where the reading itself refuses others in its own words.
var choices = map[string]string{
	"logging.min_level":                      "trace, debug, info, warn or error",
	"bridge.permissions":                     "a mapping of *, domains and Matrix IDs to relay, commands, user, admin or block",
	"encryption.verification_levels.receive": "unverified, cross-signed-untrusted, cross-signed-tofu, cross-signed-verified or verified",
	"encryption.verification_levels.send":    "unverified, cross-signed-untrusted, cross-signed-tofu, cross-signed-verified or verified",
	"encryption.verification_levels.share":   "unverified, cross-signed-untrusted, cross-signed-tofu, cross-signed-verified or verified",
	"appservice.bot.avatar":                  "an mxc:// address, the word remove, or empty",
}

// valueRules are about values that the framework would take, and not act on.
func valueRules(cfg *bridgeconfig.Config) []rule {
	b := &cfg.Bridge
	rules := []rule{
		{
			b.PortalEventBuffer != 0 || b.AsyncEvents || cfg.AppService.AsyncTransactions,
			"bridge.portal_event_buffer has to be 0, and bridge.async_events and appservice.async_transactions off: all else undoes the order of messages",
		},
		{!slices.Contains([]string{"none", "errors", "all"}, b.BridgeStatusNotices), "bridge.bridge_status_notices has to be none, errors or all"},
		{
			!slices.Contains([]bridgeconfig.PortalCreateFilterMode{"", "deny", "allow"}, b.PortalCreateFilter.Mode),
			"bridge.portal_create_filter.mode has to be deny or allow",
		},
		{cfg.PublicMedia.HashLength < 0 || cfg.PublicMedia.HashLength > 32, "public_media.hash_length has to be from 0 to 32"},
		{
			cfg.Encryption.Rotation.EnableCustom && (cfg.Encryption.Rotation.Milliseconds < 1 || cfg.Encryption.Rotation.Messages < 1),
			"encryption.rotation: milliseconds and messages have to be at least 1",
		},
	}
	for key, c := range map[string]bridgeconfig.CleanupOnLogout{"manual": b.CleanupOnLogout.Manual, "bad_credentials": b.CleanupOnLogout.BadCredentials} {
		for _, action := range []bridgeconfig.CleanupAction{c.Private, c.Relayed, c.SharedNoUsers, c.SharedHasUsers} {
			rules = append(rules, rule{
				!slices.Contains([]bridgeconfig.CleanupAction{"", "nothing", "kick", "unbridge", "delete"}, action),
				"bridge.cleanup_on_logout." + key + ": each value has to be nothing, kick, unbridge or delete",
			})
		}
	}
	for _, server := range slices.Sorted(maps.Keys(cfg.DoublePuppet.Servers)) {
		rules = append(rules, rule{!webAddress(cfg.DoublePuppet.Servers[server]), "double_puppet.servers." + server + " has to be a complete http or https address"})
	}
	for _, w := range cfg.Logging.Writers {
		rules = append(rules, rule{w.Type == zeroconfig.WriterTypeFile && w.Filename == "", "logging.writers: a writer of type file needs a filename"})
	}
	return rules
}
