package audit

import (
	"crypto/sha256"
	"encoding/binary"
)

// canonicalVersion is the first byte of the canonical bytes; another layout takes another.
const canonicalVersion = 1

// Canonical returns the bytes that the leaf hash is taken of: the version, seq
// and time in milliseconds as 8 big-endian bytes each, then actor type, id and
// address, action, target, reason and request id, each behind its length as 4
// big-endian bytes, then the 32-byte digest of the documents. The layout is
// fixed for good: hashes handed out must stay recomputable.
func (r *Row) Canonical() []byte {
	b := []byte{canonicalVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq)) // #nosec G115 -- a bit pattern, not a number
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixMilli()))
	for _, s := range []string{r.Actor.Type, r.Actor.ID, r.Actor.IP, r.Action, r.Target, r.Reason, r.RequestID} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s))) // #nosec G115 -- bounded by the column limits
		b = append(b, s...)
	}
	d := r.documentsDigest()
	return append(b, d[:]...)
}

// documentsDigest is SHA-256 of the salt, then each document behind a byte that
// says whether it is there and its length.
func (r *Row) documentsDigest() [sha256.Size]byte {
	b := append([]byte(nil), r.Salt...)
	for _, doc := range [][]byte{r.Before, r.After} {
		if doc == nil {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(len(doc))) // #nosec G115 -- bounded by maxDocument
		b = append(b, doc...)
	}
	return sha256.Sum256(b)
}

// leafHash is MTH({d}) of RFC 6962 §2.1.
func leafHash(canonical []byte) []byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(canonical)
	return h.Sum(nil)
}
