//go:build unix

package sqldb

import (
	"crypto/tls"
	"net"
	"testing"
)

func TestQuiet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (here, there net.Conn) {
		here, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { here.Close() })
		there, err = l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { there.Close() })
		return here, there
	}
	arrives := func(c net.Conn) { // waits until the other side's bytes or its end are there, and takes the bytes
		if _, err := c.Read(make([]byte, 1)); err != nil && err.Error() != "EOF" {
			t.Error(err)
		}
	}
	here, there := pair()
	if !quiet(here) || !quiet(tls.Client(here, &tls.Config{MinVersion: tls.VersionTLS12})) {
		t.Error("an open connection is not quiet")
	}
	if _, err := there.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	arrives(here)
	if quiet(here) {
		t.Error("something has come")
	}
	arrives(here)
	if !quiet(here) {
		t.Error("what has come was taken")
	}
	there.Close()
	arrives(here)
	if quiet(here) {
		t.Error("the other side has ended it")
	}
	here.Close()
	if quiet(here) {
		t.Error("it is closed")
	}
	if a, _ := net.Pipe(); quiet(a) {
		t.Error("nobody can look at a pipe")
	}
}
