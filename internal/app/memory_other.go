//go:build !linux

package app

// untouch is for systems that tell memory which was cleared from memory which
// was used.
func untouch([]byte) error { return nil }

// dropBinary is for Linux: elsewhere the system takes pages when it needs them.
func dropBinary() error { return nil }
