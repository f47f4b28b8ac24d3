package password

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	saltSize = 16 // bytes (RFC 9106 §3.1)
	keySize  = 32
	maxPHC   = 512
)

// params are the costs of a hash.
type params struct {
	memory, iterations uint32 // KiB, passes
	parallelism        uint8
}

// weaker reports whether p costs less than want in any respect.
func (p params) weaker(want params) bool {
	return p.memory < want.memory || p.iterations < want.iterations || p.parallelism < want.parallelism
}

// hash is a parsed PHC string.
type hash struct {
	params
	salt, key []byte
}

func derive(password string, salt []byte, p params, size uint32) []byte {
	return argon2.IDKey([]byte(password), salt, p.iterations, p.memory, p.parallelism, size)
}

var b64 = base64.RawStdEncoding.Strict()

func (h *hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.iterations, h.parallelism,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

// matches hashes password again and compares in constant time.
func (h *hash) matches(password string) bool {
	key := derive(password, h.salt, h.params, uint32(len(h.key))) // #nosec G115 -- at most 64
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// parse reads $argon2id$v=19$m=…,t=…,p=…$salt$key, as this package and others write it.
func parse(text string) (*hash, error) {
	parts := strings.Split(text, "$")
	if len(text) > maxPHC || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, fmt.Errorf("password: the stored hash is not a PHC string of argon2id, version %d", argon2.Version)
	}
	var numbers [3]uint64
	fields := strings.Split(parts[3], ",")
	if len(fields) != len(numbers) {
		return nil, fmt.Errorf("password: the stored hash has not the parameters m, t and p")
	}
	for i, field := range fields {
		digits, ok := strings.CutPrefix(field, "mtp"[i:i+1]+"=")
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(n, 10) != digits {
			return nil, fmt.Errorf("password: the stored hash has not the parameters m, t and p")
		}
		numbers[i] = n
	}
	if m, t, p := numbers[0], numbers[1], numbers[2]; p < 1 || p > 16 || t < 1 || t > 100 || m < 8*p || m > 1<<20 {
		return nil, fmt.Errorf("password: the stored hash has parameters out of range: m=%d, t=%d, p=%d", m, t, p)
	}
	h := &hash{params: params{memory: uint32(numbers[0]), iterations: uint32(numbers[1]), parallelism: uint8(numbers[2])}} // #nosec G115 -- just checked
	var err1, err2 error
	h.salt, err1 = b64.DecodeString(parts[4])
	h.key, err2 = b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64 || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("password: the stored hash has not a salt of 8 to 64 and a key of 16 to 64 bytes of base64")
	}
	return h, nil
}
