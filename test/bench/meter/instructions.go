//go:build linux

package meter

import (
	"bytes"
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// userInstructions is what perf calls the instructions outside the kernel.
const userInstructions = "instructions:u"

// CountsInstructions says whether perf can count instructions here. Many virtual machines hide
// the counter.
func CountsInstructions(ctx context.Context) bool {
	text, err := exec.CommandContext(ctx, "perf", "stat", "-x", ",", "-e", userInstructions, "true").CombinedOutput()
	if err != nil {
		return false
	}
	_, known := parseInstructions(text)
	return known
}

// Instructions has perf count the instructions of the process outside the kernel. The returned
// function ends that and returns their number, 0 when it could not be counted.
func (p *Process) Instructions() (stop func() int64) {
	var out bytes.Buffer
	perf := exec.CommandContext(context.Background(), "perf", "stat", "-x", ",", "-e", userInstructions, "-p", strconv.Itoa(p.Pid()))
	perf.Stderr = &out
	perf.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // So that an interrupt at the terminal does not end it.
	if err := perf.Start(); err != nil {
		return func() int64 { return 0 }
	}
	return func() int64 {
		_ = perf.Process.Signal(syscall.SIGINT) // perf prints what it has; it may have ended by itself.
		late := time.AfterFunc(10*time.Second, func() { _ = perf.Process.Kill() })
		defer late.Stop()
		_ = perf.Wait() // Ended by a signal in any case.
		n, _ := parseInstructions(out.Bytes())
		return n
	}
}

// parseInstructions finds the count in what perf stat -x , prints.
func parseInstructions(text []byte) (int64, bool) {
	for line := range bytes.Lines(text) {
		fields := strings.Split(string(line), ",")
		if len(fields) > 2 && fields[2] == userInstructions {
			n, err := strconv.ParseInt(fields[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
