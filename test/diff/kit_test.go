package diff_test

import (
	"cmp"
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
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// sample is one sample as the ledger keeps it. What is text is there to be compared only.
type sample struct {
	Labels    model.Labels
	T, Start  int64
	V         float64
	Histogram string
	Family    string
	Exemplars []exemplar
}

// exemplar is one of the exemplars of a sample.
type exemplar struct {
	Labels string
	T      int64
	V      float64
}

// family writes metadata as samples keep it.
func family(name, kind, help, unit string) string {
	return fmt.Sprintf("%s %s %q %q", name, kind, help, unit)
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
	rest := b.Exemplars
	for i, s := range b.Samples {
		one := sample{Labels: model.Labels(b.At(s.Labels)), T: s.T, Start: s.Start, V: s.V}
		if s.Histogram.To > s.Histogram.From {
			one.Histogram = histogramText(b.At(s.Histogram))
		}
		if s.Family > 0 {
			m := b.Metadata[s.Family-1]
			one.Family = family(m.Family, m.Type, m.Help, m.Unit)
		}
		for len(rest) > 0 && int(rest[0].Sample) == i {
			one.Exemplars = append(one.Exemplars, exemplar{labelsText(model.Labels(b.At(rest[0].Labels))), rest[0].T, rest[0].V})
			rest = rest[1:]
		}
		x.all = append(x.all, one)
	}
}

// histogramText writes a histogram in the wire form of remote write.
func histogramText(wire []byte) string {
	var h writev2.Histogram
	if err := h.Unmarshal(wire); err != nil {
		return err.Error()
	}
	if h.IsFloatHistogram() {
		return fmt.Sprintf("%s schema %d", h.ToFloatHistogram(), h.Schema)
	}
	return fmt.Sprintf("%s schema %d", h.ToIntHistogram(), h.Schema)
}

func labelsText(ls model.Labels) string {
	var all []string
	for _, l := range ls.All() {
		all = append(all, l.Name+"="+l.Value)
	}
	return strings.Join(all, ",")
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

// brief writes a batch as a sorted list of name{labels but job and instance} value and what
// else there is, with scrape_duration_seconds left out, and times where they are that of the
// scrape.
func brief(batch []sample) string {
	var all []string
	now := batch[len(batch)-1].T
	time := func(t int64) string {
		if t == now {
			return ""
		}
		return fmt.Sprintf(" @%d", t)
	}
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
		if s.Histogram != "" {
			v = s.Histogram
		}
		v += time(s.T)
		if s.Start != 0 {
			v += fmt.Sprintf(" since %d", s.Start)
		}
		for _, e := range s.Exemplars {
			v += fmt.Sprintf(" # {%s} %v%s", e.Labels, e.V, time(e.T))
		}
		if s.Family != "" {
			v += " (" + s.Family + ")"
		}
		all = append(all, name+" "+v)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// typed gives answers a content type, text/plain when it is empty.
type typed struct {
	http.RoundTripper
	contentType string
}

func (r typed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Header.Set("Content-Type", cmp.Or(r.contentType, "text/plain"))
	}
	return resp, err
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
