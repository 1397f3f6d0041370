package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestAccountsBalanceThroughChaos lets several sources put blocks while the endpoint gives
// every kind of answer, each source in a shard of its own, the disk fails and heals, the cap is reached and the queue is
// restarted, and checks the accounts all the while and who got what in which order at the end.
func TestAccountsBalanceThroughChaos(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if seed%4 == 3 {
				dir = ""
			}
			synctest.Test(t, func(t *testing.T) { chaos(t, seed, dir) })
		})
	}
}

const chaosSources = 3

func chaos(t *testing.T, seed uint64, dir string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := &backend{}
	var mu sync.Mutex // guards answers
	answers := rand.New(rand.NewPCG(seed, 2))
	weather := func(r request) (*http.Response, error) {
		mu.Lock()
		roll, delay := answers.IntN(12), time.Duration(answers.IntN(3000))*time.Millisecond
		mu.Unlock() // Others answer while this one sleeps.
		switch roll {
		case 0:
			return respond(400, "no"), nil
		case 1:
			return respond(413, "big"), nil
		case 2:
			return respond(503, "", "Retry-After", "1"), nil
		case 3:
			return refuse(r)
		case 4: // Taken, but the answer gets lost.
			b.mu.Lock()
			defer b.mu.Unlock()
			b.taken = append(b.taken, r.id)
			return refuse(r)
		case 5:
			time.Sleep(delay)
		}
		return respond(200, ""), nil
	}
	cfg := testConfig()
	cfg.MaxBytes = 1 << 20
	if seed%2 == 1 {
		cfg.Durability = Always
	}
	var broken atomic.Bool
	next := [chaosSources]int{}
	var put, lost Amount
	for life := range 4 {
		b.set(weather)
		reg := prometheus.NewRegistry()
		q := New(cfg, dir, logger(t), NewMetrics(reg), Endpoint{Name: "test", URL: "http://test/", Client: &http.Client{Transport: b}, Timeout: 2 * time.Second})
		q.memoryLimit = 256 << 10
		q.files.sync = func(*os.File) error { return nil } // Minutes pass here in no time.
		q.files.writeAt = func(f *os.File, p []byte, at int64) (int, error) {
			if broken.Load() {
				n, _ := f.WriteAt(p[:len(p)/2], at)
				return n, syscall.ENOSPC
			}
			return f.WriteAt(p, at)
		}
		r := start(t, q)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for src := range chaosSources {
			own := rand.New(rand.NewPCG(seed, uint64(100*life+src)))
			wg.Go(func() {
				for ctx.Err() == nil {
					b := block(next[src]*chaosSources+src, 200+own.IntN(20_000))
					b.Shard = uint32(src)
					if q.Put(ctx, b) == nil {
						next[src]++
					}
					time.Sleep(time.Duration(own.IntN(600)) * time.Millisecond)
				}
			})
		}
		for range 60 {
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			balanced(t, q)
			metricsBalance(t, reg)
			switch rnd.IntN(6) {
			case 0:
				broken.Store(dir != "")
			case 1, 2:
				broken.Store(false)
			case 3:
				b.set(refuse)
			default:
				b.set(weather)
			}
		}
		broken.Store(false)
		if life == 3 { // The last one delivers everything.
			b.set(nil)
			cancel()
			wg.Wait()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
		} else {
			time.Sleep(10 * time.Second)
			cancel()
			wg.Wait()
		}
		s := r.shutdown()
		metricsBalance(t, reg)
		put.add(s.Put)
		for _, d := range s.Dropped {
			lost.add(d)
		}
		if dir == "" {
			lost.add(s.Memory)
		} else if s.Memory.Blocks > 0 {
			t.Errorf("life %d leaves %d blocks in memory though the disk is fine", life, s.Memory.Blocks)
		}
		if s.CorruptRecords > 0 {
			t.Errorf("life %d: %d corrupt records, want none", life, s.CorruptRecords)
		}
	}
	accepted := map[int]bool{}
	last := [chaosSources]int{-1, -1, -1}
	for _, id := range b.accepted() {
		if accepted[id] {
			continue // Sent again since the answer came too late.
		}
		accepted[id] = true
		if id < last[id%chaosSources] {
			t.Errorf("block %d came first after block %d", id, last[id%chaosSources])
		}
		last[id%chaosSources] = id
	}
	var count int64
	for _, n := range next {
		count += int64(n)
	}
	if put.Blocks != count {
		t.Errorf("%d blocks put by the accounts, %d by the sources", put.Blocks, count)
	}
	// A block whose answer came too late may be accepted and dropped later on.
	if missing := count - int64(len(accepted)); missing > lost.Blocks {
		t.Errorf("%d blocks never arrived, %d are accounted for as lost", missing, lost.Blocks)
	}
	t.Logf("%d put, %d arrived, %d lost and counted", count, len(accepted), lost.Blocks)
}

// metricsBalance checks the accounts as a scrape sees them.
func metricsBalance(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := func(name string) (v float64) {
		for _, f := range families {
			if f.GetName() != "ingot_delivery_"+name {
				continue
			}
			for _, m := range f.GetMetric() {
				if f.GetType().String() == "GAUGE" {
					v += m.GetGauge().GetValue()
				} else {
					v += m.GetCounter().GetValue()
				}
			}
		}
		return v
	}
	for _, unit := range []string{"items", "bytes"} {
		came := sum("put_"+unit+"_total") + sum("restored_"+unit+"_total")
		gone := sum("sent_"+unit+"_total") + sum("dropped_"+unit+"_total") + sum("queued_"+unit)
		if came != gone {
			t.Errorf("%s: put and restored %v, sent, dropped and queued %v", unit, came, gone)
		}
	}
}
