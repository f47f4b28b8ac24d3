// Package running gives tests the built binary, nodes of it, and servers of
// others, all of which end with the test.
package running

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"landline/test/process"
)

// Main is the TestMain of a package whose tests run the built binary: it puts
// the path into binary, runs the tests and removes the binary.
func Main(m *testing.M, name string, binary *string) {
	dir, err := os.MkdirTemp("", "landline-"+name+"-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	*binary = filepath.Join(dir, "landline")
	if err := process.Build(context.Background(), *binary, "landline/cmd/landline"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// FreeAddress is a loopback address that nothing listens on, as host:port.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Node starts a landline that is killed when the test ends, and returns once it
// takes traffic. What it logged is shown when the test fails.
func Node(t testing.TB, o process.Options, within time.Duration) *process.Node {
	t.Helper()
	n, err := process.Start(o, within)
	t.Cleanup(func() {
		if err := n.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("landline:\n%s", tail(n.Logs.String()))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Server starts a server that was told to listen on an address, and returns once
// it does. It gets SIGTERM when the test ends, since the workers of some servers
// survive their master's SIGKILL.
func Server(t testing.TB, cmd *exec.Cmd, address string, within time.Duration) {
	t.Helper()
	var output process.Log
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fmt.Fprintln(&output, "ended:", cmd.Wait())
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
			t.Errorf("%s ended before the test", cmd.Path)
		default:
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("stop %s: %v", cmd.Path, err)
			}
			<-ended
		}
		if t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, tail(output.String()))
		}
	})
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s does not start", cmd.Path)
		case <-deadline.C:
			t.Fatalf("%s does not listen: %v", cmd.Path, err)
		case <-tick.C:
		}
	}
}

func tail(text string) string { return text[max(0, len(text)-4000):] }
