package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// startNodes starts a set-up's nodes and returns their addresses.
func startNodes(binary string, s setup, upstream string) (addresses []string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "landline-load-cache-")
	if err != nil {
		return nil, nil, err
	}
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				fmt.Fprintln(os.Stderr, "stop a node:", err)
			}
			if err := cmd.Wait(); err != nil {
				fmt.Fprintln(os.Stderr, "a node ended:", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	path := filepath.Join(dir, "landline.yaml")
	if err := os.WriteFile(path, []byte(configuration(s, upstream)), 0o600); err != nil {
		return nil, nil, err
	}
	for i := range s.nodes {
		cmd := exec.Command(binary, "serve", "--config", path, "--data", filepath.Join(dir, fmt.Sprint(i)), "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		if os.Getenv("LOAD_VERBOSE") != "" {
			cmd.Stderr = os.Stderr
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			stop()
			return nil, nil, err
		}
		if err := cmd.Start(); err != nil {
			stop()
			return nil, nil, err
		}
		running = append(running, cmd)
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("a node does not start: %w (LOAD_VERBOSE=1 shows why)", err)
		}
		address, _, _ := strings.Cut(strings.TrimPrefix(line, "ready public="), " ")
		addresses = append(addresses, "http://"+address)
	}
	return addresses, stop, nil
}

func configuration(s setup, upstream string) string {
	prefix := make([]byte, 6)
	rand.Read(prefix) //nolint:errcheck // never fails
	var b strings.Builder
	fmt.Fprintf(&b, "profile: development\napp: {id: com.example.load, public_url: \"https://api.example.com\"}\nlog: {level: error}\nupstreams: {service: {targets: [{url: %q}]}}\n", upstream)
	memory := s.memory
	if memory == "" {
		memory = "64MiB"
	}
	fmt.Fprintf(&b, "cache: {memory: %s, redis: %t}\n", memory, s.redis)
	if s.redis {
		fmt.Fprintf(&b, "redis: {url: \"${TEST_REDIS_URL}\", prefix: \"load_%s:\"}\n", hex.EncodeToString(prefix))
	}
	b.WriteString("features:\n  all:\n    auth: none\n    routes: [{match: \"/v1/{rest...}\", upstream: service}]\n")
	if s.cache != "" {
		b.WriteString("    cache: " + s.cache + "\n")
	}
	return b.String()
}
