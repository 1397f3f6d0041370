package exporter

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The content types of pages.
const (
	textContent     = "text/plain; version=0.0.4; charset=utf-8"
	protobufType    = "application/vnd.google.protobuf"
	protobufContent = protobufType + "; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// chunk is how much of a body without a length is written at once.
const chunk = 16 << 10

// Exporter serves a load. Its methods may be called from any goroutine.
type Exporter struct {
	load    Load
	jobs    []Job
	servers []*http.Server
	done    sync.WaitGroup
	hold    atomic.Bool

	mu     sync.Mutex // guards counts
	counts Counts
}

// A target is one server's content.
type target struct {
	e       *Exporter
	group   group
	index   int
	chunked bool
	scrapes atomic.Uint64
	pages   []*body // Empty where pages are made when they are asked for.

	mu      sync.Mutex // guards what follows
	ready   *body      // The page of step at.
	at      uint64
	pending bool // The page of the next step is being made.
}

// Start renders the pages of a load, with gzip also compressed ones, and serves them on
// loopback. The caller must call [Exporter.Close].
func Start(ctx context.Context, load Load, compressed bool) (*Exporter, error) {
	e := &Exporter{load: load}
	var targets []*target
	for _, g := range load.groups {
		for i := range g.targets {
			targets = append(targets, &target{e: e, group: g, index: i, chunked: i%2 == 1})
		}
	}
	render(targets, compressed)
	for i, t := range targets {
		addr, err := e.serve(ctx, t)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("serve target %d of load %s: %w", i, load.Name, err)
		}
		if n := len(e.jobs); n == 0 || e.jobs[n-1].Name != t.group.job {
			e.jobs = append(e.jobs, Job{Name: t.group.job})
		}
		j := &e.jobs[len(e.jobs)-1]
		j.Targets = append(j.Targets, addr)
	}
	return e, nil
}

// render makes the pages of all targets on all CPUs. Targets that are alike share them.
func render(targets []*target, compressed bool) {
	work := make(chan func())
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for f := range work {
				f()
			}
		})
	}
	first := map[string]*target{}
	for _, t := range targets {
		if t.group.churn {
			continue
		}
		if t.group.alike {
			key := t.group.job + "/" + strconv.Itoa(t.index%seeds)
			if same, ok := first[key]; ok {
				t.pages = same.pages
				continue
			}
			first[key] = t
		}
		t.pages = make([]*body, steps)
		for step := range t.pages {
			work <- func() {
				t.pages[step] = t.group.make(t.e.load, t.index, uint64(step))
				if compressed && len(t.pages[step].stamps) == 0 {
					t.pages[step].gzip = compress(t.pages[step].plain)
				}
			}
		}
	}
	close(work)
	wg.Wait()
}

func compress(text []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(text) // A buffer takes everything.
	_ = w.Close()
	return out.Bytes()
}

func (e *Exporter) serve(ctx context.Context, t *target) (string, error) {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: t, ReadHeaderTimeout: time.Minute}
	e.servers = append(e.servers, srv)
	e.done.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic("serve a target: " + err.Error()) // The listener is ours alone.
		}
	})
	return l.Addr().String(), nil
}

// Jobs returns the targets, job by job.
func (e *Exporter) Jobs() []Job { return e.jobs }

// Hold makes all scrapes fail from now on, or answers them again. What is being served then is
// served to its end.
func (e *Exporter) Hold(on bool) { e.hold.Store(on) }

// Counts returns what was served so far.
func (e *Exporter) Counts() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}

// refuse counts a scrape that was not answered.
func (e *Exporter) refuse() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts.Refused++
}

// count adds a page that was served.
func (e *Exporter) count(b *body, size int, compressed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &e.counts
	c.Scrapes++
	if compressed {
		c.Compressed++
	}
	c.Exposed += int64(b.exposed)
	c.Samples += int64(b.samples)
	c.Histograms += int64(b.histograms)
	c.Exemplars += int64(b.exemplars)
	c.Bytes += int64(size)
	c.Bits += b.bits
}

// Close ends all servers and their connections.
func (e *Exporter) Close() {
	for _, s := range e.servers {
		_ = s.Close() // Only the listener can fail to close, which ends it all the same.
	}
	e.done.Wait()
}

// page returns the page of the next scrape.
func (t *target) page() *body {
	step := t.scrapes.Add(1) - 1
	if len(t.pages) > 0 {
		return t.pages[step%steps]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready == nil || t.at != step {
		t.ready, t.at = t.group.make(t.e.load, t.index, step), step
	}
	b := t.ready
	// The next page is made ahead, so that nobody waits for it.
	if !t.pending {
		t.pending = true
		t.e.done.Go(func() {
			next := t.group.make(t.e.load, t.index, step+1)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.ready, t.at, t.pending = next, step+1, false
		})
	}
	return b
}

func (t *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if t.e.hold.Load() {
		t.e.refuse()
		http.Error(w, "the measurement is over", http.StatusServiceUnavailable)
		return
	}
	kind := textContent
	if t.e.load.Protobuf {
		if kind = protobufContent; !strings.Contains(r.Header.Get("Accept"), protobufType) {
			t.e.refuse()
			http.Error(w, "this target speaks protobuf only", http.StatusNotAcceptable)
			return
		}
	}
	b := t.page()
	out := b.plain
	if len(b.stamps) > 0 {
		out = b.at(time.Now())
	}
	compressed := strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	if compressed {
		w.Header().Set("Content-Encoding", "gzip")
		if b.gzip != nil {
			out = b.gzip
		} else {
			out = compress(out)
		}
	}
	w.Header().Set("Content-Type", kind)
	if !t.chunked {
		w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	}
	if err := send(w, out, t.chunked); err != nil {
		t.e.refuse() // The scraper has gone: it took nothing.
		return
	}
	t.e.count(b, len(out), compressed)
}

func send(w http.ResponseWriter, text []byte, chunked bool) error {
	if !chunked {
		_, err := w.Write(text)
		return err
	}
	for len(text) > 0 {
		n := min(chunk, len(text))
		if _, err := w.Write(text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// at returns the page with its timestamps: those of samples some time before now, those of
// exemplars now.
func (b *body) at(now time.Time) []byte {
	out := bytes.Clone(b.plain)
	if b.protobuf {
		for _, s := range b.stamps {
			putTime(out[s.offset:], now)
		}
		return out
	}
	ms := now.UnixMilli()
	for _, s := range b.stamps {
		v := ms - int64(s.age)
		digits := out[s.offset : s.offset+stampDigits]
		for i := range digits {
			digits[stampDigits-1-i] = byte('0' + v%10)
			v /= 10
		}
	}
	return out
}
