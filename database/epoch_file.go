package database

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The epoch file has two lines. The first is written once, whole and synced, under another name that then becomes this
// one: whose file it is, whether the database was closed in order, from where to where its counter is reserved, and whether there are heads in
// it (see rows.go), which a file of an earlier program does not say. The
// second, the mark, is the counter of the last commit that succeeded. It is written over again and again in its place
// and never synced: a process that is killed leaves it behind exactly, a power cut may leave an earlier one, or none. Each
// line ends with a checksum.
const (
	epochPrefix = "postern-epoch-1"
	epochOpen   = "open"
	epochClosed = "closed"
	epochHeads  = "heads"
	// maxEpochFile is the most an epoch file may hold, in bytes.
	maxEpochFile = 512
	// markSize is the length of the mark: 20 digits, a space, 8 digits of the checksum, a line feed.
	markSize = 20 + 1 + 8 + 1
)

// errEpochDamaged: the file was ours, and is not whole.
var errEpochDamaged = errors.New("database: epoch file: damaged")

// epochState is what the epoch file says.
type epochState struct {
	database, branch string
	closed           bool
	heads            bool // there are heads in the database
	// low and high are the counters between which the database's lies, both included; the same if it was closed in order.
	low, high int64
	// mark is the counter of the last commit that is known to have succeeded, at least low.
	mark int64
}

func checksum(s string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(s))) }

func (s *epochState) head() string {
	how := epochOpen
	if s.closed {
		how = epochClosed
	}
	line := fmt.Sprintf("%s %s %s %s %d %d", epochPrefix, s.database, s.branch, how, s.low, s.high)
	if s.heads {
		line += " " + epochHeads
	}
	return line + " " + checksum(line) + "\n"
}

func epochMark(counter int64) string {
	line := fmt.Sprintf("%020d", counter)
	return line + " " + checksum(line) + "\n"
}

// parseEpoch reads what the file holds: ErrEpochFormat if this program never wrote it, errEpochDamaged if it did and it is
// not whole. A mark that cannot be read is left out.
func parseEpoch(raw []byte) (*epochState, error) {
	if len(raw) > maxEpochFile || (len(raw) > 0 && !bytes.HasPrefix(raw, []byte(epochPrefix)) && !bytes.HasPrefix([]byte(epochPrefix), raw)) {
		return nil, ErrEpochFormat
	}
	head, rest, whole := strings.Cut(string(raw), "\n")
	line, sum, _ := cutLast(head)
	if !whole || checksum(line) != sum {
		return nil, errEpochDamaged
	}
	s := parseReserved(strings.Split(line, " "))
	if s == nil {
		return nil, errEpochDamaged
	}
	s.mark = s.low
	if line, sum, ok := cutLast(strings.TrimSuffix(rest, "\n")); ok && len(rest) == markSize && checksum(line) == sum {
		if n, err := strconv.ParseInt(line, 10, 64); err == nil && n <= s.high {
			s.mark = max(s.mark, n)
		}
	}
	return s, nil
}

// parseReserved reads the fields of the first line, nil for what is none.
func parseReserved(f []string) *epochState {
	heads := len(f) == 7 && f[6] == epochHeads
	if (len(f) != 6 && !heads) || f[0] != epochPrefix || f[1] == "" || f[2] == "" || (f[3] != epochOpen && f[3] != epochClosed) {
		return nil
	}
	low, err := strconv.ParseInt(f[4], 10, 64)
	high, err2 := strconv.ParseInt(f[5], 10, 64)
	if err != nil || err2 != nil || low < 0 || high < low {
		return nil
	}
	return &epochState{database: f[1], branch: f[2], closed: f[3] == epochClosed, heads: heads, low: low, high: high}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// readEpoch reads the file; nil and no error if there is none.
func readEpoch(path string) (*epochState, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, epochFailed(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return nil, epochFailed(err)
	} else if !info.Mode().IsRegular() {
		return nil, ErrEpochFormat
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxEpochFile+1))
	if err != nil {
		return nil, epochFailed(err)
	}
	return parseEpoch(raw)
}

// epochFailed wraps what the operating system says; its errors name the path, which is the operator's own.
func epochFailed(err error) error { return fmt.Errorf("%w: %w", ErrEpochFile, err) }

// replaceEpoch puts a new file in the place of the old one; it is on disk when this returns. swap is called when only the name is wanting:
// what it is given takes the mark of that moment, names the file, and gives it back opened for later marks, so that no commit falls
// between the old file and the new one. step names what comes next, for tests that end it there; it may be nil.
func replaceEpoch(path string, s *epochState, swap func(rename func(mark int64) (*os.File, error)) error, step func(string) error) (err error) {
	if step == nil {
		step = func(string) error { return nil }
	}
	if err = step("create"); err != nil {
		return epochFailed(err)
	}
	dir := filepath.Dir(path)
	name, kept := path+".new", false
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) // one that a killed process has left is used again
	if err != nil {
		return epochFailed(err)
	}
	defer func() {
		if !kept {
			_ = file.Close()
			_ = os.Remove(name)
		}
	}()
	head := s.head()
	if _, err = file.WriteString(head + epochMark(s.low)); err == nil {
		if err = step("sync"); err == nil {
			err = file.Sync()
		}
	}
	if err == nil {
		err = step("rename")
	}
	if err == nil {
		err = swap(func(mark int64) (*os.File, error) {
			if mark > s.low {
				if err := writeMark(file, len(head), mark); err != nil {
					return nil, err
				}
			}
			if err := os.Rename(name, path); err != nil {
				return nil, err
			}
			kept = true
			return file, nil
		})
	}
	if err == nil {
		err = step("sync folder")
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return epochFailed(err)
	}
	return nil
}

func writeMark(file *os.File, at int, counter int64) error {
	_, err := file.WriteAt([]byte(epochMark(counter)), int64(at))
	return err
}
