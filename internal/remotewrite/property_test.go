package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// TestWhatIsCommittedArrivesAndNothingElse drives writers of every kind with random
// transactions from several goroutines, and compares what arrives under each key, in order.
func TestWhatIsCommittedArrivesAndNothingElse(t *testing.T) {
	kinds := map[string]func(*EndpointConfig){
		"1.0":           func(*EndpointConfig) {},
		"1.0 small":     func(c *EndpointConfig) { c.MaxBytes, c.MaxSamplesPerSend = 16*config.KiB, 100 },
		"zstd":          func(c *EndpointConfig) { c.Compression = "zstd" },
		"2.0":           func(c *EndpointConfig) { c.ProtobufMessage = Message2 },
		"2.0 small":     func(c *EndpointConfig) { c.ProtobufMessage, c.MaxSamplesPerSend = Message2, 150 },
		"2.0 few bytes": func(c *EndpointConfig) { c.ProtobufMessage, c.MaxBytes = Message2, 64*config.KiB },
		"auto":          func(c *EndpointConfig) { c.ProtobufMessage = MessageAuto },
		"bare":          func(c *EndpointConfig) { c.SendExemplars, c.SendNativeHistograms = false, false },
	}
	for name, change := range kinds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				cfg := DefaultEndpointConfig()
				cfg.BatchSendDeadline = config.Duration(time.Millisecond)
				change(&cfg)
				drive(t, cfg, seed)
			}
		})
	}
}

func drive(t *testing.T, cfg EndpointConfig, seed uint64) {
	t.Helper()
	r := &receiver{t: t}
	reg := prometheus.NewRegistry()
	w := newTestWriter(t, reg, Endpoint{Name: "e", Config: cfg, Queue: r, Shards: 3})
	stop := run(t, w)
	const keys = 4
	committed := make([][]expected, keys)
	var wg sync.WaitGroup
	for key := range keys {
		wg.Go(func() {
			s := &source{rand: rand.New(rand.NewPCG(seed, uint64(key))), key: fmt.Sprint(key), now: 1_700_000_000_000}
			for turn := range 5 {
				committed[key] = append(committed[key], transact(t, w, s, uint64(key))...)
				if cfg.ProtobufMessage == MessageAuto && key == 0 {
					r.refused.Store(turn%2 == 0)
				}
			}
		})
	}
	wg.Wait()
	stop()
	total := 0
	for key, samples := range committed {
		total += len(samples)
		compare(t, cfg, samples, r.samples[fmt.Sprint(key)], fmt.Sprintf("seed %d, key %d", seed, key))
	}
	e := w.streams[0].metrics
	dropped := 0
	for _, c := range e.dropped {
		dropped += int(testutil.ToFloat64(c))
	}
	if got := int(testutil.ToFloat64(e.appended)); got != total {
		t.Errorf("appended_samples_total = %d, want %d", got, total)
	}
	if encoded := int(testutil.ToFloat64(e.samples)); encoded != r.items || encoded+dropped != total {
		t.Errorf("%d samples appended, of which %d encoded, %d dropped and %d received", total, encoded, dropped, r.items)
	}
}

// transact appends random batches and returns what was committed.
func transact(t *testing.T, w *Writer, s *source, key uint64) (committed []expected) {
	t.Helper()
	a := w.Appender(key)
	rollback := s.rand.IntN(3) == 0
	var more []model.Label
	if rollback {
		more = append(more, model.Label{Name: "rolled", Value: "back"})
	}
	for range s.rand.IntN(4) {
		b, want := s.batch(s.rand.IntN(400), more...)
		a.Append(b)
		committed = append(committed, want...)
		clear(b.Bytes) // A source uses its batch again.
		clear(b.Samples)
	}
	if rollback {
		a.Rollback()
		return nil
	}
	if err := a.Commit(); err != nil {
		t.Errorf("Commit = %v", err)
	}
	return committed
}

func compare(t *testing.T, cfg EndpointConfig, samples []expected, got []string, what string) {
	t.Helper()
	var want []string
	for _, s := range samples {
		switch {
		case cfg.ProtobufMessage == MessageAuto && s.custom:
			// It arrives by 2.0 and does not by 1.0.
			if n := len(want); n < len(got) && got[n] == s.text2() {
				want = append(want, s.text2())
			}
		case s.histogram && !cfg.SendNativeHistograms, s.custom && cfg.ProtobufMessage == Message1:
		case cfg.ProtobufMessage == Message2, cfg.ProtobufMessage == MessageAuto && len(want) < len(got) && got[len(want)] == s.text2():
			want = append(want, s.text2())
		case !cfg.SendExemplars:
			want = append(want, s.plain)
		default:
			want = append(want, s.text)
		}
	}
	if len(want) != len(got) {
		t.Errorf("%s: %d samples received, want %d", what, len(got), len(want))
	}
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Errorf("%s: sample %d (-want +got):\n%s", what, i, cmp.Diff(want[i], got[i]))
			return
		}
	}
}
