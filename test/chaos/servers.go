package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"landline/test/process"
)

// postgres is a private server. PostgreSQL refuses to run as root, so root hands
// it to the user postgres.
type postgres struct {
	bin, dir, password string
	port               int
	options            []string
	cmd                *exec.Cmd
	log                *os.File
	credential         *syscall.Credential // nil = as we are
}

// newPostgres makes and starts a server in dir.
func newPostgres(ctx context.Context, dir string) (*postgres, error) {
	p := &postgres{dir: dir, password: rand.Text()}
	if err := p.find(); err != nil {
		return nil, err
	}
	if err := p.own(dir); err != nil {
		return nil, err
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(p.password), 0o600); err != nil {
		return nil, err
	}
	if p.credential != nil {
		if err := os.Chown(secret, int(p.credential.Uid), int(p.credential.Gid)); err != nil {
			return nil, err
		}
	}
	if err := p.run(ctx, "initdb", "-D", p.data(), "--username=landline", "--pwfile="+secret, "--auth-local=reject", "--auth-host=password",
		"--encoding=UTF8", "--locale=C.UTF-8"); err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// find looks for the newest PostgreSQL of Debian, else for one on the path.
func (p *postgres) find() error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return err
	}
	slices.Sort(found)
	if len(found) == 0 {
		one, err := exec.LookPath("initdb")
		if err != nil {
			return errors.New("PostgreSQL is not installed (Debian: apt-get install postgresql)")
		}
		found = []string{one}
	}
	p.bin = filepath.Dir(found[len(found)-1])
	if os.Getuid() != 0 {
		return nil
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(owner.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(owner.Gid, 10, 32)
	p.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return err
}

// own makes dir for the server's user alone.
func (p *postgres) own(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if p.credential == nil {
		return nil
	}
	return os.Chown(dir, int(p.credential.Uid), int(p.credential.Gid))
}

func (p *postgres) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + p.bin + ":" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C", "PGPASSWORD=" + p.password}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential, Setpgid: true} // a ^C is for us alone
	return cmd
}

func (p *postgres) run(ctx context.Context, program string, args ...string) error {
	if out, err := p.command(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

func freePort() (int, error) {
	address, err := process.FreeAddress()
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// launch starts the server on its port; it need not answer yet.
func (p *postgres) launch() error {
	if p.port == 0 {
		port, err := freePort()
		if err != nil {
			return err
		}
		p.port = port
	}
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	args := []string{"-D", p.data(), "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "full_page_writes=off", "-c", "max_wal_size=1GB"}
	p.cmd = p.command(context.Background(), "postgres", append(args, p.options...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	return p.cmd.Start()
}

// start returns once the server answers.
func (p *postgres) start(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	db, err := sql.Open("pgx", p.url())
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err = eventually(ctx, patience, "PostgreSQL answers", func() bool { return db.PingContext(ctx) == nil }); err != nil {
		text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		return fmt.Errorf("%w\n%s", err, tail(string(text)))
	}
	return nil
}

func (p *postgres) url() string { return p.urlAt(fmt.Sprint("127.0.0.1:", p.port), "postgres") }

func (p *postgres) urlAt(address, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("landline", p.password), Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

func (p *postgres) address() string { return fmt.Sprint("127.0.0.1:", p.port) }

// signal ends the server: SIGINT cuts its clients off and ends cleanly, SIGQUIT
// and SIGKILL leave a crash to recover from.
func (p *postgres) signal(s syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	if s == syscall.SIGKILL { // of a postmaster leaves its children, which end by themselves a moment later; kill the group
		if err := syscall.Kill(-cmd.Process.Pid, s); err != nil {
			return err
		}
	} else if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	return p.log.Close()
}

// end stops the server and deletes its data.
func (p *postgres) end() error {
	return errors.Join(p.signal(syscall.SIGINT), os.RemoveAll(p.dir))
}

// exec runs one statement.
func (p *postgres) exec(ctx context.Context, database, statement string) error {
	db, err := sql.Open("pgx", p.urlAt(p.address(), database))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

// replica makes and starts a hot standby of p, without which p confirms no
// commit: what was acknowledged is on both.
func (p *postgres) replica(ctx context.Context, dir string) (*postgres, error) {
	s := &postgres{bin: p.bin, dir: dir, password: p.password, credential: p.credential,
		options: []string{"-c", "wal_retrieve_retry_interval=100ms"}} // it comes back at once after the primary did
	if err := s.own(dir); err != nil {
		return nil, err
	}
	err := s.run(ctx, "pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "landline", "-D", s.data(), "-R", "-X", "stream", "-c", "fast")
	if err == nil {
		err = s.start(ctx)
	}
	if err == nil {
		err = p.exec(ctx, "postgres", `ALTER SYSTEM SET synchronous_standby_names = '*'`)
	}
	if err == nil {
		err = p.exec(ctx, "postgres", `SELECT pg_reload_conf()`)
	}
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// redis is a private server that keeps nothing.
type redis struct {
	port int
	dir  string
	cmd  *exec.Cmd
}

func newRedis(ctx context.Context, dir string) (*redis, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &redis{port: port, dir: dir}
	return r, r.start(ctx)
}

func (r *redis) address() string { return fmt.Sprint("127.0.0.1:", r.port) }

func (r *redis) start(ctx context.Context) error {
	r.cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--save", "", "--appendonly", "no", "--dir", r.dir)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	_, err := eventually(ctx, patience, "Redis answers", func() bool {
		c, err := net.DialTimeout("tcp", r.address(), time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return err
}

func (r *redis) stop() error {
	if r.cmd == nil {
		return nil
	}
	cmd := r.cmd
	r.cmd = nil
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}
