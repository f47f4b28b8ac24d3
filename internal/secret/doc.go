// Package secret keeps Landline's keys: the ones that sign, the ones that
// authenticate and the ones that encrypt a person's fields.
//
// # Envelope
//
// One master key of 32 bytes (the key-encryption key, KEK) belongs to the
// installation of Landline, not to its database: it comes from the environment
// or from <data dir>/master.key. Every other key is a row in SQL, wrapped by
// the master key with AES-256-GCM, so that all nodes share them and a copy of
// the database alone opens nothing. A row is bound to its purpose, version,
// algorithm and id; moved to another row, it does not unwrap.
//
// # Signing and authenticating keys
//
// A purpose ("access-token") has one current key, which is used; one next key,
// which other nodes and everybody who reads the JWKS already know; and previous
// keys, which verify until everything they signed has expired. Rotate moves
// them on, so a rotation signs nobody out. Signer, Verifier, JWKS and the MAC
// functions read an atomic snapshot: no lock, no I/O. A node sees a rotation
// made by another after Reload, and verifies what the new key signs even
// before, because it was the next one; two rotations in between need a Reload.
//
// # Field encryption
//
// Every subject (a user id) has a data key of its own. Seal binds a ciphertext
// to its subject and field, so it cannot be copied to another row. Shred
// destroys the data key in the caller's transaction: everything sealed for the
// subject, in backups too, is unreadable from then on, and nothing more can be
// sealed for it. Another node may still open what it has cached for up to
// DataKeyTTL; Forget ends that at once.
//
// # What it does not do
//
// It does not rotate the master key, does not talk to a KMS, does not audit
// (callers do, see RotateTx), and cannot protect keys from somebody who holds
// both the database and the master key. Lose the master key and all sealed
// fields are lost and every session ends: back it up apart from the database.
//
// No error, log line or formatted value of this package holds key material.
package secret
