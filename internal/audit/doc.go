// Package audit keeps the record of who changed what: an append-only log in the
// same database, written in the same transaction as the change.
//
// It guarantees:
//   - An entry exists exactly when its change was committed; a transaction that
//     rolls back leaves neither a trace nor a gap.
//   - seq counts 1, 2, 3… without gaps. A change that was committed before another
//     began has the lower one. A reader that has seen entry n could see all before
//     it, so a tail can be followed by seq alone.
//   - The database itself refuses to change, delete or truncate entries, and to
//     move the counter other than by one, on both engines.
//   - Values under keys that name secrets are replaced before they are stored.
//
// Each entry has a leaf hash, SHA-256 over 0x00 and its canonical bytes (RFC 6962
// §2.1), so that a Merkle tree with signed checkpoints can be built over the log;
// Verify recomputes all of them. The before and after documents enter the
// canonical bytes as a salted digest: a document may one day be erased without
// breaking the hash of its entry.
//
// It does not guarantee that a database owner cannot rewrite the whole log: the
// triggers stop programs and slips, and only checkpoints kept elsewhere will show
// a rewrite. It does not hide personal data: actors and targets are ids, and
// callers keep names and addresses out of Before and After.
//
// Recording and ordering are two steps, because a counter that every change
// takes would make all changes of the cluster wait for one another: Record
// inserts into audit_staged, in the change's transaction and in nobody's way, and
// Settle moves what was committed into audit_entry, giving out seq and hash.
// List and Verify settle first, so that they show everything; Run keeps settling
// in the background, so that entries are sealed within a second or so.
package audit
