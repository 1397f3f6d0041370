package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BinaryVariable names the environment variable that holds the path of a built ingot; see
// [Main] and [Binary].
const BinaryVariable = "INGOT_BINARY"

// RaceVariable names the environment variable that, when not empty, has ingot built with
// the race detector.
const RaceVariable = "INGOT_RACE"

// Main runs the tests of a package with the program built once, and removes it again:
//
//	func TestMain(m *testing.M) { os.Exit(kit.Main(m)) }
//
// It builds nothing when [BinaryVariable] names a program already.
func Main(m *testing.M) int {
	if path, ok := os.LookupEnv(BinaryVariable); ok && path != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "ingot-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path, err := Build(context.Background(), dir)
	if err == nil {
		err = os.Setenv(BinaryVariable, path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Binary returns the path of ingot: the one that [BinaryVariable] names, else one built for
// this test.
func Binary(tb testing.TB) string {
	tb.Helper()
	if path, ok := os.LookupEnv(BinaryVariable); ok && path != "" {
		return path
	}
	path, err := Build(tb.Context(), tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Build builds ingot into dir and returns the path of the program. It must be called from
// inside the module. The environment decides about cgo, as for every build of the module.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "ingot")
	args := []string{"build", "-o", path}
	if race, ok := os.LookupEnv(RaceVariable); ok && race != "" {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/ingot-telemetry/ingot/cmd/ingot")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ingot: %w\n%s", err, bytes.TrimSpace(out))
	}
	return path, nil
}

// ProcessConfig says how ingot is run.
type ProcessConfig struct {
	// Binary is the path of the program.
	Binary string
	// Config is the text of the configuration; it is written to Dir/ingot.yaml.
	Config string
	// Dir holds the configuration and, in Dir/data, what ingot stores. Two processes one
	// after the other with the same Dir are a restart.
	Dir string
	// Args are further arguments of `ingot run`, for example --role.
	Args []string
	// Env is added to the environment, each NAME=value.
	Env []string
	// Unready has [Start] return when the program listens, though it be not ready.
	Unready bool
	// Wrap is a command that ends by executing the rest of its arguments in its place, such as
	// setpriv, for a process with other rights.
	Wrap []string
}

// Process is one run of the real program. Its methods may be called from any goroutine.
type Process struct {
	cfg  ProcessConfig
	cmd  *exec.Cmd
	logs *logBuffer
	done chan struct{} // closed when the process has ended

	mu   sync.Mutex // guards addr, code
	addr string
	code int
}

// Time limits of a process; generous, since a test machine can be slow and none is waited out
// when all is well.
const (
	startLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
	getLimit   = 10 * time.Second
)

// Start runs ingot and returns when it is ready; the process ends with the test at the
// latest. Empty Binary and Dir are filled in: [Binary] and a directory of the test's own.
// When the test fails, the log of the process is part of its output.
func Start(tb testing.TB, cfg ProcessConfig) *Process {
	tb.Helper()
	if cfg.Binary == "" {
		cfg.Binary = Binary(tb)
	}
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	p, err := StartProcess(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("log of ingot (pid %d):\n%s", p.cmd.Process.Pid, p.Log())
		}
	})
	if cfg.Unready {
		Eventually(tb, startLimit, "an address", func() error {
			if p.Addr() == "" {
				return errors.New("none is logged yet")
			}
			return nil
		})
		return p
	}
	if err := p.WaitReady(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return p
}

// Again starts another process with the same configuration and data: a restart, once this
// one has ended.
func (p *Process) Again(tb testing.TB) *Process {
	tb.Helper()
	return Start(tb, p.cfg)
}

// StartProcess runs ingot without a test around it. The caller must end it with
// [Process.Stop] or [Process.Kill]; should the caller itself die, the process is killed.
func StartProcess(cfg ProcessConfig) (*Process, error) {
	file := filepath.Join(cfg.Dir, "ingot.yaml")
	if err := os.WriteFile(file, []byte(cfg.Config), 0o600); err != nil {
		return nil, err
	}
	args := append([]string{"run", "--config", file, "--data", filepath.Join(cfg.Dir, "data"), "--listen", "127.0.0.1:0"}, cfg.Args...)
	args = slices.Concat(cfg.Wrap, []string{cfg.Binary}, args)
	p := &Process{cfg: cfg, done: make(chan struct{}), cmd: exec.Command(args[0], args[1:]...)} //nolint:noctx // it outlives every context: Stop and Kill end it
	p.logs = &logBuffer{line: p.readLine}
	p.cmd.Dir = cfg.Dir
	p.cmd.Env = append(os.Environ(), cfg.Env...)
	p.cmd.Stdout, p.cmd.Stderr = p.logs, p.logs
	p.cmd.SysProcAttr = processAttributes()
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that started the process ends, so the
		// thread is kept until the process has.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = p.cmd.Wait()
		p.mu.Lock()
		p.code = exitCode(err)
		p.mu.Unlock()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start ingot: %w", err)
	}
	return p, nil
}

// exitCode returns the code a shell would show: 128 and the signal's number after a signal.
func exitCode(err error) int {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// WaitReady returns when ingot listens and says that it is ready, or with the log when it has
// ended or is not ready within a minute.
func (p *Process) WaitReady(ctx context.Context) error {
	err := poll(ctx, startLimit, func() error {
		if p.Ended() {
			return nil
		}
		addr := p.Addr()
		if addr == "" {
			return errors.New("no address logged yet")
		}
		_, err := p.Get("/-/ready")
		return err
	})
	if err == nil && p.Ended() {
		err = fmt.Errorf("ended with code %d", p.exit())
	}
	if err != nil {
		return fmt.Errorf("wait for ingot to be ready: %w\n%s", err, p.Log())
	}
	return nil
}

// Addr returns the host:port on which ingot listens, "" until it has logged it.
func (p *Process) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// URL returns the root URL without a slash at its end.
func (p *Process) URL() string {
	return "http://" + p.Addr()
}

// Pid returns the process id.
func (p *Process) Pid() int {
	return p.cmd.Process.Pid
}

// Dir returns the directory of the configuration and the data.
func (p *Process) Dir() string {
	return p.cfg.Dir
}

// Log returns everything that ingot has written so far, standard output and error as one.
func (p *Process) Log() string {
	return p.logs.String()
}

// Ended tells whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Done is closed when the process has ended by whatever cause.
func (p *Process) Done() <-chan struct{} {
	return p.done
}

// Kill sends SIGKILL and returns when the process is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only when the process has ended
	<-p.done
}

// Signal sends a signal, for example SIGSTOP, SIGCONT or SIGINT.
func (p *Process) Signal(sig os.Signal) error {
	return p.cmd.Process.Signal(sig)
}

// Stop sends SIGTERM and returns the exit code and how long the stop took. A process that
// has not ended after 20 s is killed, and its code is then 137.
func (p *Process) Stop() (code int, took time.Duration) {
	began := time.Now()
	_ = p.Signal(syscall.SIGTERM) // fails only when the process has ended
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		p.Kill()
	}
	return p.exit(), time.Since(began)
}

