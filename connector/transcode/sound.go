package transcode

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"time"
)

// oggEnd is how much of an Ogg file's end is searched for its last page; a page has at
// most 65,307 bytes (RFC 3533, 6).
const oggEnd = 66 << 10

// oggDuration returns how long an Ogg file with Opus or Vorbis plays (RFC 7845, 4 and
// 5.1), 0 if it cannot be told.
func oggDuration(file io.ReaderAt, size int64) time.Duration {
	var head [256]byte
	n, _ := file.ReadAt(head[:], 0)
	first := head[:n]
	if len(first) < 28 || string(first[:4]) != "OggS" {
		return 0
	}
	serial := first[14:18]
	packet := first[min(len(first), 27+int(first[26])):]
	var rate, skip uint64
	switch {
	case bytes.HasPrefix(packet, []byte("OpusHead")) && len(packet) >= 19:
		rate, skip = 48000, uint64(binary.LittleEndian.Uint16(packet[10:]))
	case bytes.HasPrefix(packet, []byte("\x01vorbis")) && len(packet) >= 16:
		rate = uint64(binary.LittleEndian.Uint32(packet[12:]))
	default:
		return 0
	}
	end := make([]byte, min(size, oggEnd))
	n, _ = file.ReadAt(end, size-int64(len(end)))
	for end = end[:n]; ; {
		i := bytes.LastIndex(end, []byte("OggS\x00"))
		if i < 0 {
			return 0
		}
		page := end[i:]
		end = end[:i]
		if len(page) < 27 || !bytes.Equal(page[14:18], serial) {
			continue
		}
		if samples := binary.LittleEndian.Uint64(page[6:]); samples != math.MaxUint64 && samples >= skip {
			return duration(samples-skip, rate)
		}
	}
}

// wavDuration returns how long a WAV file plays, 0 if it cannot be told.
func wavDuration(file io.ReaderAt, size int64) time.Duration {
	var rate uint64
	for at, chunks := int64(12), 0; at+8 <= size && chunks < maxBoxes; chunks++ {
		var b [20]byte
		n, _ := file.ReadAt(b[:], at)
		if n < 8 {
			return 0
		}
		length := int64(binary.LittleEndian.Uint32(b[4:]))
		switch string(b[:4]) {
		case "fmt ":
			if n < 20 {
				return 0
			}
			rate = uint64(binary.LittleEndian.Uint32(b[16:]))
		case "data":
			return duration(uint64(min(length, size-at-8)), rate) // one that was streamed says too much
		}
		at += 8 + length + length&1
	}
	return 0
}
