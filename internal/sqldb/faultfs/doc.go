// Package faultfs puts a disk that fails under SQLite, for tests: power cuts,
// I/O errors, short writes and a full disk, below the real driver and the real
// code of sqldb. Nothing outside of tests imports it.
//
// Mount makes a directory such a disk. Files in it are reached through a VFS
// (https://www.sqlite.org/vfs.html) that becomes the process's default one and
// hands everything on to SQLite's own; paths outside of mounted directories are
// not touched, and neither locks nor shared memory are imitated.
//
// # What a power cut leaves
//
// After the cut every operation fails, and Image writes what a machine would
// find when the power is back:
//   - What a file held when it was last synced is there.
//   - Of the writes and truncations since, any subset may be there; of a write,
//     any subset of its 512-byte sectors. Each Image takes one of four ways to
//     choose: nothing, a prefix whose last write is torn at a sector, any writes,
//     any sectors.
//   - A file's name is part of the directory: files made or deleted since the
//     directory was synced may or may not be. SQLite's VFS syncs the directory
//     with the first sync of a journal or log that it made, and when it deletes one.
//   - A sector is not damaged by a write to another one, which SQLite relies on
//     ("powersafe overwrite", https://www.sqlite.org/psow.html).
//   - The shared-memory file is as stale as it was.
//
// # What a failed operation leaves
//
// A write that fails may have written a part. After a sync that failed, the
// kernel may have dropped the dirty pages and marked them clean: what was to be
// synced is never durable, however many syncs succeed later, unless it is
// written again (https://wiki.postgresql.org/wiki/Fsync_Errors). Reads see it all
// the same, also those of a next process (Remount).
//
// # What it does not do
//
// It does not see what Go code does to files beside SQLite unless it is told
// (Beside): what appears in the directory without SQLite is taken as not durable.
// It does not imitate bit rot.
package faultfs
