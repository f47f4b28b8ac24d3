// Package cvfs is what a VFS for modernc.org/sqlite needs to be written in Go
// (https://www.sqlite.org/vfs.html): SQLite keeps C structures, their addresses
// as uintptr, and C function pointers, which are Go functions of package level.
package cvfs

import (
	"unsafe"

	"modernc.org/libc"
)

// At reads an address of SQLite's memory as a *T.
func At[T any](address uintptr) *T {
	return *(**T)(unsafe.Pointer(&address)) // #nosec G103 -- C structures of SQLite
}

// New is a T for SQLite to keep, zero, in C memory, which the race detector's
// checks of pointers ask for. A T holds no Go pointers and is never freed.
func New[T any](tls *libc.TLS) *T {
	var t T
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(t)))
	if p == 0 {
		panic("cvfs: no memory for a structure of SQLite's")
	}
	return At[T](p)
}

// Address is the address of p, a package variable or what New or At gave.
func Address[T any](p *T) uintptr {
	return uintptr(unsafe.Pointer(p)) // #nosec G103 -- C structures of SQLite
}

// Bytes are the n bytes at an address of SQLite's memory.
func Bytes(address uintptr, n int32) []byte {
	return unsafe.Slice(At[byte](address), n) // #nosec G103 -- C structures of SQLite
}

// Pointer is the C function pointer of a Go function of package level.
func Pointer(f any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&f))[1] // #nosec G103 -- C structures of SQLite
}

// Function is the Go function, one of the types below, of a C function pointer.
func Function[F any](p uintptr) F {
	return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) // #nosec G103 -- C structures of SQLite
}

// The functions of sqlite3_vfs and the methods of sqlite3_io_methods, named by
// what they have in common. They return result codes
// (https://www.sqlite.org/rescode.html).
type (
	Open   = func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32
	Delete = func(tls *libc.TLS, vfs, path uintptr, syncDir int32) int32
	IO     = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32               // xRead, xWrite
	Size   = func(tls *libc.TLS, file uintptr, size int64) int32                            // xTruncate
	Out    = func(tls *libc.TLS, file, out uintptr) int32                                   // xFileSize, xCheckReservedLock
	Int    = func(tls *libc.TLS, file uintptr, n int32) int32                               // xSync, xLock, xUnlock, xShmUnmap
	Plain  = func(tls *libc.TLS, file uintptr) int32                                        // xClose, xSectorSize, xDeviceCharacteristics
	Op     = func(tls *libc.TLS, file uintptr, op int32, arg uintptr) int32                 // xFileControl
	Map    = func(tls *libc.TLS, file uintptr, page, size, extend int32, out uintptr) int32 // xShmMap
	Lock   = func(tls *libc.TLS, file uintptr, offset, n, flags int32) int32                // xShmLock
	Void   = func(tls *libc.TLS, file uintptr)                                              // xShmBarrier
)
