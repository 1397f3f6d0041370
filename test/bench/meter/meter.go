//go:build linux

// Package meter runs a program on a CPU of its own and measures what it uses: CPU time by the
// process's own clock, memory as the kernel adds it up over the address space, bytes written
// to disk. It also tells how much of the machine others used meanwhile, since a measurement
// beside a busy neighbour is worth little.
//
// It reads /proc and so works on Linux only. Socket buffers and the page cache are in none
// of its figures.
package meter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTicks is the unit of /proc/stat, which the kernel shows as 100 a second everywhere.
const userTicks = 100

// Process is a running program. It is killed when this process dies.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // How it ended; read it after done.

	mu  sync.Mutex // guards rss
	rss []int64
}

// Start runs a program, on one CPU when cpu is not negative. Its output goes to log.
func Start(cpu int, log io.Writer, program string, args ...string) (*Process, error) {
	p := &Process{
		cmd:  exec.CommandContext(context.Background(), program, args...), // Stop and Kill end it.
		done: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The thread is never given back: its CPU is the program's, and its end is what
		// the kernel takes for our death.
		runtime.LockOSThread()
		var err error
		if cpu >= 0 {
			err = pinThread(0, cpu)
		}
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// pinThread restricts a thread, 0 is the calling one, to some CPUs.
func pinThread(tid int, cpus ...int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin to CPUs %v: %w", cpus, err)
	}
	return nil
}

// PinSelf restricts this process to some CPUs, or lets it use them again. Threads made later
// inherit it from those that make them.
func PinSelf(cpus ...int) error {
	for range 2 { // A thread may be made while the first round goes on.
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list own threads: %w", err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return fmt.Errorf("list own threads: %w", err)
			}
			if err = pinThread(tid, cpus...); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// CPUs returns two CPUs that this process may use, one for the load and one for the program
// under test. Both are -1 when there is only one.
func CPUs() (load, program int) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() < 2 {
		return -1, -1
	}
	var found []int
	for cpu := 0; len(found) < 2; cpu++ {
		if set.IsSet(cpu) {
			found = append(found, cpu)
		}
	}
	return found[0], found[1]
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Err says how the process ended, once it has; nil is success.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop asks the process to end and kills it when it has not within that time.
func (p *Process) Stop(grace time.Duration) (killed bool) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // It may have ended by itself.
	select {
	case <-p.done:
		return false
	case <-time.After(grace):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return true
}

// CPU returns the processor time that the process has used in all its threads.
func (p *Process) CPU() (time.Duration, error) {
	// The number of the clock of a process, as clock_getcpuclockid makes it.
	clock := int32(^p.Pid())<<3 | 2
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read CPU clock of process %d: %w", p.Pid(), err)
	}
	return time.Duration(ts.Nano()), nil
}

// RSS returns the memory of the process that is in RAM, in bytes.
func (p *Process) RSS() (int64, error) {
	kib, err := procValue(p.Pid(), "smaps_rollup", "Rss:")
	return kib << 10, err
}

// Written returns how many bytes the process has caused to be written to disk.
func (p *Process) Written() (int64, error) { return procValue(p.Pid(), "io", "write_bytes:") }

// procValue returns the number behind a word of a file of /proc.
func procValue(pid int, file, word string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	return lineValue(text, word)
}

func lineValue(text []byte, word string) (int64, error) {
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == word {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("find %q among %q: not there", word, text)
}

// Watch measures the memory each second until ctx ends. It returns at once when the process
// has ended.
func (p *Process) Watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		rss, err := p.RSS()
		if err != nil {
			return // The process has ended, which others notice.
		}
		p.mu.Lock()
		p.rss = append(p.rss, rss)
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Memory returns the mean and the highest memory that Watch has seen since the last call.
func (p *Process) Memory() (mean, highest int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rss) == 0 {
		return 0, 0
	}
	for _, rss := range p.rss {
		mean += rss
		highest = max(highest, rss)
	}
	mean /= int64(len(p.rss))
	p.rss = nil
	return mean, highest
}

// Machine is what all programs together have used since the start of the machine.
type Machine struct {
	Busy  time.Duration // All CPUs.
	Stole time.Duration // By other guests of the same host.
	CPUs  int
}

// ReadMachine reads /proc/stat.
func ReadMachine() (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, err
	}
	return parseMachine(text)
}

func parseMachine(text []byte) (Machine, error) {
	var m Machine
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		if fields[0] != "cpu" {
			m.CPUs++
			continue
		}
		// user nice system idle iowait irq softirq steal
		for i, f := range fields[1:9] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return m, fmt.Errorf("read the use of the machine: %w", err)
			}
			d := time.Duration(n) * time.Second / userTicks
			switch i {
			case 3, 4:
			case 7:
				m.Stole += d
			default:
				m.Busy += d
			}
		}
	}
	if m.CPUs == 0 {
		return m, errors.New("read the use of the machine: no CPU in /proc/stat")
	}
	return m, lines.Err()
}

// Self returns the processor time that this process has used.
func Self() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("read own CPU clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
