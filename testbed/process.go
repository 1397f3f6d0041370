package testbed

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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one server that the testbed started.
type process struct {
	name    string
	cmd     *exec.Cmd
	logPath string
	begin   time.Time
	ready   func(context.Context) error // the probe that await used
	done    chan struct{}               // closed when the process has ended and was waited for
	err     error                       // how it ended; read it after done
}

// run starts a server whose output goes to a new log file.
func (c *Cluster) run(name, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(c.LogDir, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p, err := c.spawn(name, log, program, args)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// spawn starts a process and closes log, since the child has its own descriptor.
// The process is in the state file before anything waits for it, so that it
// cannot be forgotten.
func (c *Cluster) spawn(name string, log *os.File, program string, args []string) (*process, error) {
	defer log.Close()
	p := &process{
		name:    name,
		cmd:     exec.CommandContext(context.Background(), program, args...), // It outlives Start.
		logPath: log.Name(),
		begin:   time.Now(),
		done:    make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir = c.dir
	p.cmd.Env = withoutProxy(os.Environ())
	// An interrupt at the terminal goes to the whole process group. The servers
	// leave it, because the pods are deleted through them first.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return nil, errors.New("the testbed is being stopped")
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	// A restarted server keeps its place in the order of stopping.
	if i := slices.IndexFunc(c.procs, func(q *process) bool { return q.name == name }); i >= 0 {
		c.procs[i] = p
	} else {
		c.procs = append(c.procs, p)
	}
	return p, c.host.recordProcess(name, p.cmd.Process.Pid)
}

// Kill ends one server at once, as a crash would; its data stays. The names are
// those of the log files: "cortex", "loki", "kubelet", "kube-apiserver" and so on.
func (c *Cluster) Kill(name string) error {
	p, err := c.find(name)
	if err != nil {
		return fmt.Errorf("kill server: %w", err)
	}
	p.stop(0)
	return nil
}

// Restart kills a server that runs, starts it again with its data and waits until
// it is ready.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	old, err := c.find(name)
	if err != nil {
		return fmt.Errorf("restart server: %w", err)
	}
	old.stop(0)
	log, err := os.OpenFile(old.logPath, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	p, err := c.spawn(name, log, old.cmd.Path, old.cmd.Args[1:])
	if err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	return c.await(ctx, p, old.ready)
}

func (c *Cluster) find(name string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.procs {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the testbed runs no server %q", name)
}

// withoutProxy drops the variables that would send a request for a server beside
// this one to a proxy elsewhere.
func withoutProxy(env []string) []string {
	return slices.DeleteFunc(env, func(variable string) bool {
		name, _, _ := strings.Cut(strings.ToLower(variable), "=")
		return strings.HasSuffix(name, "_proxy")
	})
}

// await probes a server until it is ready, has ended, or two minutes are over.
func (c *Cluster) await(ctx context.Context, p *process, probe func(context.Context) error) error {
	p.ready = probe
	patience := time.After(2 * time.Minute)
	for {
		// A server that takes a connection and says nothing is not ready either.
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := probe(short)
		cancel()
		if err == nil {
			c.progress(p.name+" ready", p.begin)
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("start %s: it ended (%w); the end of its log:\n%s", p.name, p.exit(), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("start %s: %w", p.name, ctx.Err())
		case <-patience:
			return fmt.Errorf("start %s: not ready (%w); the end of its log:\n%s", p.name, err, p.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// awaitHTTP waits until url answers 200. The cluster's token goes along where
// the server is the cluster's.
func (c *Cluster) awaitHTTP(ctx context.Context, p *process, url string) error {
	return c.await(ctx, p, func(ctx context.Context) error {
		_, err := c.get(ctx, url, nil)
		return err
	})
}

// get fetches url and returns its body when the status is 200.
func (c *Cluster) get(ctx context.Context, url string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	if header != nil {
		req.Header = header
	}
	if strings.HasPrefix(url, "https://") {
		req.Header.Set("Authorization", "Bearer "+c.AdminToken)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err // It names the method and the address already.
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: status %d: %s", url, resp.StatusCode, lastLines(body, 5))
	}
	return body, nil
}

// stopProcesses ends the servers, the last started first. Each gets five
// seconds before it is killed.
func (c *Cluster) stopProcesses() {
	c.mu.Lock()
	procs := slices.Clone(c.procs)
	c.stopping = true
	c.mu.Unlock()
	for _, p := range slices.Backward(procs) {
		grace := 5 * time.Second
		if p.name == "cortex" || p.name == "loki" {
			// What they hold goes away with the work folder, so a flush is wasted time.
			grace = 0
		}
		p.stop(grace)
	}
}

func (p *process) stop(grace time.Duration) {
	if grace > 0 {
		// An error means that the process has ended already.
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
			return
		case <-time.After(grace):
		}
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail returns the end of the server's log.
func (p *process) tail() string {
	const most = 16 << 10
	f, err := os.Open(p.logPath)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, seekErr := f.Seek(0, io.SeekEnd); seekErr == nil {
		_, _ = f.Seek(max(0, end-most), io.SeekStart)
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error()
	}
	return lastLines(text, 15)
}

func lastLines(text []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}

// startReaper starts the program that cleans up when this process dies without
// having called Stop: by a kill, a test timeout or a panic. It notices by the
// end of its standard input. A testbed without it still works, so a failure is
// only logged.
func (c *Cluster) startReaper() {
	if c.opts.Binaries.Reaper == "" {
		return
	}
	cmd := exec.CommandContext(context.Background(), c.opts.Binaries.Reaper, "reap")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(c.opts.Log, "testbed: no reaper: %v\n", err)
		return
	}
	c.reaper = &process{name: "reaper", cmd: cmd, done: make(chan struct{})}
	c.reaperStdin = stdin
	go func() {
		c.reaper.err = cmd.Wait()
		close(c.reaper.done)
	}()
}

// stopReaper ends the reaper after all was cleaned up, whether well or not: what
// Stop could not remove, the same code in another process cannot either.
func (c *Cluster) stopReaper() {
	if c.reaper != nil {
		c.reaper.stop(0)
		_ = c.reaperStdin.Close()
	}
}

// processID names a process beyond its end: a number alone may be given to
// another process later, but not with the same start time.
type processID struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks after boot
}

// alive reports whether that very process still runs.
func (id processID) alive() bool {
	start, zombie, err := processStart(id.PID)
	return err == nil && !zombie && start == id.Start
}

// processStart reads a process's start time from /proc and whether it only
// waits to be collected by its parent.
func processStart(pid int) (start uint64, zombie bool, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false, err
	}
	return parseProcessStat(stat)
}

func parseProcessStat(stat []byte) (start uint64, zombie bool, err error) {
	// The second field is the program's name in parentheses and may hold spaces
	// and parentheses itself, so the fields are counted from its end.
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, false, fmt.Errorf("parse process state %q: too few fields", stat)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("parse process state: %w", err)
	}
	return start, fields[0] == "Z", nil
}
