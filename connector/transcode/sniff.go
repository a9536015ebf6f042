package transcode

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// SniffBytes is how much of a file's beginning Sniff makes use of.
const SniffBytes = 4096

// MIME types of contents, as Sniff says them.
const (
	jpegType  = "image/jpeg"
	pngType   = "image/png"
	gifType   = "image/gif"
	webpType  = "image/webp"
	bmpType   = "image/bmp"
	tiffType  = "image/tiff"
	heicType  = "image/heic"
	avifType  = "image/avif"
	jxlType   = "image/jxl"
	mp4Type   = "video/mp4"
	gppType   = "video/3gpp"
	gpp2Type  = "video/3gpp2"
	movType   = "video/quicktime"
	webmType  = "video/webm"
	mkvType   = "video/x-matroska"
	aviType   = "video/x-msvideo"
	flvType   = "video/x-flv"
	tsType    = "video/mp2t"
	mpegType  = "video/mpeg"
	wmvType   = "video/x-ms-asf"
	ogvType   = "video/ogg"
	opusType  = "audio/ogg; codecs=opus"
	vorbType  = "audio/ogg; codecs=vorbis"
	oflacType = "audio/ogg; codecs=flac"
	speexType = "audio/ogg; codecs=speex"
	m4aType   = "audio/mp4"
	aacType   = "audio/aac"
	mp3Type   = "audio/mpeg"
	amrType   = "audio/amr"
	amrwbType = "audio/amr-wb"
	wavType   = "audio/wav"
	flacType  = "audio/flac"
	aiffType  = "audio/aiff"
	cafType   = "audio/x-caf"
)

// signatures are contents that a few bytes at the beginning tell.
var signatures = []struct{ start, mimetype string }{
	{"\xff\xd8\xff", jpegType},
	{"\x89PNG\r\n\x1a\n", pngType},
	{"GIF87a", gifType},
	{"GIF89a", gifType},
	{"II*\x00", tiffType},
	{"MM\x00*", tiffType},
	{"\xff\x0a", jxlType},
	{"\x00\x00\x00\x0cJXL \r\n\x87\n", jxlType},
	{"#!AMR-WB\n", amrwbType},
	{"#!AMR\n", amrType},
	{"fLaC", flacType},
	{"caff\x00\x01", cafType},
	{"FLV\x01", flvType},
	{"\x00\x00\x01\xba", mpegType},
	{"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", wmvType},
	{"%PDF-", "application/pdf"},
	{"PK\x03\x04", "application/zip"},
}

// Sniff returns the MIME type of a file by its content: SniffBytes of its beginning,
// or all of it if it is shorter. Sound in an Ogg file is told with its codec, as
// "audio/ogg; codecs=opus"; a file that holds sound alone in a video's container is
// told as video, unless its brand says otherwise. It is "" for what is not known.
func Sniff(head []byte) string {
	head = head[:min(len(head), SniffBytes)]
	for _, s := range signatures {
		if bytes.HasPrefix(head, []byte(s.start)) {
			return s.mimetype
		}
	}
	for _, f := range []func([]byte) string{sniffRIFF, sniffBoxes, sniffOgg, sniffMatroska, sniffBitmap, sniffStream, sniffSound} {
		if mimetype := f(head); mimetype != "" {
			return mimetype
		}
	}
	return ""
}

// at returns n bytes from an offset, or nil if they are not all there.
func at(b []byte, offset, n int) []byte {
	if offset < 0 || offset > len(b)-n {
		return nil
	}
	return b[offset : offset+n]
}

func sniffRIFF(head []byte) string {
	switch form := string(at(head, 8, 4)); string(at(head, 0, 4)) {
	case "RIFF":
		return map[string]string{"WEBP": webpType, "WAVE": wavType, "AVI ": aviType}[form]
	case "FORM":
		return map[string]string{"AIFF": aiffType, "AIFC": aiffType}[form]
	}
	return ""
}

// sniffBoxes tells files of boxes (ISO 14496-12) by their brands, and QuickTime's
// older ones, which have none, by their first box.
func sniffBoxes(head []byte) string {
	switch string(at(head, 4, 4)) {
	case "moov", "mdat", "wide", "pnot":
		return movType
	case "ftyp":
	default:
		return ""
	}
	size := int(min(binary.BigEndian.Uint32(head), SniffBytes))
	major := string(at(head, 8, 4))
	if mimetype := brand(major); mimetype != "" {
		return mimetype
	}
	for offset := 16; offset+4 <= size; offset += 4 {
		if mimetype := brand(string(at(head, offset, 4))); mimetype != "" {
			return mimetype
		}
	}
	if major == "" {
		return ""
	}
	return mp4Type // any other brand is some kind of MP4
}

