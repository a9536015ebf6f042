package admin

import (
	"slices"
	"strings"
	"time"
)

// Levels are the levels of the log, from the one that says most.
var Levels = []string{"trace", "debug", "info", "warn", "error"}

// LevelConfigured as a level ends what was set.
const LevelConfigured = "configured"

// ComponentFramework is the component of lines that name none.
const ComponentFramework = "framework"

// Components are the names that lines of the log have in their field component, for those who set levels.
var Components = []string{"connector", "database", "mediastore", "matrix", "admin", "provisioning", ComponentFramework}

// LogLevels are the levels of the log at this time.
type LogLevels struct {
	// Level is that of all components that are not in Components.
	Level      string            `json:"level"`
	Configured string            `json:"configured"`
	Components map[string]string `json:"components"`
}

// Level is what a log-level order sets: the level of a component, of all for "", or for the level "" what is configured. set is
// false if it only asks.
func (o *Order) Level() (component, level string, set bool) {
	switch len(o.Words) {
	case 0:
		return "", "", false
	case 1:
		level = o.Words[0]
	default:
		component, level = o.Words[0], o.Words[1]
	}
	if level == LevelConfigured {
		return "", "", true
	}
	return component, level, true
}

// checkLevel says what is wrong with a log-level order, "" for nothing.
func (o *Order) checkLevel() (kind, word string) {
	if len(o.Words) == 0 {
		return "", ""
	}
	level := o.Words[len(o.Words)-1]
	if !slices.Contains(Levels, level) && (level != LevelConfigured || len(o.Words) != 1) {
		return WrongLevel, level
	}
	if len(o.Words) > 1 && !slices.Contains(Components, o.Words[0]) {
		return WrongComponent, o.Words[0]
	}
	return "", ""
}

// States of a signing key.
const (
	KeySigns   = "signs"
	KeyNext    = "next"
	KeyRetired = "retired"
)

// Key is one of the keys that tokens are checked with. Only what is public of it is here.
type Key struct {
	ID    string `json:"id"`
	State string `json:"state"`
	// Published is since when it can be fetched, Until when it no longer can, for one that has retired.
	Published time.Time `json:"published"`
	Until     time.Time `json:"until,omitzero"`
}

// MediaCount is a number of files, and their bytes.
type MediaCount struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (c *MediaCount) add(other MediaCount) {
	c.Files, c.Bytes = c.Files+other.Files, c.Bytes+other.Bytes
}

// MediaUse is what is in the media store, by state.
type MediaUse struct {
	// Waiting were not fetched whole yet, Fetched were, Expired can be fetched no more and are deleted within an hour.
	Waiting MediaCount `json:"waiting"`
	Fetched MediaCount `json:"fetched"`
	Expired MediaCount `json:"expired"`
}

// Bytes is the size of all.
func (u *MediaUse) Bytes() int64 { return u.Waiting.Bytes + u.Fetched.Bytes + u.Expired.Bytes }

// Add adds another sum.
func (u *MediaUse) Add(other *MediaUse) {
	u.Waiting.add(other.Waiting)
	u.Fetched.add(other.Fetched)
	u.Expired.add(other.Expired)
}

// MediaUser is what one account has in the media store. User is "" for one that is gone.
type MediaUser struct {
	Account string   `json:"account"`
	User    string   `json:"user_id"`
	Use     MediaUse `json:"use"`
}

// Media is what is in the media store: of all, and of those who have the most, as many as were asked for.
type Media struct {
	All   MediaUse    `json:"all"`
	Users []MediaUser `json:"users"`
}

// purgeAge is how long ago an attachment was fetched, at least, that is purged: whoever's connection broke has fetched it again by then.
const purgeAge = 24 * time.Hour

// Purge is what a media-purge order is about: whose attachments, "" for everybody's, and how long ago they were fetched at least.
func (o *Order) Purge() (who string, age time.Duration) {
	age = purgeAge
	for _, word := range o.Words {
		if d, err := time.ParseDuration(word); err == nil {
			age = d
		} else {
			who = word
		}
	}
	return who, age
}

// checkPurge says what is wrong with a media-purge order.
func (o *Order) checkPurge() (kind, word string) {
	ages, names := 0, 0
	for _, word := range o.Words {
		if d, err := time.ParseDuration(word); err == nil {
			if ages++; d < 0 || ages > 1 {
				return WrongMore, word
			}
			continue
		}
		if names++; names > 1 {
			return WrongMore, word
		}
		if !ValidUser(word) && !ValidID(word) {
			return WrongWho, word
		}
	}
	return "", ""
}

// Maintenance is whether all streams are to be closed.
type Maintenance struct {
	On    bool      `json:"on"`
	Since time.Time `json:"since,omitzero"`
	// Reason is what users are told.
	Reason string `json:"reason,omitempty"`
	// Streams are those that are not closed, or not paused, yet.
	Streams int `json:"streams"`
}

// Maintenance is what a maintenance order sets; set is false if it only asks.
func (o *Order) Maintenance() (on bool, reason string, set bool) {
	if len(o.Words) == 0 {
		return false, "", false
	}
	return o.Words[0] == "on", strings.Join(o.Words[1:], " "), true
}

// validParts says whether the parts about the bridge are what a bridge has written.
//
//nolint:gocyclo // one case for each part
func (a *Answer) validParts() bool {
	if a.Outcome != "" && !validWord(string(a.Outcome)) {
		return false
	}
	for _, k := range a.Keys {
		if !shown(k.ID) || !validWord(k.State) {
			return false
		}
	}
	if a.Log != nil {
		for component, level := range a.Log.Components {
			if !ValidID(component) || !ValidID(level) {
				return false
			}
		}
		if !ValidID(a.Log.Level) || !ValidID(a.Log.Configured) {
			return false
		}
	}
	if a.Maintenance != nil && !ValidReason(a.Maintenance.Reason) {
		return false
	}
	if a.Media != nil {
		for _, u := range a.Media.Users {
			if !ValidID(u.Account) || u.User != "" && !ValidUser(u.User) {
				return false
			}
		}
	}
	return true
}
