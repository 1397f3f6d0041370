package kit

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeVariable makes the test binary play ingot in TestMain: the handle on the process is
// under test here, not the program.
const fakeVariable = "KIT_FAKE_INGOT"

// fakeIngot listens, says so as ingot does, is ready after a moment, and ends as it is told.
func fakeIngot(mode string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if mode == "broken" {
		fmt.Fprintln(os.Stderr, "destinations[0].url: is missing")
		return 1
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 3
	}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, nil)
	if mode == "json" {
		handler = slog.NewJSONHandler(os.Stderr, nil)
	}
	slog.New(handler).Info("listening", "component", "web", "address", ln.Addr().String())
	readyAt := time.Now().Add(50 * time.Millisecond)
	mux := http.NewServeMux()
	mux.HandleFunc("/-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if time.Now().Before(readyAt) {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3 1000\nargs{all=%q} 1\n", strings.Join(os.Args[1:], " "))
	})
	go func() { _ = http.Serve(ln, mux) }()
	<-ctx.Done()
	return 7
}

// startFake runs the test binary as ingot.
func startFake(t *testing.T, mode string, args ...string) *Process {
	t.Helper()
	return Start(t, ProcessConfig{Binary: os.Args[0], Config: "a: b\n", Args: args, Env: []string{fakeVariable + "=" + mode}})
}

func TestProcessIsReadyWhenStartReturns(t *testing.T) {
	for _, mode := range []string{"logfmt", "json"} {
		p := startFake(t, mode, "--role", "logs")
		if _, err := p.Get("/-/ready"); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		if got, err := p.Metric("a"); err != nil || got != 5 {
			t.Errorf("%s: Metric(a) = %v, %v, want 5", mode, got, err)
		}
		exp, err := p.Metrics()
		if err != nil {
			t.Fatal(err)
		}
		args := exp.Find("args")[0].Labels.Get("all")
		for _, want := range []string{"run --config " + filepath.Join(p.Dir(), "ingot.yaml"), "--data " + filepath.Join(p.Dir(), "data"), "--listen 127.0.0.1:0", "--role logs"} {
			if !strings.Contains(args, want) {
				t.Errorf("%s: arguments %s, want %s", mode, args, want)
			}
		}
		if body, err := os.ReadFile(filepath.Join(p.Dir(), "ingot.yaml")); err != nil || string(body) != "a: b\n" {
			t.Errorf("%s: configuration %q, %v", mode, body, err)
		}
		if _, err := p.Get("/nothing"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s: Get(/nothing) = %v, want 404", mode, err)
		}
	}
}

func TestProcessStopsAndTellsTheCode(t *testing.T) {
	p := startFake(t, "logfmt")
	code, took := p.Stop()
	if code != 7 || took <= 0 || took > 10*time.Second || !p.Ended() {
		t.Errorf("Stop = %d after %s", code, took)
	}
	again := p.Again(t)
	if again.Pid() == p.Pid() || again.Dir() != p.Dir() {
		t.Errorf("Again: pid %d in %s, before %d in %s", again.Pid(), again.Dir(), p.Pid(), p.Dir())
	}
	again.Kill()
	if code, err := again.Wait(t.Context()); err != nil || code != 137 {
		t.Errorf("after Kill: %d, %v, want 137", code, err)
	}
}

func TestProcessThatEndsTooEarlyShowsItsLog(t *testing.T) {
	p, err := StartProcess(ProcessConfig{Binary: os.Args[0], Dir: t.TempDir(), Env: []string{fakeVariable + "=broken"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if err := p.WaitReady(t.Context()); err == nil || !strings.Contains(err.Error(), "code 1") || !strings.Contains(err.Error(), "destinations[0].url: is missing") {
		t.Errorf("WaitReady = %v, want the code and the log", err)
	}
}

func TestProcessThatDoesNotExistIsAnError(t *testing.T) {
	if _, err := StartProcess(ProcessConfig{Binary: filepath.Join(t.TempDir(), "no"), Dir: t.TempDir()}); err == nil {
		t.Error("StartProcess = nil error")
	}
}
