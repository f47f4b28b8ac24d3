//go:build unix

package app

import "syscall"

// doorFor is how many connections clients may have when the configuration does
// not say: half of the files that the process may open, because a request on its
// way to a service needs another one.
func doorFor() int64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return mostDoor
	}
	return int64(min(max(uint64(limit.Cur)/2, fewestDoor), mostDoor)) // #nosec G115 -- at most mostDoor
}
