// Package id makes and checks the identifiers that Landline gives to things.
//
// An id is a type prefix, an underscore and a UUIDv7 (RFC 9562 §5.7) in 26
// characters of lower-case Crockford base32, the TypeID text form
// (https://github.com/jetify-com/typeid, spec 0.3): "usr_01h455vb4pex5vsknk084sn02q".
// Ids made later on one node sort later, byte by byte. They are names, not
// secrets: nothing may be opened by knowing one.
package id

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Prefixes of the ids that go over the wire.
const (
	User         = "usr"
	Installation = "ins"
	Session      = "ses"
	Operator     = "opr"
	Key          = "key"
	Event        = "evt"
)

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// ErrInvalid is returned by Check for text that is not an id of the wanted type.
var ErrInvalid = errors.New("not a valid id")

var last struct {
	sync.Mutex
	ms  int64
	seq uint16
}

// New returns a fresh id of the given type, made at the machine's time.
func New(prefix string) string {
	return encode(prefix, next(time.Now().UnixMilli()))
}

// next fills a UUIDv7. The 12 bits behind the millisecond count up within one
// millisecond (RFC 9562 §6.2 method 1), so that ids of one process are ordered;
// when they run out the id borrows from the next millisecond.
func next(ms int64) (u [16]byte) {
	rand.Read(u[:])
	last.Lock()
	if ms > last.ms {
		last.ms, last.seq = ms, binary.BigEndian.Uint16(u[6:8])&0x07ff
	} else if last.seq++; last.seq > 0x0fff {
		last.ms, last.seq = last.ms+1, 0
	}
	ms, seq := last.ms, last.seq
	last.Unlock()
	binary.BigEndian.PutUint64(u[:8], uint64(ms)<<16|0x7000|uint64(seq)) // #nosec G115 -- Unix milliseconds are positive
	u[8] = u[8]&0x3f | 0x80
	return u
}

func encode(prefix string, u [16]byte) string {
	hi, lo := binary.BigEndian.Uint64(u[:8]), binary.BigEndian.Uint64(u[8:])
	var out [26]byte
	for i := 25; i >= 0; i-- {
		out[i] = alphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return prefix + "_" + string(out[:])
}

// Check returns ErrInvalid unless s is an id of the given type. It says
// nothing about whether such a thing exists.
func Check(prefix, s string) error {
	rest, ok := strings.CutPrefix(s, prefix+"_")
	if !ok || len(rest) != 26 || rest[0] > '7' {
		return fmt.Errorf("%w: want %s_ and 26 characters", ErrInvalid, prefix)
	}
	for i := range len(rest) {
		if strings.IndexByte(alphabet, rest[i]) < 0 {
			return fmt.Errorf("%w: bad character at %d", ErrInvalid, len(prefix)+1+i)
		}
	}
	return nil
}
