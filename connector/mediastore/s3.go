package mediastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/rs/zerolog"
)

// S3Config says where an S3-compatible object store is.
type S3Config struct {
	// Endpoint is host or host:port, without a scheme.
	Endpoint string
	// Bucket has to be there already. Prefix begins the names of our objects in it; "" for none. Nothing else may
	// have names that begin so.
	Bucket, Prefix string
	// Region may be "" for stores that have none.
	Region string
	// AccessKey and SecretKey sign requests.
	AccessKey, SecretKey string
	// Insecure means HTTP in place of HTTPS.
	Insecure bool
	// Spool is a folder, which has to be there, for what is being written: an object is uploaded when it is whole, so it takes its size there for
	// that time. Files of an earlier process with our prefix are removed from it.
	Spool string
	// Log is told if the store cannot be reached at the start.
	Log zerolog.Logger
}

const (
	// s3Retries is how often the client tries a request.
	s3Retries = 3
	// s3Stall ends a connection on which nothing has moved for that long.
	s3Stall = 2 * time.Minute
	// s3Greeting bounds the question at the start whether the bucket is there.
	s3Greeting = 15 * time.Second
	// s3Goodbye bounds the cleaning up after an upload that failed.
	s3Goodbye = 15 * time.Second
)

// s3 is the Backend on an object store. A blob is the object {prefix}{name}.
type s3 struct {
	cfg  S3Config
	core *minio.Core
	temp *tempFiles
}

// S3 makes the backend that keeps blobs in a bucket. It fails if the store says that the bucket is not there or not ours; one that cannot be
// reached now is logged and may come later. Each transfer goes over one connection with fixed buffers.
func S3(ctx context.Context, cfg S3Config) (Backend, error) {
	cfg.Prefix = strings.TrimPrefix(cfg.Prefix, "/")
	if cfg.Prefix != "" && !strings.HasSuffix(cfg.Prefix, "/") {
		cfg.Prefix += "/"
	}
	transport, err := minio.DefaultTransport(!cfg.Insecure)
	if err != nil {
		return nil, fmt.Errorf("mediastore: s3: %w", err)
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &movingConn{conn}, nil
	}
	core, err := minio.NewCore(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""), Secure: !cfg.Insecure, Region: cfg.Region,
		Transport: transport, MaxRetries: s3Retries,
	})
	if err != nil {
		return nil, fmt.Errorf("mediastore: s3: %w", err)
	}
	s := &s3{cfg: cfg, core: core}
	if s.temp, err = newTempFiles(cfg.Spool); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s3Greeting)
	defer cancel()
	there, err := core.BucketExists(ctx, cfg.Bucket)
	switch status := answered(err).StatusCode; {
	case err == nil && !there:
		return nil, errors.New("mediastore: s3: there is no such bucket")
	case status == http.StatusForbidden:
		return nil, errors.New("mediastore: s3: the keys are not right for that bucket")
	case status >= 300 && status < 500:
		return nil, fmt.Errorf("mediastore: s3: %w", err)
	case err != nil:
		cfg.Log.Warn().Err(err).Msg("Object store of the media store cannot be reached; attachments have to wait")
	}
	return s, nil
}

// movingConn is a connection with deadlines that move with what is read and written. A write moves that of reading too, since the
// answer to an upload is waited for from its beginning on.
type movingConn struct{ net.Conn }

