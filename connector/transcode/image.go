package transcode

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"
	"golang.org/x/image/tiff"
	"golang.org/x/image/webp"
)

// decoder reads one format of images.
type decoder struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

// decoders are the formats that are read here. For an image with several pictures they
// give the first.
var decoders = map[string]decoder{
	jpegType: {jpeg.DecodeConfig, jpeg.Decode},
	pngType:  {png.DecodeConfig, png.Decode},
	gifType:  {gif.DecodeConfig, gif.Decode},
	webpType: {webp.DecodeConfig, webp.Decode},
	bmpType:  {bmp.DecodeConfig, bmp.Decode},
	tiffType: {tiff.DecodeConfig, tiff.Decode},
}

// maxDecoded is how many bytes a decoded image may take: one of 100 million pixels with four
// bytes each. largeImage is from where on only one is decoded at a time in the program.
const (
	maxDecoded = 4 * maxPixels
	largeImage = 64 << 20
)

// large is taken while a large image is in memory.
var large = make(chan struct{}, 1)

// still is an image file that can be decoded here.
type still struct {
	file          *os.File
	mimetype      string
	orientation   int
	width, height int // as stored
	bytes         int64
	alpha         bool
	animated      bool
}

// openStill looks at an image file without decoding it. Close its file.
func openStill(path string) (s *still, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", withoutPath(err))
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	mimetype, err := sniffFile(f)
	if err != nil {
		return nil, err
	}
	s = &still{file: f, mimetype: mimetype, orientation: orientationOf(f, mimetype)}
	if err = s.readConfig(); err != nil {
		return nil, err
	}
	return s, nil
}

// reader gives the file's bytes, for a WebP with several pictures those of the first.
func (s *still) reader() io.Reader {
	if s.mimetype == webpType {
		if from, to, animated := webpChunks(s.file); animated {
			return firstPicture(s.file, from, to)
		}
	}
	return io.NewSectionReader(s.file, 0, maxFile)
}

// readConfig learns how large the picture is and refuses what is too large.
func (s *still) readConfig() error {
	d, ok := decoders[s.mimetype]
	if !ok {
		return ErrKind
	}
	config, err := guardConfig(d, s.reader())
	if err != nil {
		return err
	}
	s.width, s.height = config.Width, config.Height
	each, alpha := pixel(config.ColorModel)
	s.alpha = alpha
	switch s.mimetype {
	case gifType:
		s.alpha, s.animated = true, gifAnimated(io.NewSectionReader(s.file, 0, maxFile)) // known only when decoded
	case webpType:
		from, to, animated := webpChunks(s.file)
		s.animated = animated
		if w, h := webpSize(s.file, from, to); w != s.width || h != s.height {
			return fmt.Errorf("%w: its size is not what it says", ErrConvert)
		}
	case jpegType:
		if readJPEGHeader(io.NewSectionReader(s.file, 0, maxFile)).progressive {
			each += 12 // coefficients are kept until the end
		}
	}
	if s.width < 1 || s.height < 1 {
		return fmt.Errorf("%w: it has no pixels", ErrConvert)
	}
	if int64(s.width) > maxPixels/int64(s.height) {
		return ErrTooBig
	}
	s.bytes = each * int64(s.width) * int64(s.height)
	return nil
}

// pixel returns how many bytes a pixel takes in memory, and whether it can be
// transparent.
func pixel(model color.Model) (each int64, alpha bool) {
	if palette, ok := model.(color.Palette); ok {
		for _, c := range palette {
			_, _, _, a := c.RGBA()
			alpha = alpha || a != 0xffff
		}
		return 1, alpha
	}
	switch model {
	case color.GrayModel:
		return 1, false
	case color.Gray16Model:
		return 2, false
	case color.YCbCrModel:
		return 3, false
	case color.RGBA64Model:
		return 8, false
	case color.NRGBA64Model:
		return 8, true
	case color.NRGBAModel, color.NYCbCrAModel:
		return 4, true
	}
	return 4, false
}

// shown returns the size of the picture after it has been turned.
func (s *still) shown() (width, height int) {
	if s.orientation >= 5 {
		return s.height, s.width
	}
	return s.width, s.height
}

