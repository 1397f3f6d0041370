package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// start runs the demo as a user does, in a process group of its own and with a temporary
// directory that the test looks into afterwards.
func start(t *testing.T, args ...string) (cmd *exec.Cmd, out io.Reader, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, "go", append([]string{"run", "."}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out, tmp
}

// nothingLeft checks that the demo's directory and ingot are gone, soon. What `go run` itself
// leaves below go-build when SIGTERM kills it is not the demo's.
func nothingLeft(t *testing.T, tmp, output string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	pid := ingotPid(t, output)
	for {
		left, err := filepath.Glob(filepath.Join(tmp, "ingot-demo-*"))
		if err != nil {
			t.Fatal(err)
		}
		gone := pid == 0 || syscall.Kill(pid, 0) != nil
		if len(left) == 0 && gone {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %v, ingot (pid %d) gone: %v", left, pid, gone)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ingotPid finds the process in the demo's output, 0 when it was not started.
func ingotPid(t *testing.T, output string) int {
	t.Helper()
	m := regexp.MustCompile(`pid (\d+)`).FindStringSubmatch(output)
	if m == nil {
		return 0
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestDemoShowsWhatItCollectedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	cmd, out, tmp := start(t, "-once")
	body, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	text := string(body)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the demo failed: %v\n%s", err, text)
	}
	for _, want := range []string{
		`2/2 +\d+ +\d+\.\d +shop`, `1/1 .* ingot`, `0/1 .* nobody-there`, `\d+ .* shop/nginx`, `\d+ .* monitoring/report`,
		`LAST LINES\n  \d\d:`, `generated log lines arrived, 0 lost, 0 twice`, `exit code 0`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("nothing like %q in the output", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	nothingLeft(t, tmp, text)
}

func TestDemoLeavesNothingWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		after string // interrupt once this was printed
		send  func(group int) error
	}{
		{"Ctrl-C while it stays up", "Ctrl-C ends the demo", func(g int) error { return syscall.Kill(-g, syscall.SIGINT) }},
		{"SIGTERM to go run alone while it collects", "collecting", func(g int) error { return syscall.Kill(g, syscall.SIGTERM) }},
		{"SIGTERM while it builds", "building", func(g int) error { return syscall.Kill(-g, syscall.SIGTERM) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd, out, tmp := start(t)
			var text strings.Builder
			in := bufio.NewReader(out)
			for sent := false; ; {
				b, err := in.ReadByte()
				if err != nil {
					break // the demo has closed its output: it is at its end
				}
				text.WriteByte(b)
				if !sent && strings.Contains(text.String(), tc.after) {
					sent = true
					if err := tc.send(cmd.Process.Pid); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait() // go run's own code after a signal says nothing about the demo
			if !strings.Contains(text.String(), tc.after) {
				t.Fatalf("the demo ended before %q:\n%s", tc.after, text.String())
			}
			if tc.after != "building" && !strings.Contains(text.String(), "exit code 0") {
				t.Errorf("ingot was not stopped in an orderly way:\n%s", text.String())
			}
			nothingLeft(t, tmp, text.String())
		})
	}
}
