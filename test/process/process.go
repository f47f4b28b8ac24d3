// Package process builds and runs landline processes for tests: on free ports,
// with nothing of the caller's environment, ended by signal or at once.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles the main package pkg (as `go build` takes it) to the file
// binary, without cgo like the one that ships.
func Build(ctx context.Context, binary, pkg string, tags ...string) error {
	build := exec.CommandContext(ctx, "go", "build", "-tags", strings.Join(tags, ","), "-o", binary, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// FreeAddress is a loopback address that nothing listens on, as host:port.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Environment is what a process gets besides env: PATH, TMPDIR and a home of its own.
func Environment(home string, env ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + os.TempDir()}, env...)
}

// Options say what to run.
type Options struct {
	Binary string   // path of a landline, or of a program that takes serve's flags
	Args   []string // before the flags; nil = serve
	Config string   // landline.yaml
	Data   string   // data directory; also the process's home
	Public string   // address; "" = a free port
	Admin  string   // address; "" = a free port
	Env    []string // NAME=value, besides Environment
}

// Node is one process. Its methods may be called from many goroutines.
type Node struct {
	Public, Admin string    // base URLs, once Ready has returned nil
	Data          string    // data directory
	Logs          *Log      // standard error
	Started       time.Time // when it was launched

	cmd   *exec.Cmd
	first chan string
	done  chan struct{}
	exit  int
}

// Log keeps what a process writes to standard error.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write appends p.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all of it so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var readyLine = regexp.MustCompile(`^ready public=(\S+) admin=(\S+)\n$`)

// Launch starts the process and returns at once; wait for Ready before using it.
func Launch(o Options) (*Node, error) {
	n := &Node{Data: o.Data, Logs: &Log{}, first: make(chan string, 1), done: make(chan struct{})}
	args := o.Args
	if args == nil {
		args = []string{"serve"}
	}
	config, err := filepath.Abs(o.Config)
	if err != nil {
		return n, err
	}
	args = append(args[:len(args):len(args)], "--config", config, "--data", o.Data, "--public", or(o.Public, "127.0.0.1:0"), "--admin", or(o.Admin, "127.0.0.1:0"))
	n.cmd = exec.Command(o.Binary, args...)
	n.cmd.Env = Environment(o.Data, o.Env...)
	n.cmd.Stderr = n.Logs
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return n, err
	}
	n.Started = time.Now()
	if err := n.cmd.Start(); err != nil {
		return n, err
	}
	go n.follow(stdout)
	return n, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// follow reads standard output until the process has ended.
func (n *Node) follow(stdout io.Reader) {
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	if err != nil {
		line = ""
	}
	n.first <- line
	if _, err := io.Copy(io.Discard, r); err != nil {
		fmt.Fprintln(n.Logs, "read standard output:", err)
	}
	err = n.cmd.Wait()
	n.exit = n.cmd.ProcessState.ExitCode()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(n.Logs, "wait for the process:", err)
	}
	close(n.done)
}

// Ready returns once the process takes traffic. The error says why it does not.
// It is called once.
func (n *Node) Ready(within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case line := <-n.first:
		match := readyLine.FindStringSubmatch(line)
		if match == nil {
			<-n.done
			return fmt.Errorf("not ready, exit code %d", n.exit)
		}
		n.Public, n.Admin = "http://"+match[1], "http://"+match[2]
		return nil
	case <-timer.C:
		return errors.New("not ready in time")
	}
}

// Start is Launch and Ready; a process that is not ready is ended.
func Start(o Options, within time.Duration) (*Node, error) {
	n, err := Launch(o)
	if err != nil {
		return n, err
	}
	if err := n.Ready(within); err != nil {
		return n, errors.Join(err, n.Kill())
	}
	return n, nil
}

// Kill ends the process at once, as kill -9 does, and waits for its end.
func (n *Node) Kill() error {
	if n.cmd == nil || n.cmd.Process == nil { // it was never started
		return nil
	}
	if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill: %w", err)
	}
	<-n.done
	return nil
}

// Signal sends sig.
func (n *Node) Signal(sig syscall.Signal) error {
	if err := n.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %v: %w", sig, err)
	}
	return nil
}

// Wait returns the exit code once the process has ended; -1 when a signal ended it.
func (n *Node) Wait(within time.Duration) (int, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-n.done:
		return n.exit, nil
	case <-timer.C:
		return 0, errors.New("the process does not end")
	}
}

// Done is closed when the process has ended.
func (n *Node) Done() <-chan struct{} { return n.done }

// Exit is the exit code, once Done.
func (n *Node) Exit() int { return n.exit }

// PID is the process's id.
func (n *Node) PID() int { return n.cmd.Process.Pid }
