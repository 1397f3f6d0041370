package diff_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// sample is one sample as the ledger keeps it.
type sample struct {
	Labels model.Labels
	T      int64
	V      float64
}

// ledger is a sink that keeps everything, and refuses what a receiver without an
// out-of-order window would refuse.
type ledger struct {
	mu      sync.Mutex
	batches [][]sample
	newest  map[model.Labels]int64
	wrong   []string
}

// Appender implements scrape.Sink.
func (l *ledger) Appender(uint64) model.Appender { return &scraped{to: l} }

// scraped is what one scrape of ours yields.
type scraped struct {
	to  *ledger
	all []sample
}

func (x *scraped) Append(b *model.Batch) {
	for _, s := range b.Samples {
		x.all = append(x.all, sample{model.Labels(b.At(s.Labels)), s.T, s.V})
	}
}

func (x *scraped) Commit() error { x.to.keep(x.all); return nil }
func (x *scraped) Rollback()     {}

// keep takes one batch.
func (l *ledger) keep(batch []sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest == nil {
		l.newest = make(map[model.Labels]int64)
	}
	for _, s := range batch {
		if last, ok := l.newest[s.Labels]; ok && s.T <= last {
			l.wrong = append(l.wrong, fmt.Sprintf("%s at %d after %d", s.Labels, s.T, last))
		}
		l.newest[s.Labels] = s.T
	}
	l.batches = append(l.batches, batch)
}

// take returns the batches since the last call.
func (l *ledger) take() [][]sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.batches
	l.batches = nil
	return all
}

// checkOrder fails the test when a series did not increase in time.
func (l *ledger) checkOrder(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("%d samples out of order, such as %s", len(l.wrong), l.wrong[0])
	}
}

// brief writes a batch as a sorted list of name{labels but job and instance} value, with
// scrape_duration_seconds left out and times left out.
func brief(batch []sample) string {
	var all []string
	for _, s := range batch {
		name := s.Labels.Get("__name__")
		if name == "scrape_duration_seconds" {
			continue
		}
		var rest []string
		for _, l := range s.Labels.All() {
			if l.Name != "__name__" && l.Name != "job" && l.Name != "instance" {
				rest = append(rest, l.Name+"="+l.Value)
			}
		}
		if len(rest) > 0 {
			name += "{" + strings.Join(rest, ",") + "}"
		}
		v := fmt.Sprint(s.V)
		if math.Float64bits(s.V) == value.StaleNaN {
			v = "stale"
		}
		all = append(all, name+" "+v)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// answer is a transport in place of targets: no sockets, so that it works on a fake clock.
type answer func(req *http.Request) (status int, body string)

func (a answer) RoundTrip(req *http.Request) (*http.Response, error) {
	status, body := a(req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}, nil
}

// script answers with one body after the other, "500" as a failure, and the last one for ever.
func script(bodies ...string) http.RoundTripper {
	var mu sync.Mutex
	n := 0
	return answer(func(*http.Request) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		b := bodies[min(n, len(bodies)-1)]
		n++
		if b == "500" {
			return 500, "no"
		}
		return 200, b
	})
}

// untilScraped waits for the first batch on the fake clock and returns its time.
func untilScraped(t testing.TB, l *ledger) time.Time {
	t.Helper()
	for range 700 {
		time.Sleep(100 * time.Millisecond)
		l.mu.Lock()
		n := len(l.batches)
		l.mu.Unlock()
		if n > 0 {
			return time.Now()
		}
	}
	t.Fatal("nothing was scraped in 70s")
	return time.Time{}
}