// decode reads the picture, as stored. The function that comes with it must be called
// when the picture is not needed any more.
func (s *still) decode(ctx context.Context) (image.Image, func(), error) {
	if s.bytes > maxDecoded {
		return nil, nil, ErrTooBig
	}
	release := func() {}
	if s.bytes > largeImage {
		select {
		case large <- struct{}{}:
			release = func() { <-large }
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for memory: %w", context.Cause(ctx))
		}
	}
	picture, err := guardDecode(decoders[s.mimetype], &contextReader{ctx, s.reader()})
	if err == nil && (picture.Bounds().Dx() != s.width || picture.Bounds().Dy() != s.height) && s.mimetype != gifType {
		err = fmt.Errorf("%w: its size is not what it says", ErrConvert)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return picture, release, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // as long as one call
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// guardConfig and guardDecode make a panic of a decoder an error: files come from
// anybody, and one of them must not end the program.
func guardConfig(d decoder, r io.Reader) (config image.Config, err error) {
	defer guard(&err)
	if config, err = d.config(r); err != nil {
		return config, fmt.Errorf("%w: its header is not sound", ErrConvert)
	}
	return config, nil
}

func guardDecode(d decoder, r *contextReader) (picture image.Image, err error) {
	defer guard(&err)
	if picture, err = d.decode(r); err != nil {
		if r.ctx.Err() != nil {
			return nil, fmt.Errorf("decode image: %w", context.Cause(r.ctx))
		}
		return nil, fmt.Errorf("%w: the picture is not sound", ErrConvert)
	}
	return picture, nil
}

func guard(err *error) {
	if recover() != nil {
		*err = fmt.Errorf("%w: its decoder failed", ErrConvert)
	}
}

// scale makes a picture small enough to fit a square with this side, and turns it as
// its orientation says. It is on white where it is transparent, unless alpha is kept.
func scale(picture image.Image, orientation, side int, alpha bool) image.Image {
	b := picture.Bounds()
	width, height := fit(b.Dx(), b.Dy(), side)
	small := image.NewRGBA(image.Rect(0, 0, width, height))
	if !alpha {
		draw.Draw(small, small.Bounds(), image.White, image.Point{}, draw.Src)
	}
	if width == b.Dx() && height == b.Dy() {
		draw.Draw(small, small.Bounds(), picture, b.Min, draw.Over)
	} else {
		draw.BiLinear.Scale(small, small.Bounds(), picture, b, draw.Over, nil)
	}
	return turn(small, orientation)
}

// fit returns the size that keeps the proportions in a square with this side; a picture
// is not made larger, and no side becomes nothing.
func fit(width, height, side int) (int, int) {
	if width <= side && height <= side {
		return width, height
	}
	if width >= height {
		return side, max(1, int((int64(height)*int64(side)+int64(width)/2)/int64(width)))
	}
	return max(1, int((int64(width)*int64(side)+int64(height)/2)/int64(height))), side
}

// turn carries out an orientation (TIFF 6.0, Orientation).
func turn(in *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return in
	}
	w, h := in.Bounds().Dx(), in.Bounds().Dy()
	size := image.Rect(0, 0, w, h)
	if orientation >= 5 {
		size = image.Rect(0, 0, h, w)
	}
	out := image.NewRGBA(size)
	for y := range h {
		for x := range w {
			var tx, ty int
			switch orientation {
			case 2:
				tx, ty = w-1-x, y
			case 3:
				tx, ty = w-1-x, h-1-y
			case 4:
				tx, ty = x, h-1-y
			case 5:
				tx, ty = y, x
			case 6:
				tx, ty = h-1-y, x
			case 7:
				tx, ty = h-1-y, w-1-x
			case 8:
				tx, ty = y, w-1-x
			}
			copy(out.Pix[out.PixOffset(tx, ty):][:4], in.Pix[in.PixOffset(x, y):][:4])
		}
	}
	return out
}

// gifAnimated says whether a GIF has a second picture (GIF89a, appendix A).
func gifAnimated(r io.Reader) bool {
	in := newByteReader(r)
	head := in.take(13)
	if head == nil {
		return false
	}
	in.skip(colours(head[10]))
	for pictures := 0; ; {
		switch in.next() {
		case 0x21: // an extension
			in.next()
		case 0x2c: // a picture
			if pictures++; pictures > 1 {
				return true
			}
			descriptor := in.take(9)
			if descriptor == nil {
				return false
			}
			in.skip(colours(descriptor[8]) + 1)
		default: // the end, or nothing that is known
			return false
		}
		for n := in.next(); n > 0; n = in.next() {
			in.skip(n)
		}
	}
}

// colours is the length of the colour table that a field of flags announces.
func colours(flags byte) int {
	if flags&0x80 == 0 {
		return 0
	}
	return 3 << (flags&7 + 1)
}

// encode writes a picture as JPEG, or as PNG.
func encode(w io.Writer, picture image.Image, mimetype string) error {
	if mimetype == pngType {
		return png.Encode(w, picture) //nolint:wrapcheck // the caller does
	}
	return jpeg.Encode(w, picture, &jpeg.Options{Quality: 90}) //nolint:wrapcheck // the caller does
}

// encodeJPEG returns a picture as JPEG.
func encodeJPEG(picture image.Image, quality int) ([]byte, error) {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, picture, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("encode JPEG: %w", err)
	}
	return out.Bytes(), nil
}
