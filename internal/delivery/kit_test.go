package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("INGOT_DELIVERY_VICTIM"); dir != "" {
		victim(dir, os.Getenv("INGOT_DELIVERY_URL"), os.Getenv("INGOT_DELIVERY_MODE"))
		return
	}
	goleak.VerifyTestMain(m)
}

// backend is an endpoint without a network. Its answer function decides on each request; nil
// accepts everything. What was accepted is kept in order.
type backend struct {
	mu       sync.Mutex
	answer   func(r request) (*http.Response, error)
	requests []request
	taken    []int
}

type request struct {
	id     int
	at     time.Time
	header http.Header
	ctx    context.Context
	url    string
}

func (b *backend) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	id, ok := idOf(body)
	if !ok {
		panic(fmt.Sprintf("a body that was never put: %.40q", body))
	}
	req := request{id: id, at: time.Now(), header: r.Header, ctx: r.Context(), url: r.URL.String()}
	b.mu.Lock()
	b.requests = append(b.requests, req)
	answer := b.answer
	b.mu.Unlock()
	resp := respond(200, "")
	if answer != nil {
		resp, err = answer(req)
	}
	if err == nil && resp.StatusCode/100 == 2 {
		b.mu.Lock()
		b.taken = append(b.taken, id)
		b.mu.Unlock()
	}
	return resp, err
}

func (b *backend) set(answer func(r request) (*http.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) accepted() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]int(nil), b.taken...)
}

func (b *backend) seen() []request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]request(nil), b.requests...)
}

func respond(code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func always(code int, body string, header ...string) func(request) (*http.Response, error) {
	return func(request) (*http.Response, error) { return respond(code, body, header...), nil }
}

// refuse is the answer of an endpoint that is away.
func refuse(request) (*http.Response, error) { return nil, errors.New("connection reset by the test") }

// block returns a block of about size bytes, with id items inside modulo 7, plus one.
func block(id, size int) Block {
	body := fmt.Appendf(nil, "block %d ", id)
	if pad := size - len(body); pad > 0 {
		body = append(body, bytes.Repeat([]byte{'.'}, pad)...)
	}
	return Block{Body: NewBody(nil, body), Items: id%7 + 1, Time: time.Now()}
}

func idOf(body []byte) (int, bool) {
	rest, ok := bytes.CutPrefix(body, []byte("block "))
	if !ok {
		return 0, false
	}
	digits, _, ok := bytes.Cut(rest, []byte(" "))
	id, err := strconv.Atoi(string(digits))
	return id, ok && err == nil
}

func testConfig() Config {
	c := DefaultConfig()
	c.MaxBytes = 64 << 20
	return c
}

// ledger is a list of ids that several goroutines see.
type ledger struct {
	mu  sync.Mutex
	ids []int
}

func (l *ledger) add(id int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
}

func (l *ledger) all() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int(nil), l.ids...)
}

// running is a queue with its Run.
type running struct {
	*Queue
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func newQueue(t *testing.T, cfg Config, dir string, rt http.RoundTripper) *Queue {
	t.Helper()
	return New(cfg, dir, logger(t), NewMetrics(prometheus.NewRegistry()), Endpoint{
		Name: "test", URL: "http://user:secret@backend.test/push?token=secret", Client: &http.Client{Transport: rt}, Timeout: 30 * time.Second,
	})
}

func start(t *testing.T, q *Queue) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Queue: q, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- q.Run(ctx) }()
	return r
}

// shutdown stops the queue and checks the accounts.
func (r *running) shutdown() Status {
	r.t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run = %v, want nil", err)
	}
	return balanced(r.t, r.Queue)
}

// balanced checks that nothing is unaccounted for.
func balanced(t *testing.T, q *Queue) Status {
	t.Helper()
	s := q.Status()
	if got, want := gone(s), came(s); got != want {
		t.Errorf("sent + dropped + queued = %+v, put + restored = %+v\n%+v", got, want, s)
	}
	return s
}

func came(s Status) Amount {
	a := s.Put
	a.add(s.Restored)
	return a
}

func gone(s Status) Amount {
	a := s.Sent
	for _, d := range s.Dropped {
		a.add(d)
	}
	a.add(s.Memory)
	a.add(s.Disk)
	return a
}

func put(t *testing.T, q *Queue, from, to, size int) {
	t.Helper()
	for id := from; id < to; id++ {
		if err := q.Put(t.Context(), block(id, size)); err != nil {
			t.Fatalf("Put(%d) = %v", id, err)
		}
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func numbers(from, to int) []int {
	var ns []int
	for n := from; n < to; n++ {
		ns = append(ns, n)
	}
	return ns
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newTestMetrics() *Metrics { return NewMetrics(prometheus.NewRegistry()) }

// failingWrite is a disk that takes nothing.
func failingWrite(*os.File, []byte, int64) (int, error) {
	return 0, errors.New("no space left on the test")
}
