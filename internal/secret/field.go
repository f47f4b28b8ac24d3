package secret

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"landline/internal/sqldb"
)

const (
	formatV1 = 1
	refSize  = 8
	maxField = 128
	maxPlain = 16 << 20 // bytes of one field
)

// dataKey is a subject's key in use. ref is in every ciphertext, so that one
// made with a destroyed key is told from one that was changed.
type dataKey struct {
	ref  [refSize]byte
	aead cipher.AEAD
}

// Seal encrypts a field of the subject with the subject's data key, which it
// makes on first use. The result is 37 bytes longer than plaintext. Inside
// sqldb.Write use SealTx: Seal may have to write.
func (r *Ring) Seal(ctx context.Context, subject, field string, plaintext []byte) ([]byte, error) {
	if err := checkField(subject, field, plaintext); err != nil {
		return nil, err
	}
	dk, err := r.dataKey(ctx, subject)
	if errors.Is(err, sqldb.ErrNotFound) {
		err = r.db.Write(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			dk, err = r.ensureDataKey(ctx, tx, subject)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("secret: seal %s: %w", field, err)
	}
	return dk.seal(subject, field, plaintext), nil
}

// SealTx is Seal within the caller's transaction.
func (r *Ring) SealTx(ctx context.Context, tx *sqldb.Tx, subject, field string, plaintext []byte) ([]byte, error) {
	if err := checkField(subject, field, plaintext); err != nil {
		return nil, err
	}
	dk, err := r.ensureDataKey(ctx, tx, subject)
	if err != nil {
		return nil, fmt.Errorf("secret: seal %s: %w", field, err)
	}
	return dk.seal(subject, field, plaintext), nil
}

// Open decrypts what Seal made for the same subject and field. It returns
// ErrShredded when the subject was erased, ErrTampered when the ciphertext was
// changed or belongs elsewhere.
func (r *Ring) Open(ctx context.Context, subject, field string, ciphertext []byte) ([]byte, error) {
	if err := checkField(subject, field, nil); err != nil {
		return nil, err
	}
	dk, err := r.dataKey(ctx, subject)
	if errors.Is(err, sqldb.ErrNotFound) { // nothing was ever sealed for it
		err = ErrTampered
	}
	if err == nil {
		var plain []byte
		if plain, err = dk.open(subject, field, ciphertext); err == nil {
			return plain, nil
		}
	}
	return nil, fmt.Errorf("secret: open %s: %w", field, err)
}

// Shred destroys the subject's data key in the caller's transaction: nothing
// sealed for the subject can be opened again, and nothing more be sealed. It is
// idempotent, and works for a subject that has no data key yet.
func (r *Ring) Shred(ctx context.Context, tx *sqldb.Tx, subject string) error {
	if err := checkField(subject, "-", nil); err != nil {
		return err
	}
	ref := make([]byte, refSize)
	rand.Read(ref)
	now := sqldb.Millis(r.clk.Now())
	if _, err := tx.ExecContext(ctx, Queries.Get("DataKeyShred"), subject, ref, "", []byte{}, now, now); err != nil {
		return fmt.Errorf("secret: shred: %w", err)
	}
	tx.OnCommit(func() { r.deks.drop(subject) })
	return nil
}

// Forget drops the subject's data key from this node's memory; call it when
// another node has shredded it.
func (r *Ring) Forget(subject string) { r.deks.drop(subject) }

// dataKey returns the subject's key from the cache or SQL, or sqldb.ErrNotFound.
func (r *Ring) dataKey(ctx context.Context, subject string) (*dataKey, error) {
	if dk := r.deks.get(subject); dk != nil {
		return dk, nil
	}
	epoch := r.deks.epoch()
	var dk *dataKey
	err := r.db.Read(ctx, func(ctx context.Context, q sqldb.Querier) (err error) {
		dk, err = r.readDataKey(ctx, q, subject)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.deks.put(subject, dk, epoch)
	return dk, nil
}

// ensureDataKey reads the key within tx, never from the cache: tx may have shredded it.
func (r *Ring) ensureDataKey(ctx context.Context, tx *sqldb.Tx, subject string) (*dataKey, error) {
	dk, err := r.readDataKey(ctx, tx, subject)
	if !errors.Is(err, sqldb.ErrNotFound) {
		return dk, err
	}
	var ref [refSize]byte
	rand.Read(ref[:])
	material := make([]byte, keySize)
	rand.Read(material)
	defer clear(material)
	if _, err := tx.ExecContext(ctx, Queries.Get("DataKeyInsert"), subject, ref[:], r.kek.id,
		r.kek.wrap(material, dataKeyAAD(subject, ref[:])), sqldb.Millis(r.clk.Now())); err != nil {
		return nil, err
	}
	return r.readDataKey(ctx, tx, subject) // another node's, when that was faster
}

func (r *Ring) readDataKey(ctx context.Context, q sqldb.Querier, subject string) (*dataKey, error) {
	var (
		ref, wrapped []byte
		kekID        string
		shredded     sql.NullInt64
	)
	err := q.QueryRowContext(ctx, Queries.Get("DataKeyGet"), subject).Scan(&ref, &kekID, &wrapped, &shredded)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, sqldb.ErrNotFound
	case err != nil:
		return nil, err
	case shredded.Valid:
		return nil, ErrShredded
	case len(ref) != refSize:
		return nil, fmt.Errorf("data key of %s: %w", subject, ErrTampered)
	}
	material, err := r.kek.unwrap(wrapped, dataKeyAAD(subject, ref), "data key of "+subject, kekID)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	aead, err := newAEAD(material)
	if err != nil {
		return nil, fmt.Errorf("data key of %s has a wrong length", subject)
	}
	return &dataKey{ref: [refSize]byte(ref), aead: aead}, nil
}

func dataKeyAAD(subject string, ref []byte) string {
	return joinAAD("landline/data-key/v1", subject, string(ref))
}

// seal: format, key ref, nonce, then AES-256-GCM ciphertext and tag.
func (k *dataKey) seal(subject, field string, plain []byte) []byte {
	head := 1 + refSize
	out := make([]byte, head+k.aead.NonceSize(), head+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out[0] = formatV1
	copy(out[1:], k.ref[:])
	rand.Read(out[head:])
	return k.aead.Seal(out, out[head:], plain, fieldAAD(subject, field, k.ref)) // #nosec G407 -- the nonce was filled with random bytes above
}

func (k *dataKey) open(subject, field string, b []byte) ([]byte, error) {
	head := 1 + refSize
	body := head + k.aead.NonceSize()
	if len(b) < body+k.aead.Overhead() || b[0] != formatV1 || [refSize]byte(b[1:head]) != k.ref {
		return nil, ErrTampered
	}
	plain, err := k.aead.Open(nil, b[head:body], b[body:], fieldAAD(subject, field, k.ref))
	if err != nil {
		return nil, ErrTampered
	}
	return plain, nil
}

func fieldAAD(subject, field string, ref [refSize]byte) []byte {
	return []byte(joinAAD("landline/field/v1", subject, field, string(ref[:])))
}

func checkField(subject, field string, plain []byte) error {
	switch {
	case subject == "" || len(subject) > maxField:
		return fmt.Errorf("secret: subject must have 1 to %d bytes, has %d", maxField, len(subject))
	case field == "" || len(field) > maxField:
		return fmt.Errorf("secret: field must have 1 to %d bytes, has %d", maxField, len(field))
	case len(plain) > maxPlain:
		return fmt.Errorf("secret: field %s has %d bytes, at most %d can be sealed", field, len(plain), maxPlain)
	}
	return nil
}
