package sandbox

import (
	"slices"
	"strings"
)

const (
	keptFiles     = 100_000  // files of media
	keptFileBytes = 16 << 30 // bytes of them all; the oldest go
)

// mediaFile is a file in the depot: one that a phone has sent, encrypted and served to the partner under Path,
// or one that a phone has received, decrypted, with an empty Path.
type mediaFile struct {
	Seq     uint64
	Name    string // in the depot
	Phone   string
	Account string
	ID      string // of the message
	Path    string // directPath, with its query
	Size    int64  // bytes of the file
	At      int64
}

func (f *mediaFile) storeKey() string { return "file/" + seqKey(f.Seq) }

// pathOnly is a directPath without its query.
func pathOnly(directPath string) string {
	path, _, _ := strings.Cut(directPath, "?")
	return path
}

// keepFile registers a file that is in the depot. The oldest make room for it.
func (c change) keepFile(s *Server, f *mediaFile) {
	f.Seq, f.At = c.order(), unix(s.now())
	u := c.users[f.Phone]
	if old := u.phone.got[heardKey{f.Account, f.ID}]; old != nil && f.Path == "" {
		c.dropFile(s, old)
	}
	c.placeFile(u, f)
	c.put(f)
	for len(c.files) > 1 && (len(c.files) > keptFiles || c.fileBytes > keptFileBytes) {
		c.dropFile(s, c.files[0])
	}
}

func (s *state) placeFile(u *user, f *mediaFile) {
	s.files = append(s.files, f)
	s.fileBytes += f.Size
	if f.Path != "" {
		s.hosted[pathOnly(f.Path)] = f
	} else {
		u.phone.got[heardKey{f.Account, f.ID}] = f
	}
}

// dropFile forgets a file and deletes it. A crash in between leaves a record without a file, which is as good as
// no record.
func (c change) dropFile(s *Server, f *mediaFile) {
	if i := slices.Index(c.files, f); i == 0 {
		c.state.files = c.files[1:]
	} else if i > 0 {
		c.state.files = slices.Delete(c.files, i, i+1)
	}
	c.state.fileBytes -= f.Size
	if f.Path != "" {
		delete(c.hosted, pathOnly(f.Path))
	} else {
		delete(c.users[f.Phone].phone.got, heardKey{f.Account, f.ID})
	}
	c.drop(f)
	s.depot.remove(f.Name)
}

// sweepFiles drops the files of before limit, Unix seconds.
func (c change) sweepFiles(s *Server, limit int64) {
	for len(c.files) > 0 && c.files[0].At < limit {
		c.dropFile(s, c.files[0])
	}
}

// sweepDepot removes files that no record names.
func (s *Server) sweepDepot() error {
	known := map[string]bool{}
	s.state.view(func() {
		for _, f := range s.state.files {
			known[f.Name] = true
		}
	})
	return s.depot.sweep(known)
}
