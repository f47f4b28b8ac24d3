package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"landline/test/internal/running"
	"landline/test/process"
)

// patience bounds every wait; nothing takes that long unless it is broken.
const patience = 30 * time.Second

var binary string

func TestMain(m *testing.M) { running.Main(m, "e2e", &binary) }

// node is one running landline process.
type node struct {
	*process.Node
	t    *testing.T
	logs *process.Log
}

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
	started, err := process.Start(process.Options{Binary: binary, Config: config, Data: data, Env: env}, patience)
	n := &node{Node: started, t: t, logs: started.Logs}
	t.Cleanup(n.kill)
	return n, err
}

// kill ends the process at once, as a power cut would.
func (n *node) kill() {
	if err := n.Kill(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) signal(sig syscall.Signal) {
	n.t.Helper()
	if err := n.Signal(sig); err != nil {
		n.t.Fatal(err)
	}
}

// wait returns the exit code.
func (n *node) wait() int {
	n.t.Helper()
	exit, err := n.Wait(patience)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.logs)
	}
	return exit
}

// run executes a landline command and returns what it printed.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = process.Environment(t.TempDir(), env...)
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