func (c *movingConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(s3Stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *movingConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(s3Stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// answered is what the store has answered with an error, empty if it was no answer.
func answered(err error) minio.ErrorResponse {
	var answer minio.ErrorResponse
	errors.As(err, &answer)
	return answer
}

// refused makes our errors of the store's.
func refused(what string, err error) error {
	answer := answered(err)
	switch {
	case answer.Code == minio.NoSuchKey || answer.Code == minio.InvalidRange:
		return ErrNotFound
	case answer.StatusCode == http.StatusInsufficientStorage,
		slices.Contains([]string{"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge"}, answer.Code):
		return fmt.Errorf("mediastore: s3: %s: %w: %w", what, ErrFull, err)
	}
	return fmt.Errorf("mediastore: s3: %s: %w", what, err)
}

// verifies says that object stores check what they read.
func (s *s3) verifies() {}

func (s *s3) key(name Name) string { return s.cfg.Prefix + name.String() }

// Create implements Backend.
func (s *s3) Create(context.Context) (Pending, error) {
	file, err := s.temp.create()
	if err != nil {
		return nil, err
	}
	return &pendingUpload{store: s, file: file}, nil
}

// pendingUpload is a blob in the spool.
type pendingUpload struct {
	store *s3
	file  *os.File // nil when it is over
	size  int64
}

func (p *pendingUpload) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.size += int64(n)
	return n, err
}

// Commit implements Pending. An object is there when its upload is complete, and not before. It is sent in one request, which S3 takes up to 5
// GiB: no gatekeeper takes that much, and an upload in parts would leave parts behind when it is cut.
func (p *pendingUpload) Commit(ctx context.Context, name Name) error {
	s := p.store
	info, err := s.core.Client.PutObject(ctx, s.cfg.Bucket, s.key(name), io.NewSectionReader(p.file, 0, p.size), p.size,
		minio.PutObjectOptions{ContentType: contentType, DisableMultipart: true})
	if err == nil && info.Size != p.size {
		err = fmt.Errorf("%d of %d bytes were stored", info.Size, p.size)
	}
	if err != nil {
		// Whatever has arrived must not lie there, and ctx may be what has ended.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), s3Goodbye)
		defer cancel()
		return errors.Join(refused("upload", err), s.Delete(after, name))
	}
	p.Abort()
	return nil
}

// Abort implements Pending.
func (p *pendingUpload) Abort() {
	if p.file != nil {
		p.store.temp.remove(p.file)
		p.file = nil
	}
}

// Open implements Backend. It fetches that range and no more.
func (s *s3) Open(ctx context.Context, name Name, offset, length int64) (io.ReadCloser, error) {
	var options minio.GetObjectOptions
	if err := options.SetRange(offset, offset+length-1); err != nil {
		return nil, refused("download", err)
	}
	body, info, _, err := s.core.GetObject(ctx, s.cfg.Bucket, s.key(name), options)
	if err != nil {
		return nil, refused("download", err)
	}
	if info.Size != length { // the blob ends before, or the store knows no ranges
		return nil, errors.Join(ErrNotFound, body.Close())
	}
	return body, nil
}

// Exists implements Backend.
func (s *s3) Exists(ctx context.Context, name Name) (bool, error) {
	_, err := s.core.StatObject(ctx, s.cfg.Bucket, s.key(name), minio.StatObjectOptions{})
	if err == nil {
		return true, nil
	}
	if err = refused("look", err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return false, err
}

// Delete implements Backend.
func (s *s3) Delete(ctx context.Context, name Name) error {
	if err := s.core.RemoveObject(ctx, s.cfg.Bucket, s.key(name), minio.RemoveObjectOptions{}); err != nil {
		if err = refused("delete", err); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// List implements Backend. Stores list by name, ascending.
func (s *s3) List(ctx context.Context) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		ctx, cancel := context.WithCancel(ctx) // ends the listing if nobody wants it to go on
		defer cancel()
		for object := range s.core.ListObjectsIter(ctx, s.cfg.Bucket, minio.ListObjectsOptions{Prefix: s.cfg.Prefix, Recursive: true}) {
			if object.Err != nil {
				yield(Stored{}, refused("list", object.Err))
				return
			}
			name, ok := parseName(strings.TrimPrefix(object.Key, s.cfg.Prefix))
			if ok && !yield(Stored{Name: name, Modified: object.LastModified}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Stored{}, err)
		}
	}
}

// Clean implements Backend: the spool. In the bucket nothing is ever half there.
func (s *s3) Clean(context.Context) error { return s.temp.clean() }
