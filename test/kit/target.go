package kit

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// TargetPath is where a [Target] serves its metrics.
const TargetPath = "/metrics"

// Target is a metrics target. An honest scrape serves Series samples
//
//	seq{i="0"} 17
//
// whose value is the number of the scrape, so every value is given away once only, and the
// target keeps its own log of what it served.
type Target struct {
	*Server

	mode chan struct{} // closed and replaced when the mode changes, which ends what hangs

	mu      sync.Mutex // guards the rest and mode
	series  int
	hostile Mode
	extra   string
	render  Page
	served  []Scrape
}

// Page renders the answer to scrape n for a request: its content type and its body.
type Page func(n int64, r *http.Request) (contentType string, body []byte)

// Mode is how a target treats its next scrapes.
type Mode string

// The modes of a target. All but ModeHonest are what a scraper must survive.
const (
	ModeHonest       Mode = ""
	ModeGarbage      Mode = "garbage"       // bytes that are no exposition, after some that are
	ModeHTML         Mode = "html"          // a page, as a wrong port or a login gives
	ModeError        Mode = "error"         // 500
	ModeEndless      Mode = "endless"       // a valid body that never ends
	ModeSlow         Mode = "slow"          // a valid body, one byte every 50 ms
	ModeHang         Mode = "hang"          // no answer at all
	ModeRedirectLoop Mode = "redirect loop" // 302 to itself
	ModeGzipBomb     Mode = "gzip bomb"     // a valid body of 10 GiB in ten megabytes
	ModeLabels       Mode = "labels"        // one series with ten million labels
	ModeSeries       Mode = "series"        // ten million series, each of another name
	ModeTruncated    Mode = "truncated"     // a body shorter than its Content-Length
)

// Scrape is one scrape that a target has answered.
type Scrape struct {
	N     int64 // the value of every seq sample; 0 for a hostile answer
	Mode  Mode
	Began time.Time
	Ended time.Time
	// Complete means that the whole body was handed to the kernel; only then can the scraper
	// have it. It may still have given up.
	Complete bool
	Body     []byte // of an honest answer
	Header   http.Header

	contentType string // of Body, "" is that of the text format
}

// NewTarget returns a target that serves series samples a scrape and is down; see [Server.Up].
func NewTarget(series int) *Target {
	t := &Target{series: series, mode: make(chan struct{})}
	t.Server = NewServer(t)
	return t
}

// StartTarget starts a target that ends with the test.
func StartTarget(tb testing.TB, series int) *Target {
	tb.Helper()
	t := NewTarget(series)
	if err := t.Up(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Down)
	return t
}

// SetMode changes how the next scrapes are treated and ends a running hostile answer.
func (t *Target) SetMode(m Mode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hostile = m
	close(t.mode)
	t.mode = make(chan struct{})
}

// SetSeries changes how many seq samples a scrape has: series appear or end.
func (t *Target) SetSeries(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.series = n
}

// SetExtra adds lines of exposition to every honest scrape; text ends with a line end.
func (t *Target) SetExtra(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.extra = text
}

// SetPage makes every honest scrape serve pages of the test's own instead of the seq series,
// in any format; the ledger of such a target is the test's own affair too.
func (t *Target) SetPage(p Page) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.render = p
}

// Served returns the scrapes so far in the order in which they began.
func (t *Target) Served() []Scrape {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.served)
}

// ServeHTTP answers one scrape.
func (t *Target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != TargetPath {
		http.NotFound(w, r)
		return
	}
	t.mu.Lock()
	s := Scrape{Mode: t.hostile, Began: time.Now(), Header: r.Header.Clone()}
	changed := t.mode
	if s.Mode == ModeHonest || s.Mode == ModeSlow {
		s.N = 1
		for _, old := range slices.Backward(t.served) {
			if old.N > 0 {
				s.N = old.N + 1
				break
			}
		}
		s.Body = t.page(s.N)
		if t.render != nil {
			s.contentType, s.Body = t.render(s.N, r)
		}
	}
	index := len(t.served)
	t.served = append(t.served, s)
	t.mu.Unlock()

	complete := t.answer(w, r, s, changed)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.served[index].Ended, t.served[index].Complete = time.Now(), complete
}

// page renders one honest body. The caller holds mu.
func (t *Target) page(n int64) []byte {
	var b bytes.Buffer
	b.WriteString("# HELP seq The number of this scrape.\n# TYPE seq counter\n")
	for i := range t.series {
		fmt.Fprintf(&b, "seq{i=\"%d\"} %d\n", i, n)
	}
	b.WriteString(t.extra)
	return b.Bytes()
}

// Selector matches the seq series of this target alone, by the instance label that a scraper
// gives where no relabelling says otherwise.
func (t *Target) Selector() string {
	return fmt.Sprintf("seq{instance=%q}", t.Addr())
}

// Report holds the scrapes that were served completely before until against the ledger of a
// receiver: as sets of "scrape/series". Repeated has the samples that arrived twice, Disorder
// the refused samples that the receiver did not know. Samples of scrapes after until may have
// arrived or not.
func (t *Target) Report(r *MetricsReceiver, tenant string, until time.Time) Report {
	return t.ReportSelector(r, tenant, t.Selector(), until)
}

// ReportSelector is [Target.Report] for a target whose seq series are found by another
// selector.
func (t *Target) ReportSelector(r *MetricsReceiver, tenant, selector string, until time.Time) Report {
	type id struct {
		series string
		scrape int64
	}
	arrived := r.Series(tenant, selector) // before what was served: nothing arrives earlier
	t.mu.Lock()
	served := slices.Clone(t.served)
	t.mu.Unlock()
	var must, may []id
	for _, s := range served {
		if s.N == 0 {
			continue
		}
		exp, err := ParseExposition(s.Body)
		if err != nil {
			panic(err) // the page is our own
		}
		for _, e := range exp.Find("seq") {
			k := id{e.Labels.Get("i"), s.N}
			if s.Complete && s.Ended.Before(until) {
				must = append(must, k)
			}
			may = append(may, k)
		}
	}
	var got []id
	for _, s := range arrived {
		for _, sample := range slices.Concat(s.Samples, s.Repeated) {
			if sample.Stale() {
				continue
			}
			k := id{s.Labels.Get("i"), int64(sample.V)}
			if float64(k.scrape) != sample.V || math.IsNaN(sample.V) {
				k.scrape = -1 // never given away: a corrupted value
			}
			got = append(got, k)
		}
	}
	rep := Compare(may, got)
	rep.Lost = Compare(must, got).Lost
	matchers := mustSelector(selector)
	for _, s := range r.Disorder() {
		if (tenant == "" || s.Tenant == tenant) && matches(s.Labels, matchers) {
			rep.Disorder = append(rep.Disorder, fmt.Sprintf("%s %v: %s", s.Labels, s.Sample, s.Reason))
		}
	}
	return rep
}

// WaitScrapes returns when n scrapes more than those so far have been answered completely.
func (t *Target) WaitScrapes(ctx context.Context, within time.Duration, n int) error {
	count := func() int {
		done := 0
		for _, s := range t.Served() {
			if s.Complete {
				done++
			}
		}
		return done
	}
	want := count() + n
	return poll(ctx, within, func() error {
		if have := count(); have < want {
			return fmt.Errorf("%d scrapes answered, want %d", have, want)
		}
		return nil
	})
}
