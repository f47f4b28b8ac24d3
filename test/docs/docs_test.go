package docs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 60 * time.Second

var root = filepath.Join("..", "..")

// block is one command block of a page, with the output that it promises.
type block struct {
	line       int
	code       string
	background bool
	want       string
	hasWant    bool
}

func readBlocks(t *testing.T, page string) []block {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	var fence, body string
	background := false
	for i, line := range strings.Split(string(data), "\n") {
		kind, opens := strings.CutPrefix(line, "```")
		switch {
		case fence == "" && opens:
			fence, body = kind, ""
			if fence == "" {
				fence = "none"
			}
			if fence == "sh" {
				blocks = append(blocks, block{line: i + 1, background: background})
			}
		case fence != "" && line == "```":
			last := len(blocks) - 1
			switch {
			case fence == "sh":
				blocks[last].code = body
				background = false
			case slices.Contains([]string{"text", "json", "http"}, fence) && last >= 0 && !blocks[last].hasWant && blocks[last].code != "":
				blocks[last].want, blocks[last].hasWant = body, true
			}
			fence = ""
		case fence != "":
			body += line + "\n"
		case line == "<!-- background -->":
			background = true
		}
	}
	return blocks
}

// place is where one page runs: free ports, a directory, the built binary.
type place struct {
	dir      string
	replaces [][2]string // what the page says, what is run instead
	path     string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	bin := filepath.Join(p.dir, "bin")
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "landline"), "landline/cmd/landline")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	p.path = bin + ":" + os.Getenv("PATH")
	for _, address := range []string{"127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:9000", "127.0.0.1:9001"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p.replaces = append(p.replaces, [2]string{address, l.Addr().String()})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// command turns what the page says into what runs here.
func (p *place) command(code string) string {
	demo := "landline dev --public 127.0.0.1:8080 --admin 127.0.0.1:8081 --upstream 127.0.0.1:9000"
	code = strings.ReplaceAll(code, "make run", demo)
	code = strings.ReplaceAll(code, "bin/landline", "landline")
	if abs, err := filepath.Abs(root); err == nil {
		code = strings.ReplaceAll(code, "go build -o bin/", "go build -C "+abs+" -o $PWD/bin/")
	}
	for _, r := range p.replaces {
		code = strings.ReplaceAll(code, r[0], r[1])
		_, said, _ := strings.Cut(r[0], ":")
		_, port, _ := strings.Cut(r[1], ":")
		code = strings.ReplaceAll(code, " "+said+" ", " "+port+" ")
	}
	return code
}

// shown turns what came out into what the page would say.
func (p *place) shown(output string) string {
	for _, r := range p.replaces {
		output = strings.ReplaceAll(output, r[1], r[0])
	}
	return output
}

func TestPages(t *testing.T) {
	pages := []string{filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"), filepath.Join(root, "SECURITY.md")}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".md") && !strings.Contains(path, "reference"+string(filepath.Separator)) {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	executed := 0
	for _, page := range pages {
		blocks := readBlocks(t, page)
		if len(blocks) == 0 {
			continue
		}
		t.Run(filepath.Base(page), func(t *testing.T) { runPage(t, page, blocks) })
		executed += len(blocks)
	}
	if executed < 10 {
		t.Errorf("only %d command blocks were found", executed)
	}
}

func runPage(t *testing.T, page string, blocks []block) {
	p := newPlace(t)
	sh := newShell(t, p)
	for _, b := range blocks {
		code := strings.TrimSpace(b.code)
		if code == "make test" || code == "make check" { // what runs this test
			continue
		}
		if b.background {
			p.start(t, code)
			continue
		}
		output, exit := sh.run(t, p.command(b.code))
		output = p.shown(output)
		if exit != 0 {
			t.Fatalf("%s:%d: exit code %d\n%s\n%s", page, b.line, exit, b.code, output)
		}
		if b.hasWant && !fits(t, b.want, output) {
			t.Errorf("%s:%d: the page promises\n%s\nand this came:\n%s", page, b.line, b.want, output)
		}
	}
}

// fits compares line by line; … stands for anything within a line, and a line of … for any lines.
func fits(t *testing.T, want, got string) bool {
	t.Helper()
	var pattern strings.Builder
	for line := range strings.Lines(strings.TrimSpace(want) + "\n") {
		line = strings.TrimRight(line, " \n")
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		parts := strings.Split(line, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern.WriteString(strings.Join(parts, ".*") + ` *\n`)
	}
	re, err := regexp.Compile("^" + pattern.String() + "$")
	if err != nil {
		t.Fatal(err)
	}
	return re.MatchString(strings.ReplaceAll(strings.TrimSpace(got), "\r", "") + "\n")
}

// start runs a background block and waits until the public listener is ready.
func (p *place) start(t *testing.T, code string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+p.command(code))
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PATH="+p.path)
	log, err := os.Create(filepath.Join(p.dir, "background.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", code, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	client := &http.Client{Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		res, err := client.Get("http://" + p.replaces[0][1] + "/readyz")
		if err != nil {
			continue
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	output, err := os.ReadFile(log.Name())
	t.Fatalf("%s is not ready: %v\n%s", code, err, output)
}

// shell is a bash that keeps its variables from block to block.
type shell struct {
	in  io.WriteCloser
	out *bufio.Reader
}

const mark = "__end_of_block__"

func newShell(t *testing.T, p *place) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PATH="+p.path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(3*patience, func() {
		if err := cmd.Process.Kill(); err != nil {
			fmt.Fprintln(os.Stderr, "kill the shell:", err)
		}
	})
	t.Cleanup(func() {
		watchdog.Stop()
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return &shell{in, bufio.NewReader(out)}
}

func (s *shell) run(t *testing.T, code string) (output string, exit int) {
	t.Helper()
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\nprintf '\\n%s %%d\\n' $?\n", code, mark); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the shell ended: %v\n%s", err, output)
		}
		if rest, ok := strings.CutPrefix(line, mark+" "); ok {
			if _, err := fmt.Sscan(rest, &exit); err != nil {
				t.Fatal(err)
			}
			return output, exit
		}
		output += line
	}
}
