package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ingot": main})
}

// TestScripts runs terminal sessions. Besides the usual commands there is exit2, which runs
// a program that must end with exit code 2.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit2": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[0], args[1:]...)
				if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitUsage {
					ts.Fatalf("%s: %v, want exit code %d", strings.Join(args, " "), err, exitUsage)
				}
			},
		},
	})
}

// writeConfig writes a configuration that scrapes nothing that exists and delivers to an address
// where nobody listens.
func writeConfig(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ingot.yaml")
	text := "destinations:\n  - {name: away, type: prometheus, url: \"" + url + "\"}\n" +
		"scrape: {interval: 100ms, timeout: 100ms}\n" +
		"scrape_configs:\n  - job_name: none\n    static_configs: [{targets: [\"127.0.0.1:1\"]}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listening reads log lines until the one that tells the address, and keeps reading in the
// background so that the program never waits for the test.
func listening(t *testing.T, log io.Reader) string {
	t.Helper()
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("the program ended before it listened: %v", err)
		}
		t.Logf("%s", bytes.TrimSpace(line))
		var l struct{ Msg, Address string }
		if json.Unmarshal(line, &l) == nil && l.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, lines) }()
			return l.Address
		}
	}
}

func page(t *testing.T, address, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %d %s %v", path, resp.StatusCode, body, err)
	}
	return string(body)
}

func TestRunServesItsPagesAndStopsWithItsContext(t *testing.T) {
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	args := []string{
		"run", "--config", writeConfig(t, "http://127.0.0.1:1/"), "--data", t.TempDir(),
		"--listen", "127.0.0.1:0", "--log.format", "json",
	}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, args, terminal{nil, io.Discard, w, func(string) string { return "" }})
		w.Close()
	}()
	address := listening(t, r)
	for path, want := range map[string]string{
		"/-/ready":        "ready",
		"/-/healthy":      "healthy",
		"/metrics":        "go_goroutines",
		"/config":         "name: away",
		"/status/targets": "{",
		"/status/queues":  "away",
		"/":               "/status/targets",
	} {
		if body := page(t, address, path); !strings.Contains(body, want) {
			t.Errorf("GET %s has no %q:\n%s", path, want, body)
		}
	}
	stop()
	if got := <-code; got != exitOK {
		t.Errorf("run = %d, want %d", got, exitOK)
	}
}

func TestAnAddressInUseEndsTheProgram(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var stderr bytes.Buffer
	args := []string{"run", "--config", writeConfig(t, "http://127.0.0.1:1/"), "--data", t.TempDir(), "--listen", ln.Addr().String()}
	code := run(t.Context(), args, terminal{nil, io.Discard, &stderr, os.Getenv})
	if code != exitFailed || !strings.Contains(stderr.String(), "choose another address with --listen") {
		t.Errorf("run = %d\n%s", code, &stderr)
	}
}

// program starts the program in a process of its own and waits until it listens.
func program(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	ingot, err := exec.LookPath("ingot") // testscript.Main puts it there.
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), ingot, "run", "--config", writeConfig(t, url), "--data", t.TempDir(),
		"--listen", "127.0.0.1:0", "--log.format", "json")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening(t, stderr)
	return cmd
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return exitOK
}

func TestSignalsStopTheProgramCleanly(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := program(t, "http://127.0.0.1:1/")
		began := time.Now()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if code := exitCode(cmd.Wait()); code != exitOK {
			t.Errorf("after %v the program ended with %d, want 0", sig, code)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("after %v the program took %v to stop, want less than 10s", sig, took)
		}
	}
}

func TestASecondSignalEndsTheProgramAtOnce(t *testing.T) {
	// A backend that never answers keeps the first signal's work going.
	asked := make(chan bool, 100)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			asked <- true
		}
	}()
	cmd := program(t, "http://"+ln.Addr().String()+"/")
	select {
	case <-asked:
	case <-time.After(30 * time.Second):
		t.Fatal("the program sent nothing in 30s")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	// Signals of one kind that arrive together are one; so this one is sent until it counts.
	for {
		select {
		case err := <-done:
			if code := exitCode(err); code != exitInterrupted {
				t.Errorf("after two signals the program ended with %d, want %d", code, exitInterrupted)
			}
			return
		case <-time.After(20 * time.Millisecond):
			_ = cmd.Process.Signal(os.Interrupt) // It may be gone already.
		}
	}
}

func TestTheVersionIsWhatTheBuildSays(t *testing.T) {
	f := func(info *debug.BuildInfo, want string) {
		t.Helper()
		if got := versionLine(info); !strings.HasPrefix(got, want) {
			t.Errorf("versionLine = %q, want %q", got, want)
		}
	}
	f(nil, "ingot devel (commit unknown, go")
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	f(info, "ingot devel (commit abc with changes, go")
	info.Main.Version = "v0.1.0"
	f(info, "ingot v0.1.0 (commit abc with changes, go")
}
