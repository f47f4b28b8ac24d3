// Package walvfs stands between SQLite and its VFS (https://www.sqlite.org/vfs.html)
// and looks after the files of write-ahead logs, for connections that write. All
// other files, and all other methods, are those of the VFS below.
//
// # The writes of a commit become one
//
// SQLite writes each page of a commit to the log in two writes, a header of 24
// bytes and the page, and then syncs (https://www.sqlite.org/fileformat2.html#walformat).
// A system call costs more than the copying of a page, so what continues what was
// written just before is held back, up to 31 pages, and written with the next
// operation on the file that is not such a write.
//
// Nobody can tell, as long as every commit is synced before it is seen
// (PRAGMA synchronous=FULL; without, ask for a VFS that does not join):
//   - The order of walFrames, SQLite's function that writes to the log, is: the
//     log's header and a sync if the log begins anew, the frames, a sync, and only
//     then the entries of the index by which connections find frames. A failure
//     anywhere leaves the index as it was. The sync writes what is held back before
//     it syncs, so what the index leads to is in the file.
//   - Frames of a transaction that outgrows the page cache are written before its
//     commit. The index leads to them only within the connection that wrote
//     them, and every read of the log writes what is held back first.
//   - All this happens under the write lock of the index, which whoever restarts,
//     truncates or recovers the log takes too. With the lock, what is still held
//     back is dropped: it belongs to a transaction that was rolled back, or whose
//     commit has failed, and the next frames in its place may be those of another
//     connection. A process that is killed loses no more than that either.
//   - Should the disk not promise that writing a sector leaves its neighbours alone
//     (SQLITE_IOCAP_POWERSAFE_OVERWRITE), SQLite fills the last sector of a commit
//     behind the sync. Such a log is not joined.
//
// Result codes are those of the write that was held back: SQLITE_FULL,
// SQLITE_IOERR_WRITE. What could not be written stays, in whole, for the next
// operation under the same lock to try again: SQLite may have been told already
// that it is written, and go on with the transaction after SQLITE_FULL.
//
// # A log is written again before it is believed
//
// After a failed sync the kernel shows what was written, but counts it as written
// back, and never writes it (https://wiki.postgresql.org/wiki/Fsync_Errors). Within
// the process that is no harm, since the next commit overwrites the frames of the
// one that failed. A process that starts then, however, would believe them, and
// put its commits behind a hole that the next power cut shows. So when SQLite is
// about to recover a log, under locks that keep all others away, what it may
// believe is written again in place, and synced. If that fails, so does the recovery.
package walvfs