// Wait returns the exit code of a process that ends by itself, or an error when ctx ends first.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.exit(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for ingot to end: %w", ctx.Err())
	}
}

// exit returns the exit code of a process that has ended.
func (p *Process) exit() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}

// Get returns the body of one of ingot's own pages; an answer other than 2xx is an error with
// its body.
func (p *Process) Get(path string) ([]byte, error) {
	return httpGet(p.URL() + path)
}

// Metrics scrapes ingot's own /metrics.
func (p *Process) Metrics() (Exposition, error) {
	body, err := p.Get("/metrics")
	if err != nil {
		return nil, err
	}
	return ParseExposition(body)
}

// Metric returns the sum of ingot's own series that the selector matches, 0 when there is none.
func (p *Process) Metric(selector string) (float64, error) {
	exp, err := p.Metrics()
	if err != nil {
		return 0, err
	}
	return exp.Sum(selector), nil
}

// httpGet fetches a small page from loopback.
func httpGet(url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), getLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	// One connection a request: a pooled one would outlive the process it leads to.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("get %s: %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// listening finds the address in the line with which ingot says that it listens, in logfmt
// and in JSON.
var listening = regexp.MustCompile(`(?:\bmsg=listening\b.*\baddress="?([^" ]+)|"msg":"listening".*"address":"([^"]+)")`)

// readLine looks for the address in one line of the log.
func (p *Process) readLine(line string) {
	m := listening.FindStringSubmatch(line)
	if m == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr = m[1] + m[2]
}

// logBuffer keeps what a process writes and shows every whole line to a function.
type logBuffer struct {
	line func(string)

	mu   sync.Mutex // guards text, seen
	text bytes.Buffer
	seen int // bytes of text that were shown
}

// maxLog bounds what one process may make us keep.
const maxLog = 64 << 20

// Write implements io.Writer.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.text.Len() > maxLog {
		return len(p), nil
	}
	b.text.Write(p)
	for {
		rest := b.text.Bytes()[b.seen:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		b.line(string(rest[:end]))
		b.seen += end + 1
	}
}

// String returns everything written so far.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(b.text.String())
}
