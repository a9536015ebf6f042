// Package transcode says what a file is, and makes of it what a phone or a Matrix
// client can show. It implements the kinds of PROTOCOL.md 6.4 and 7.5: dimensions,
// durations, thumbnails and waveforms that are true.
//
// Layer: a tool of the connector, beside convert. It knows profile and nothing else of
// this module; in particular it must not know Matrix, WhatsApp's messages, or where
// files come from.
//
// It works on files in a folder that the caller owns, since the programs it starts
// need files. Images are read here; for video, sound and the newest image formats it
// starts ffmpeg and ffprobe where they are installed. Files come from anybody, so:
// nothing is decoded before the number of its pixels has been read and found bounded;
// a format is known by its content, never by a name; the programs are told the format
// and may open nothing but that one file; no name of a user's reaches their command
// line; and what they print, which may repeat parts of a file, is never logged. That
// is also why go.mau.fi/util/ffmpeg is not used: it lets the prober choose the format
// and logs what the programs print.
package transcode

import (
	"errors"
	"time"
)

// Role is how a file is shown in a chat.
type Role string

// The roles.
const (
	Image    Role = "image"
	Video    Role = "video"
	GIF      Role = "gif" // a video that loops without sound
	Voice    Role = "voice"
	Audio    Role = "audio"
	Document Role = "document"
	Sticker  Role = "sticker"
)

// maxPixels is how many pixels an image or a picture of a video may have; what has
// more is not decoded.
const maxPixels = 100_000_000

// Errors. None has a word of a file in it.
var (
	// ErrNoTool: ffmpeg (or ffprobe) is needed and not installed.
	ErrNoTool = errors.New("ffmpeg is not installed")
	// ErrConvert: the file could not be read or converted; it may be damaged, or of a
	// kind that the installed ffmpeg does not know.
	ErrConvert = errors.New("the file could not be converted")
	// ErrTooBig: the picture has more than 100 million pixels.
	ErrTooBig = errors.New("the picture is too big")
	// ErrKind: the content is of no kind that can be shown this way.
	ErrKind = errors.New("the content is of no such kind")
)

// Fallback is why a file goes as a document: its Reason wraps ErrNoTool, ErrConvert,
// ErrTooBig or ErrKind.
type Fallback struct{ Reason error }

// Error says the reason.
func (f *Fallback) Error() string { return "goes as a document: " + f.Reason.Error() }

// Unwrap returns the reason.
func (f *Fallback) Unwrap() error { return f.Reason }

// Info is what a file turns out to be.
type Info struct {
	// Mimetype is that of the content, "" if it is not known.
	Mimetype string
	// Width and Height are in pixels as the picture is shown, after it has been turned.
	Width, Height int
	// Duration is that of sound or video.
	Duration time.Duration
	// Rotated: the picture is stored turned by a quarter, so Width and Height are
	// swapped against what is stored.
	Rotated bool
	// Animated: an image with more than one picture.
	Animated bool
	// Alpha: an image that may be transparent somewhere.
	Alpha bool
	// HasVideo and HasAudio: sound and moving pictures in it. An image has neither.
	HasVideo, HasAudio bool
}

// Made is a file that a phone can show.
type Made struct {
	// Path is the file: the one that was given, if nothing had to be made of it, or a
	// new one in the same folder.
	Path string
	// Mimetype is what the message says, as the profile writes it; "" for a document
	// whose content is of no known type.
	Mimetype string
	// Role is what the file goes as.
	Role Role
	// Info is about the file at Path, as far as it could be learnt.
	Info Info
	// Fallback is not nil if the file goes as a document because it could not be made
	// showable.
	Fallback *Fallback
}
