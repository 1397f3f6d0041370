package scrape

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// TestTargetsThatComeAndGoAtRandomEndAllTheirSeries has hundreds of targets that go, come back,
// move to another address and hang. In the end all are gone: no series may be left without a
// marker, and nothing may be left of a loop.
func TestTargetsThatComeAndGoAtRandomEndAllTheirSeries(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) { churn(t, rand.New(rand.NewPCG(seed, 3))) })
	}
}

func churn(t *testing.T, rng *rand.Rand) {
	t.Helper()
	const names, steps = 150, 60
	var mu sync.Mutex // guards rng
	random := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
	source := newList()
	r := run(t, DefaultConfig(), jobOf(t, job10s, source, transport(func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(time.Duration(random(7000)) * time.Millisecond): // The timeout is 5s.
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		if random(8) == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		body := fmt.Sprintf("common 1\nby_address{a=%q} 1\nat_times{n=\"%d\"} 1\n", req.URL.Host, random(3))
		return respond(req, "text/plain", io.NopCloser(strings.NewReader(body))), nil
	})))
	for range steps {
		var all []labels.Labels
		for i := range names {
			if random(3) > 0 {
				all = append(all, labels.FromStrings("__address__", fmt.Sprintf("%c:1", 'a'+random(3)), "instance", fmt.Sprint(i)))
			}
		}
		source.setLabels(all...)
		time.Sleep(time.Duration(1000+random(30_000)) * time.Millisecond)
	}
	source.setLabels()
	time.Sleep(time.Minute)
	synctest.Wait()

	last := make(map[model.Labels]float64)
	for _, b := range r.take() {
		for _, s := range b {
			last[s.Labels] = s.V
		}
	}
	left := 0
	for ls, v := range last {
		if math.Float64bits(v) != value.StaleNaN {
			if left++; left < 5 {
				t.Errorf("%s has not ended", ls)
			}
		}
	}
	if left > 0 || len(last) < 5*names {
		t.Errorf("%d of %d series have not ended", left, len(last))
	}
	s := r.shared.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.due)+len(s.gone)+len(s.idle) > 0 {
		t.Errorf("the scheduler has %d loops that are due, %d that are gone, %d workers, want none", len(s.due), len(s.gone), len(s.idle))
	}
	r.checkOrder(t)
}
