package memory

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func newGuard(t *testing.T, cfg Config) (*Guard, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	return New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), reg), reg
}

func TestLevelsHaveAnOrderAndSlack(t *testing.T) {
	const limit = 1000
	for _, c := range []struct {
		before Level
		used   int64
		want   Level
	}{
		{LevelOK, 749, LevelOK},
		{LevelOK, 750, LevelElevated},
		{LevelOK, 850, LevelTight},
		{LevelOK, 950, LevelCritical},
		{LevelOK, 2000, LevelCritical},
		{LevelCritical, 901, LevelCritical}, // Not below 95 - 5 %.
		{LevelCritical, 899, LevelTight},
		{LevelTight, 801, LevelTight},
		{LevelTight, 799, LevelElevated},
		{LevelElevated, 699, LevelOK},
		{LevelCritical, 10, LevelOK},
	} {
		if got := levelOf(c.before, limit, c.used); got != c.want {
			t.Errorf("from %s at %d of %d: %s, want %s", c.before, c.used, limit, got, c.want)
		}
	}
	if got := levelOf(LevelCritical, 0, 1<<40); got != LevelOK {
		t.Errorf("without a limit: %s", got)
	}
}

func TestGuardFollowsTheUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, reg := newGuard(t, Config{})
		var used atomic.Int64
		used.Store(10)
		g.probe = func() (int64, int64) { return 100, used.Load() }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		if g.Level() != LevelOK {
			t.Errorf("level %s at the start", g.Level())
		}
		for _, step := range []struct {
			used int64
			want Level
		}{{80, LevelElevated}, {90, LevelTight}, {96, LevelCritical}, {50, LevelOK}} {
			used.Store(step.used)
			time.Sleep(checkPause)
			synctest.Wait()
			if got := g.Status(); g.Level() != step.want || got.Used != step.used || got.Level != step.want.String() {
				t.Errorf("at %d of 100: %+v, want %s", step.used, got, step.want)
			}
		}
		err := testutil.GatherAndCompare(reg, strings.NewReader("# HELP ingot_memory_used_bytes Memory in use without garbage, as compared with the limit.\n# TYPE ingot_memory_used_bytes gauge\ningot_memory_used_bytes 50\n"), "ingot_memory_used_bytes")
		if err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// TestProbeSeesWhatIsInUse holds 64 MiB, and then lets them go.
func TestProbeSeesWhatIsInUse(t *testing.T) {
	const size = 64 << 20
	runtime.GC()
	_, before := probe()
	held := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		held[i] = 1
	}
	runtime.GC()
	_, with := probe()
	runtime.KeepAlive(held)
	runtime.GC()
	_, after := probe()
	if grown := with - before; grown < size*9/10 || grown > size*11/10 {
		t.Errorf("holding %d bytes more shows as %d", size, grown)
	}
	if left := after - before; left > size/10 {
		t.Errorf("garbage of %d bytes still counts, %d of it", size, left)
	}
}

// TestProbeDoesNotCountGarbage makes 64 MiB of garbage, which no collection has found yet.
func TestProbeDoesNotCountGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	_, before := probe()
	for range 64 {
		runtime.KeepAlive(make([]byte, 1<<20))
	}
	if _, with := probe(); with-before > 16<<20 {
		t.Errorf("64 MiB of garbage show as %d bytes in use", with-before)
	}
}

func TestRunSetsTheLimitAndRestoresIt(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	g, _ := newGuard(t, Config{Limit: 3 * config.GiB})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	for g.Status().Limit == 0 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	if got := debug.SetMemoryLimit(-1); got != int64(3*config.GiB) || g.Status().Limit != got {
		t.Errorf("limit is %d, status says %d", got, g.Status().Limit)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("limit is %d after Run, was %d", got, before)
	}
}

func TestConfigRefusesALimitNobodyCanKeep(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := Config{Limit: config.MiB}.Validate()
	if want := "limit: must be at least 32MiB, which an idle process needs, is 1MiB"; err == nil || err.Error() != want {
		t.Errorf("Validate = %v, want %s", err, want)
	}
}
