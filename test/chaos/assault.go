package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The attacks of the theme overload. Beside each a calm client must go on.

// beside runs attack while calm clients call, and tells how they fared.
func (a *assault) beside(ctx context.Context, name string, attack func() error) error {
	c := newCalm(a.base + "/v1/read/7")
	stop := c.start(ctx, 2)
	err := attack()
	if c.took.count() == 0 { // it was over before the first answer
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	a.r.zero(name+": other calls that failed", int(c.failed.Load()))
	a.r.within(name+": other calls, p99", c.took.quantile(0.99), time.Second)
	return err
}

func (a *assault) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	return d.DialContext(ctx, "tcp", strings.TrimPrefix(a.base, "http://"))
}

// loris sends headers so slowly that they never end: each connection must be closed after limits.header_timeout.
func (a *assault) loris(ctx context.Context) error {
	n := pick(a.h, 2000, 300)
	var closed atomic.Int64
	err := a.beside(ctx, "slowloris", func() error {
		var all sync.WaitGroup
		for range n {
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			all.Go(func() {
				defer c.Close()
				end := make(chan struct{})
				go func() {
					_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
					if _, err := io.Copy(io.Discard, c); err == nil || !isTimeout(err) {
						closed.Add(1)
					}
					close(end)
				}()
				line := "GET /v1/read/7 HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 100)
				tick := time.NewTicker(150 * time.Millisecond)
				defer tick.Stop()
				for i := 0; ; i = (i + 1) % len(line) {
					select {
					case <-end:
						return
					case <-tick.C:
					}
					_, _ = c.Write([]byte{line[i]}) // refused once the other side has closed, which the reader sees
				}
			})
		}
		all.Wait()
		return nil
	})
	a.r.add(fmt.Sprintf("slowloris: of %d connections closed by the server", n), fmt.Sprint(closed.Load()), fmt.Sprint(n), int(closed.Load()) == n)
	return err
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// idle holds many connections on which one request was made.
func (a *assault) idle(ctx context.Context) error {
	n := pick(a.h, 10_000, 2000)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if room := int(limit.Cur) - 1000; room < n { // the process that ships raises nothing by itself either
		a.r.info("idle connections: bounded by ulimit -n", "%d", limit.Cur)
		n = room
	}
	before, err := measure(ctx, a.node)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	err = a.beside(ctx, "idle connections", func() error {
		for range n {
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			conns = append(conns, c)
			if _, err := io.WriteString(c, "GET /v1/read/7 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return err
			}
			res, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	during, err := measure(ctx, a.node)
	if err != nil {
		return err
	}
	a.r.atMost(fmt.Sprintf("idle connections: KiB of heap for each of %d", n), int((during.heap-before.heap)/float64(n)/1024), 16)
	return nil
}

// headers sends headers of 1 MB.
func (a *assault) headers(ctx context.Context) error {
	n, refused := pick(a.h, 200, 30), 0
	err := a.beside(ctx, "headers of 1 MB", func() error {
		for range n {
			c, err := a.dial(ctx)
			if err != nil {
				return err
			}
			go func() { // it is not read to its end
				_, _ = io.WriteString(c, "GET /v1/read/7 HTTP/1.1\r\nHost: x\r\nX-Big: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
			}()
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil && !isTimeout(err) || err == nil && res.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
				refused++ // 431, or a reset that overtook it
			}
			_ = c.Close()
		}
		return nil
	})
	a.r.add(fmt.Sprintf("headers of 1 MB: of %d refused", n), fmt.Sprint(refused), fmt.Sprint(n), refused == n)
	return err
}

// bombs sends 64 KiB that become 64 MiB.
func (a *assault) bombs(ctx context.Context) error {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 64<<20)); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	n, refused := pick(a.h, 200, 32), atomic.Int64{}
	err := a.beside(ctx, "decompression bombs", func() error {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range n / 8 {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+"/v1/packed", bytes.NewReader(bomb.Bytes()))
					if err != nil {
						return
					}
					req.Header.Set("Content-Encoding", "gzip")
					res, err := client.Do(req)
					if err != nil {
						continue
					}
					_ = res.Body.Close()
					if res.StatusCode == http.StatusRequestEntityTooLarge {
						refused.Add(1)
					}
				}
			})
		}
		all.Wait()
		return nil
	})
	a.r.add(fmt.Sprintf("decompression bombs: of %d answered 413", n/8*8), fmt.Sprint(refused.Load()), fmt.Sprint(n/8*8), int(refused.Load()) == n/8*8)
	return err
}

// floods sends what would fill or slow down tables: members of an object, header
// fields, keys.
func (a *assault) floods(ctx context.Context) error {
	f := newFleet(func() string { return a.base }, nil, a.r)
	defer f.client.CloseIdleConnections()
	p := &phone{f: f}
	i := &installation{key: "overload-floods-0001"}
	if !p.install(ctx, i) || i.id == "" {
		return fmt.Errorf("the installation was not answered")
	}
	var members strings.Builder
	members.WriteString(`{"installation_id":"`)
	for n := 0; members.Len() < 900<<10; n++ {
		fmt.Fprintf(&members, `","k%d":"`, n)
	}
	members.WriteString(`"}`)
	members.WriteString(strings.Repeat(" ", 16))
	times, slowest, wrong := pick(a.h, 50, 5), time.Duration(0), 0
	keys := pick(a.h, 20_000, 1000)
	err := a.beside(ctx, "floods of members, fields and keys", func() error {
		for range times {
			began := time.Now()
			if got := f.call(ctx, http.MethodPost, "/v1/installations", members.String(), jsonType, "", ""); got.status != 400 && got.status != 413 && got.status != 422 {
				wrong++
				a.r.broken("100,000 members: %d %.200s", got.status, got.body)
			}
			slowest = max(slowest, time.Since(began))
		}
		var all sync.WaitGroup
		for w := range 8 {
			all.Go(func() {
				for n := range keys / 8 {
					f.call(ctx, http.MethodPost, "/v1/keyed", "{}", jsonType, fmt.Sprint("flood-", w, "-", n), i.access)
				}
			})
		}
		all.Wait()
		return nil
	})
	a.r.zero("JSON of 100,000 members: answers that are not 400, 413 or 422", wrong)
	a.r.within("JSON of 100,000 members: slowest answer", slowest, time.Second)
	a.r.info("different Idempotency-Keys sent", "%d", keys)
	return err
}
