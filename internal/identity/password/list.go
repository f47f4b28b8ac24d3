package password

import (
	"bytes"
	"context"
	"crypto/sha1" // #nosec G505 -- the format of the lists
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	minPrefix = 10 // hexadecimal digits: 40 bits
	maxLine   = 64 // bytes: hash, colon, count, line end
)

// HashList is a List in a file: lines of upper or lower case hexadecimal SHA-1,
// whole or a prefix of at least 10 digits, each with ":COUNT" or without, sorted.
// It is searched on disk: about 30 reads for the 1,000,000,000 of Pwned Passwords,
// and no memory. It is safe for concurrent use.
type HashList struct {
	file     io.ReaderAt
	closer   io.Closer
	size     int64
	minCount int
}

// OpenList opens a list; entries that were seen less than minCount times do not
// count. It looks at the first and last lines and at samples in between.
func OpenList(path string, minCount int) (*HashList, error) {
	f, err := os.Open(path) // #nosec G304 -- named by the operator
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is not a file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("password: %s: %w", path, err), f.Close())
	}
	l := &HashList{file: f, closer: f, size: info.Size(), minCount: minCount}
	if err := l.sample(); err != nil {
		return nil, errors.Join(fmt.Errorf("password: %s %w", path, err), f.Close())
	}
	return l, nil
}

// Close closes the file.
func (l *HashList) Close() error { return l.closer.Close() }

// Contains implements List.
func (l *HashList) Contains(ctx context.Context, sum [sha1.Size]byte) (bool, error) {
	want := strings.ToUpper(hex.EncodeToString(sum[:]))
	low, high := int64(0), l.size // the entry begins in [low, high), or there is none
	for low < high {
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("password: %w", err)
		}
		middle := low + (high-low)/2
		e, err := l.lineFrom(middle)
		if err != nil {
			return false, fmt.Errorf("password: list of breaches: %w", err)
		}
		switch {
		case e.hash == "" || e.start >= high: // no line begins in the upper half
			high = middle
		case strings.HasPrefix(want, e.hash):
			return e.count >= l.minCount, nil
		case e.hash < want:
			low = e.end
		default:
			high = middle
		}
	}
	return false, nil
}

type entry struct {
	hash       string // "" = the file ends
	count      int
	start, end int64
}

// lineFrom reads the first line that begins at offset or after it.
func (l *HashList) lineFrom(offset int64) (entry, error) {
	from := max(offset-1, 0) // a line begins at offset if a line feed is before it
	var space [2 * maxLine]byte
	n, err := l.file.ReadAt(space[:], from)
	if err != nil && !errors.Is(err, io.EOF) {
		return entry{}, err
	}
	text := space[:n]
	start := 0
	if offset > 0 {
		feed := bytes.IndexByte(text, '\n')
		if feed < 0 {
			if from+int64(n) >= l.size {
				return entry{}, nil
			}
			return entry{}, fmt.Errorf("the line at byte %d is longer than %d bytes", from, maxLine)
		}
		start = feed + 1
	}
	line := text[start:]
	if len(line) == 0 {
		return entry{}, nil
	}
	feed := bytes.IndexByte(line, '\n')
	if feed < 0 {
		if from+int64(n) < l.size {
			return entry{}, fmt.Errorf("the line at byte %d is longer than %d bytes", from+int64(start), maxLine)
		}
		feed = len(line) - 1
	}
	e := entry{start: from + int64(start), end: from + int64(start+feed) + 1}
	e.hash, e.count, err = parseLine(strings.TrimRight(string(line[:feed+1]), "\r\n"))
	if err != nil {
		return entry{}, fmt.Errorf("the line at byte %d %w", e.start, err)
	}
	return e, nil
}

func parseLine(line string) (hash string, count int, err error) {
	hash, digits, counted := strings.Cut(line, ":")
	hash = strings.ToUpper(hash)
	if len(hash) < minPrefix || len(hash) > 2*sha1.Size || strings.Trim(hash, "0123456789ABCDEF") != "" {
		return "", 0, fmt.Errorf("is not %d to %d hexadecimal digits, with :COUNT or without", minPrefix, 2*sha1.Size)
	}
	if !counted {
		return hash, 1<<31 - 1, nil
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return "", 0, errors.New("has not a number after the colon")
	}
	return hash, int(n), nil
}

const samples = 1000

// sample refuses files that are empty, no list, or not sorted as far as that shows.
func (l *HashList) sample() error {
	last := entry{}
	for i := range int64(samples) {
		e, err := l.lineFrom(l.size * i / samples)
		if err != nil {
			return err
		}
		if e.hash == "" {
			break
		}
		if e.start > last.start && e.hash <= last.hash {
			return fmt.Errorf("is not sorted: the line at byte %d does not belong behind that at byte %d", e.start, last.start)
		}
		last = e
	}
	if last.hash == "" {
		return errors.New("is empty")
	}
	return nil
}