// brand returns the type of a brand that tells one.
func brand(b string) string {
	switch b {
	case "heic", "heix", "heim", "heis", "hevc", "hevx":
		return heicType
	case "avif", "avis":
		return avifType
	case "M4A ", "M4B ", "M4P ":
		return m4aType
	case "qt  ":
		return movType
	case "mp41", "mp42", "isom", "M4V ", "avc1", "MSNV", "dash":
		return mp4Type
	}
	switch {
	case strings.HasPrefix(b, "3gp"):
		return gppType
	case strings.HasPrefix(b, "3g2"):
		return gpp2Type
	}
	return ""
}

// sniffOgg tells what the first packet of an Ogg file is (RFC 3533, 6).
func sniffOgg(head []byte) string {
	if !bytes.HasPrefix(head, []byte("OggS\x00")) || len(head) < 27 {
		return ""
	}
	packet := head[min(len(head), 27+int(head[26])):]
	for _, s := range []struct{ start, mimetype string }{
		{"OpusHead", opusType}, {"\x01vorbis", vorbType}, {"\x7fFLAC", oflacType}, {"Speex   ", speexType},
		{"\x80theora", ogvType}, {"fishead\x00", ogvType},
	} {
		if bytes.HasPrefix(packet, []byte(s.start)) {
			return s.mimetype
		}
	}
	return "application/ogg"
}

// sniffMatroska looks for the document type in the EBML header (RFC 8794, 11.2.4).
func sniffMatroska(head []byte) string {
	if !bytes.HasPrefix(head, []byte("\x1a\x45\xdf\xa3")) {
		return ""
	}
	header := head[:min(len(head), 128)]
	if bytes.Contains(header, []byte("\x42\x82\x84webm")) {
		return webmType
	}
	if bytes.Contains(header, []byte("matroska")) {
		return mkvType
	}
	return ""
}

// sniffBitmap tells a Windows bitmap, whose mark is two letters only, by the length of
// its second header as well.
func sniffBitmap(head []byte) string {
	if !bytes.HasPrefix(head, []byte("BM")) || len(head) < 18 {
		return ""
	}
	switch binary.LittleEndian.Uint32(head[14:]) {
	case 12, 40, 52, 56, 64, 108, 124:
		return bmpType
	}
	return ""
}

// sniffStream tells an MPEG transport stream by the marks of its first packets.
func sniffStream(head []byte) string {
	const packet = 188
	if len(head) < 3*packet {
		return ""
	}
	for offset := 0; offset < 3*packet; offset += packet {
		if head[offset] != 0x47 {
			return ""
		}
	}
	return tsType
}

// sniffSound tells MP3 and AAC by two frames in a row, or by the tag of names that
// goes before them.
func sniffSound(head []byte) string {
	if tag := at(head, 0, 10); tag != nil && string(tag[:3]) == "ID3" && tag[3] < 0xff && tag[4] < 0xff {
		size := int(tag[6]&0x7f)<<21 | int(tag[7]&0x7f)<<14 | int(tag[8]&0x7f)<<7 | int(tag[9]&0x7f)
		if rest := head[min(len(head), 10+size):]; adtsFrame(rest) > 0 {
			return aacType
		}
		return mp3Type
	}
	for _, kind := range []struct {
		frame    func([]byte) int
		mimetype string
	}{{adtsFrame, aacType}, {mp3Frame, mp3Type}} {
		first := kind.frame(head)
		if first == 0 {
			continue
		}
		if len(head) < first+4 && first <= SniffBytes || kind.frame(head[min(first, len(head)):]) > 0 {
			return kind.mimetype
		}
	}
	return ""
}

// adtsFrame returns the length of an AAC frame (ISO 13818-7, 6.2), 0 if there is none.
func adtsFrame(b []byte) int {
	if len(b) < 7 || b[0] != 0xff || b[1]&0xf6 != 0xf0 || b[2]>>2&0xf > 12 {
		return 0
	}
	length := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
	if length < 7 {
		return 0
	}
	return length
}

// Bit rates of layer III in kbit/s and sampling rates in Hz (ISO 11172-3, 2.4.2.3;
// ISO 13818-3 for the half and quarter rates).
var (
	mp3Rates = [2][16]int{
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0},
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},
	}
	mp3Samples = [3]int{44100, 48000, 32000}
)

// mp3Frame returns the length of a frame of layer III, 0 if there is none.
func mp3Frame(b []byte) int {
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe6 != 0xe2 {
		return 0
	}
	version := b[1] >> 3 & 3 // 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
	rate, sample := int(b[2]>>4), int(b[2]>>2&3)
	if version == 1 || sample == 3 {
		return 0
	}
	half, factor, hz := 1, 72000, mp3Samples[sample]/2
	switch version {
	case 3:
		half, factor, hz = 0, 144000, mp3Samples[sample]
	case 0:
		hz /= 2
	}
	if mp3Rates[half][rate] == 0 {
		return 0
	}
	return factor*mp3Rates[half][rate]/hz + int(b[2]>>1&1)
}
