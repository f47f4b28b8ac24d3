package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; nothing takes that long unless it is broken.
const patience = 30 * time.Second

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "landline-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "landline")
	build := exec.Command("go", "build", "-o", binary, "landline/cmd/landline")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the binary: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// node is one running landline process.
type node struct {
	t             *testing.T
	cmd           *exec.Cmd
	Public, Admin string // base URLs
	Data          string
	logs          *logBuffer
	done          chan struct{}
	exit          int
}

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

var readyLine = regexp.MustCompile(`^ready public=(\S+) admin=(\S+)\n$`)

// startNode starts `landline serve` on free ports and returns once it takes traffic.
func startNode(t *testing.T, config, data string, env ...string) *node {
	t.Helper()
	n, err := tryNode(t, config, data, env...)
	if err != nil {
		t.Fatalf("%v\n%s", err, n.logs)
	}
	return n
}

// tryNode is startNode for configurations that may be refused.
func tryNode(t *testing.T, config, data string, env ...string) (*node, error) {
	t.Helper()
	n := &node{t: t, Data: data, logs: &logBuffer{}, done: make(chan struct{})}
	n.cmd = exec.Command(binary, "serve", "--config", config, "--data", data, "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	n.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir()}, env...)
	n.cmd.Stderr = n.logs
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return n, err
	}
	if err := n.cmd.Start(); err != nil {
		return n, err
	}
	first := make(chan string, 1)
	go func() {
		r := bufio.NewReader(stdout)
		line, err := r.ReadString('\n')
		if err != nil {
			line = ""
		}
		first <- line
		if _, err := io.Copy(io.Discard, r); err != nil {
			fmt.Fprintln(n.logs, "read standard output:", err)
		}
		err = n.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			n.exit = exit.ExitCode()
		}
		close(n.done)
	}()
	t.Cleanup(n.kill)
	select {
	case line := <-first:
		match := readyLine.FindStringSubmatch(line)
		if match == nil {
			<-n.done
			return n, fmt.Errorf("not ready, exit code %d", n.exit)
		}
		n.Public, n.Admin = "http://"+match[1], "http://"+match[2]
		return n, nil
	case <-time.After(patience):
		return n, errors.New("not ready in time")
	}
}

// kill ends the process at once, as a power cut would.
func (n *node) kill() {
	select {
	case <-n.done:
	default:
		if err := n.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			n.t.Errorf("kill: %v", err)
		}
		<-n.done
	}
}

func (n *node) signal(sig syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		n.t.Fatalf("signal %v: %v", sig, err)
	}
}

// wait returns the exit code.
func (n *node) wait() int {
	n.t.Helper()
	select {
	case <-n.done:
		return n.exit
	case <-time.After(patience):
		n.t.Fatalf("the process does not end\n%s", n.logs)
		return -1
	}
}

// run executes a landline command and returns what it printed.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir()}, env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("landline %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// eventually polls until ok says yes.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		<-tick.C
	}
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
