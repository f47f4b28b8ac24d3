//go:build !unix

package app

// doorFor is how many connections clients may have when the configuration does not say.
func doorFor() int64 { return mostDoor }
