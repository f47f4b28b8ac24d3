package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MasterKeyFile is the name of the master key's file in Options.Dir.
const MasterKeyFile = "master.key"

const keySize = 32

const howToMake = "make one with `openssl rand -base64 32`"

// ErrMasterKey is the class of every error about the master key: missing,
// weak, readable by others, or not the one the keys were wrapped with.
var ErrMasterKey = errors.New("master key")

// WrongMasterKeyError says that a key was wrapped by another master key than
// this node's. The ids are one-way fingerprints, safe to log.
type WrongMasterKeyError struct {
	What string // what does not open, e.g. "key key_01h…"
	Have string // id of this node's master key
	Want string // id of the master key that wrapped it
}

// Error names both keys and the way out.
func (e *WrongMasterKeyError) Error() string {
	return fmt.Sprintf("%s was wrapped by master key %s, this node has %s: give every node of this database the same master key, or restore the database's own %s",
		e.What, e.Want, e.Have, MasterKeyFile)
}

// Is makes the error one of class ErrMasterKey.
func (e *WrongMasterKeyError) Is(target error) bool { return target == ErrMasterKey }

// kek is the master key in use: only the cipher is kept, never the bytes.
type kek struct {
	id   string
	aead cipher.AEAD
}

// newKEK takes over key and wipes it.
func newKEK(key []byte) (*kek, error) {
	defer clear(key)
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write([]byte("landline/master-key-id/v1\x00"))
	h.Write(key)
	return &kek{id: hex.EncodeToString(h.Sum(nil)[:8]), aead: aead}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// wrap encrypts a key; aad says which row it is for.
func (k *kek) wrap(key []byte, aad string) []byte {
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(key)+k.aead.Overhead())
	rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, key, []byte(aad))
}

// unwrap is the inverse of wrap. what names the row in errors; wrappedBy is the
// id of the master key that the row says it was wrapped by.
func (k *kek) unwrap(wrapped []byte, aad, what, wrappedBy string) ([]byte, error) {
	if wrappedBy != k.id {
		return nil, &WrongMasterKeyError{What: what, Have: k.id, Want: wrappedBy}
	}
	if n := k.aead.NonceSize(); len(wrapped) > n {
		if key, err := k.aead.Open(nil, wrapped[:n], wrapped[n:], []byte(aad)); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s %w: its row was changed outside Landline; restore the row from a backup", what, ErrTampered)
}

// CheckMasterKey reports whether text can be Options.MasterKey; "" can.
func CheckMasterKey(text string) error {
	if text == "" {
		return nil
	}
	_, err := decodeMasterKey(text)
	return err
}

// decodeMasterKey reads the base64 of 32 random bytes. Errors never quote text.
func decodeMasterKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if len(text) > 4*keySize {
		return nil, fmt.Errorf("%w is too long: want the base64 of %d random bytes; %s", ErrMasterKey, keySize, howToMake)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		if key, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "=")); err != nil {
			return nil, fmt.Errorf("%w is not base64: want the base64 of %d random bytes; %s", ErrMasterKey, keySize, howToMake)
		}
	}
	if len(key) != keySize {
		n := len(key)
		clear(key)
		return nil, fmt.Errorf("%w has %d bytes, want %d; %s", ErrMasterKey, n, keySize, howToMake)
	}
	if guessable(key) {
		clear(key)
		return nil, fmt.Errorf("%w is not random (text, a sequence or a repetition); %s", ErrMasterKey, howToMake)
	}
	return key, nil
}

// guessable finds what people type or copy from a manual. Random bytes are
// refused with a probability below 2^-40.
func guessable(key []byte) bool {
	distinct := map[byte]bool{}
	steps := map[byte]bool{}
	printable := true
	for i, b := range key {
		distinct[b] = true
		if i > 0 {
			steps[b-key[i-1]] = true
		}
		printable = printable && b >= 0x20 && b < 0x7f
	}
	return printable || len(distinct) < 16 || len(steps) < 8
}

// readMasterKeyFile returns fs.ErrNotExist when there is none.
func readMasterKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- below the configured data directory
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w file %s is not a regular file", ErrMasterKey, path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%w file %s has mode %04o, others than its owner can open it: if nobody may have read it, run `chmod 600 %s`", ErrMasterKey, path, perm, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, fmt.Errorf("read %w file: %w", ErrMasterKey, err)
	}
	defer clear(text)
	key, err := decodeMasterKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", path, err)
	}
	return key, nil
}

// createMasterKeyFile makes the file, or reads the one that another process
// made meanwhile. The file appears complete or not at all: it is written and
// synced under another name first, and linking refuses to replace.
func createMasterKeyFile(dir string) (key []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the %w: %w", ErrMasterKey, err)
	}
	path := filepath.Join(dir, MasterKeyFile)
	temp := filepath.Join(dir, "."+MasterKeyFile+"."+rand.Text())
	fresh := make([]byte, keySize)
	rand.Read(fresh)
	defer clear(fresh)
	err = writeSynced(temp, base64.StdEncoding.EncodeToString(fresh)+"\n")
	if err == nil {
		err = os.Link(temp, path)
	}
	if rm := os.Remove(temp); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create %w file %s: %w", ErrMasterKey, path, err)
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("create %w file %s: %w", ErrMasterKey, path, err)
	}
	return readMasterKeyFile(path)
}

func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- below the configured data directory
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir) // #nosec G304 -- the configured data directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
