package delivery

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// victim is the process that the kill tests kill: it puts blocks at a steady rate, each
// with the number that follows the last one it has announced, and says on its output which
// Put has returned.
func victim(dir, url, mode string) {
	next, err := strconv.Atoi(os.Getenv("INGOT_DELIVERY_NEXT"))
	if err != nil {
		panic(err)
	}
	cfg := DefaultConfig()
	cfg.Durability = mode
	q := New(cfg, dir, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()), Endpoint{
		Name: "test", URL: url, Client: http.DefaultClient, Timeout: time.Second,
	})
	go func() { panic(q.Run(context.Background())) }()
	for ; ; next++ {
		b := block(next, 2000)
		b.Shard = uint32(next % victimShards)
		if err := q.Put(context.Background(), b); err != nil {
			panic(err)
		}
		fmt.Printf("%d %d\n", next, time.Now().UnixMilli())
		time.Sleep(5 * time.Millisecond)
	}
}

const victimShards = 4

// receiver keeps the order of the blocks that it has accepted.
type receiver struct {
	away atomic.Bool
	slow time.Duration
	mu   sync.Mutex
	ids  []int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil || r.away.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	id, ok := idOf(body)
	if !ok {
		panic(fmt.Sprintf("received what was never put: %.40q", body))
	}
	r.mu.Lock()
	r.ids = append(r.ids, id)
	r.mu.Unlock()
	time.Sleep(r.slow)
}

func (r *receiver) all() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int(nil), r.ids...)
}

// R3, R4.
func TestKilledProcessLosesNothingThatIsOnDisk(t *testing.T) {
	for _, mode := range []string{Always, Behind} {
		for _, away := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, endpoint away %v", mode, away), func(t *testing.T) {
				t.Parallel()
				kill(t, mode, away)
			})
		}
	}
}

func kill(t *testing.T, mode string, away bool) {
	t.Helper()
	dir := t.TempDir()
	r := &receiver{slow: time.Millisecond}
	srv := httptest.NewServer(r)
	defer srv.Close()
	defer srv.CloseClientConnections()
	safe := map[int]bool{}
	next, rounds := 0, 4
	for round := range rounds {
		r.away.Store(away)
		announced, killedAt := runVictim(t, dir, srv.URL, mode, next, time.Duration(900+rand.IntN(500))*time.Millisecond)
		for id, at := range announced {
			// With behind, what is younger than the spill pause may be gone.
			if mode == Always || killedAt.Sub(at) > spillAfter+300*time.Millisecond {
				safe[id] = true
			}
			next = max(next, id+1)
		}
		next++ // The block that was being put when the process died.
		if round == rounds-1 {
			r.away.Store(false)
		}
	}
	q := New(testConfig(), dir, logger(t), newTestMetrics(), Endpoint{Name: "test", URL: srv.URL, Client: srv.Client()})
	run := start(t, q)
	eventually(t, "the backlog drains", func() bool {
		s := q.Status()
		q.mu.Lock()
		opened := q.diskReady
		q.mu.Unlock()
		return opened && s.Sent.Blocks == s.Restored.Blocks && s.Disk.Blocks == 0
	})
	s := run.shutdown()
	if s.CorruptRecords > 1 || s.SkippedFiles > 0 { // At most the record being written at the last kill.
		t.Errorf("Status = %+v, want nothing damaged", s)
	}
	got := map[int]int{}
	highest, repeats := slices.Repeat([]int{-1}, victimShards), 0
	for _, id := range r.all() {
		got[id]++
		last := &highest[id%victimShards]
		if id <= *last {
			repeats++
			if got[id] == 1 {
				t.Errorf("block %d came first after block %d", id, *last)
			}
		}
		*last = max(*last, id)
	}
	for id := range safe {
		if got[id] == 0 {
			t.Errorf("block %d was safe and has never arrived", id)
		}
	}
	t.Logf("%d blocks, %d of them safe, %d arrived, %d repeated", next, len(safe), len(got), repeats)
	// The block that is acknowledged as the process dies comes again, and rarely those that
	// were while the disk was busy with a sync.
	if repeats > rounds*15 {
		t.Errorf("%d blocks repeated in %d kills", repeats, rounds)
	}
	if len(safe) == 0 {
		t.Error("no block was safe: the test shows nothing")
	}
}

// runVictim runs a process for a while, kills it, and returns what it has announced and when.
func runVictim(t *testing.T, dir, url, mode string, next int, life time.Duration) (map[int]time.Time, time.Time) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INGOT_DELIVERY_VICTIM="+dir, "INGOT_DELIVERY_URL="+url, "INGOT_DELIVERY_MODE="+mode, "INGOT_DELIVERY_NEXT="+strconv.Itoa(next))
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	announced := map[int]time.Time{}
	killed := make(chan time.Time, 1)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if len(announced) == 0 {
			time.AfterFunc(life, func() {
				killed <- time.Now()
				_ = cmd.Process.Kill()
			})
		}
		var id int
		var ms int64
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &id, &ms); err == nil {
			announced[id] = time.UnixMilli(ms)
		}
	}
	_ = cmd.Wait() // It was killed.
	if len(announced) == 0 {
		t.Fatal("the process has done nothing")
	}
	return announced, <-killed
}
