//go:build linux

package meter

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-telemetry/ingot/test/kit"
)

func start(t *testing.T, cpu int, program string, args ...string) *Process {
	t.Helper()
	p, err := Start(cpu, io.Discard, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

func TestProcessIsMeasured(t *testing.T) {
	p := start(t, -1, "sleep", "60")
	// It has just begun: its first pages are still to come.
	kit.Eventually(t, time.Minute, "memory of sleep", func() error {
		rss, err := p.RSS()
		if err == nil && (rss < 1<<16 || rss > 1<<26) {
			err = fmt.Errorf("%d bytes", rss)
		}
		return err
	})
	if _, err := p.Written(); err != nil {
		t.Error(err)
	}
	if cpu, err := p.CPU(); err != nil || cpu < 0 || cpu > time.Second {
		t.Errorf("CPU time of sleep: %s, %v", cpu, err)
	}
	busy := start(t, -1, "sh", "-c", "while :; do :; done")
	kit.Eventually(t, time.Minute, "CPU time of a loop", func() error {
		cpu, err := busy.CPU()
		if err == nil && cpu < 10*time.Millisecond {
			err = fmt.Errorf("only %s", cpu)
		}
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Watch(ctx)
	if mean, highest := p.Memory(); mean == 0 || mean != highest {
		t.Errorf("memory of one look: mean %d, highest %d", mean, highest)
	}
	if mean, highest := p.Memory(); mean != 0 || highest != 0 {
		t.Errorf("memory is reported twice: %d, %d", mean, highest)
	}
	if killed := p.Stop(time.Minute); killed || p.Err() == nil {
		t.Errorf("killed %v, error %v after SIGTERM", killed, p.Err())
	}
	if _, err := p.CPU(); err == nil {
		t.Error("the CPU time of an ended process can be read")
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := Start(-1, w, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done")
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if !p.Stop(100 * time.Millisecond) {
		t.Error("it ended by itself")
	}
}

func TestProcessRunsOnItsCPU(t *testing.T) {
	load, program := CPUs()
	if program < 0 {
		t.Skip("needs two CPUs")
	}
	if load == program {
		t.Fatalf("both on CPU %d", load)
	}
	p := start(t, program, "sleep", "60")
	var set, own unix.CPUSet
	if err := unix.SchedGetaffinity(p.Pid(), &set); err != nil {
		t.Fatal(err)
	}
	if set.Count() != 1 || !set.IsSet(program) {
		t.Errorf("the program may use %d CPUs, %d among them: %v", set.Count(), program, set.IsSet(program))
	}
	if err := unix.SchedGetaffinity(0, &own); err != nil || own.Count() < 2 {
		t.Errorf("this process may use %d CPUs after it started another, %v", own.Count(), err)
	}
}

// TestPinSelf pins a copy of the test, which prints what it may use.
func TestPinSelf(t *testing.T) {
	const child = "METER_TEST_CHILD"
	if _, ok := os.LookupEnv(child); ok {
		if err := PinSelf(0); err != nil {
			t.Fatal(err)
		}
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
			if err != nil || !strings.Contains(string(text), "Cpus_allowed_list:\t0\n") {
				t.Errorf("thread %s is not pinned, %v", task.Name(), err)
			}
		}
		return
	}
	if load, _ := CPUs(); load != 0 {
		t.Skip("needs two CPUs, 0 among them")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPinSelf$")
	cmd.Env = append(os.Environ(), child+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	if _, err := Start(-1, io.Discard, "/no/such/program"); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("error %v, want one that names the program", err)
	}
}

func TestUseOfTheMachineIsParsed(t *testing.T) {
	m, err := parseMachine([]byte("cpu  100 200 300 4000 50 6 7 80 0 0\ncpu0 50 1 1 1 1 1 1 1 0 0\ncpu1 50 1 1 1 1 1 1 1 0 0\nintr 1 2 3\n"))
	want := Machine{Busy: 6130 * time.Millisecond, Stole: 800 * time.Millisecond, CPUs: 2}
	if err != nil || m != want {
		t.Errorf("%+v, %v; want %+v", m, err, want)
	}
	for _, text := range []string{"", "cpu  a 2 3 4 5 6 7 8 9\ncpu0 1 2 3 4 5 6 7 8\n"} {
		if _, err := parseMachine([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if m, err := ReadMachine(); err != nil || m.Busy == 0 {
		t.Errorf("this machine: %+v, %v", m, err)
	}
	if self, err := Self(); err != nil || self <= 0 {
		t.Errorf("this process: %s, %v", self, err)
	}
}

func TestInstructionsAreReadFromWhatPerfPrints(t *testing.T) {
	for text, want := range map[string]int64{
		"123456,,instructions:u,1000,100.00,,\n":            123456,
		"# started on\n\n7,,instructions:u,1000,100.00,,\n": 7,
		"<not supported>,,instructions:u,0,100.00,,\n":      -1,
		"12,,cycles:u,0,100.00,,\n":                         -1,
		"Error: no permission to count\n":                   -1,
		"":                                                  -1,
	} {
		got, known := parseInstructions([]byte(text))
		if !known {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestCountingInstructionsNeverFails(t *testing.T) {
	p := start(t, -1, "sleep", "60")
	stop := p.Instructions()
	if n := stop(); n < 0 || n > 0 && !CountsInstructions(t.Context()) {
		t.Errorf("%d instructions", n)
	}
}
