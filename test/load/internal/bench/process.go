package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that was started to be measured.
type Process struct {
	Name    string
	Address string // host:port that it serves on
	Admin   string // host:port of its admin listener, of Landline alone
	Ready   time.Duration

	cmd *exec.Cmd
}

// Bench starts processes and ends them all.
type Bench struct {
	Dir string // for files, removed at the end; on the disk of the working directory

	mu      sync.Mutex
	started []*Process
}

// end ends what was started and removes the files.
func (b *Bench) end() (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.started {
		err = errors.Join(err, p.Stop())
	}
	b.started = nil
	return errors.Join(err, os.RemoveAll(b.Dir))
}

// endOnSignal leaves nothing running when the program is interrupted, or when
// nobody reads its output any more.
func (b *Bench) endOnSignal() (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	go func() {
		if _, interrupted := <-signals; interrupted {
			if err := b.end(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(1)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// Run calls measure with a Bench and ends what it started.
func Run(measure func(*Bench) error) (err error) {
	if err := os.MkdirAll(".local", 0o750); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(".local", "load-")
	if err != nil {
		return err
	}
	b := &Bench{}
	if b.Dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	defer b.endOnSignal()()
	defer func() { err = errors.Join(err, b.end()) }()
	return measure(b)
}

// Self starts this program in a role.
func (b *Bench) Self(name, role string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.start(name, self, append([]string{"-role", role}, args...)...)
}

// Landline starts the binary with a configuration, on a data directory of its own.
func (b *Bench) Landline(binary, configuration string) (*Process, error) {
	dir, err := os.MkdirTemp(b.Dir, "landline-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "landline.yaml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	return b.start("landline", binary, "serve", "--config", file, "--data", filepath.Join(dir, "data"), "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0")
}

func (b *Bench) start(name, program string, args ...string) (*Process, error) {
	cmd := exec.Command(program, args...)
	log := &beginning{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Name: name, cmd: cmd}
	b.mu.Lock()
	b.started = append(b.started, p)
	b.mu.Unlock()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s does not start: %w: %s", name, err, log)
	}
	p.Ready = time.Since(began)
	p.Address, p.Admin, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "ready public=")), " admin=")
	return p, nil
}

// beginning keeps the first lines of a log, for the error of a process that does
// not start. A process under load writes megabytes a second: they are read, as
// every log is by somebody, and dropped.
type beginning struct {
	mu   sync.Mutex
	text []byte
}

const keptLog = 64 << 10

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p[:min(len(p), keptLog-len(b.text))]...)
	return len(p), nil
}

func (b *beginning) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// Stop ends the process and waits for it.
func (p *Process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	var ended *exec.ExitError
	if wait := p.cmd.Wait(); wait != nil && !errors.As(wait, &ended) {
		err = errors.Join(err, wait)
	}
	p.cmd = nil
	return err
}

// Serve is what a child process does: it serves h on a free port and says so.
func Serve(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("ready public=%s admin=none\n", l.Addr())
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// Install makes an installation at p and returns its access token.
func (p *Process) Install() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Address+"/v1/installations", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "load-generator-0001")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var out struct {
		Session struct {
			Token string `json:"access_token"`
		} `json:"session"`
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return "", err
	}
	if out.Session.Token == "" {
		return "", fmt.Errorf("no token: %s", res.Status)
	}
	return out.Session.Token, nil
}

// cpuTime is how long the threads of the process have run so far, of this
// program where p is nil. It is read from /proc/<pid>/task/<tid>/schedstat, in
// nanoseconds: the ticks of 10 ms in /proc/<pid>/stat are a tenth of a short round.
func (p *Process) cpuTime() (time.Duration, error) {
	pid := os.Getpid()
	if p != nil {
		pid = p.cmd.Process.Pid
	}
	return cpuTimeOf(pid)
}

func cpuTimeOf(pid int) (total time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	for _, file := range threads {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // the thread has ended
			continue
		}
		ran, _, ok := strings.Cut(string(data), " ")
		ns, parseErr := strconv.ParseInt(ran, 10, 64)
		if err = errors.Join(err, parseErr); err != nil || !ok {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		total += time.Duration(ns)
	}
	if total == 0 {
		return 0, fmt.Errorf("process %d: no time in /proc/%d/task/*/schedstat", pid, pid)
	}
	return total, nil
}

// Memory is what of the process is in memory, in bytes: all of it (VmRSS of
// proc(5)), and what of that no file holds, so that the system could not take it
// back (RssAnon).
func (p *Process) Memory() (all, anonymous int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	field := func(name string) int64 {
		for line := range strings.SplitSeq(string(data), "\n") {
			if value, found := strings.CutPrefix(line, name+":"); found {
				n, parseErr := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
				err = errors.Join(err, parseErr)
				return n << 10
			}
		}
		err = errors.Join(err, errors.New("/proc/<pid>/status has no "+name))
		return 0
	}
	all, anonymous = field("VmRSS"), field("RssAnon")
	return all, anonymous, err
}
