package loki

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// backend is a Loki without a network that keeps the lines of each tenant in order.
type backend struct {
	t *testing.T

	mu     sync.Mutex
	answer func(tenant string) *http.Response // nil accepts
	lines  map[string][]string
	at     map[string][]time.Time
}

func (b *backend) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	tenant := r.Header.Get("X-Scope-OrgID")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answer != nil {
		if resp := b.answer(tenant); resp != nil {
			return resp, nil
		}
	}
	if b.lines == nil {
		b.lines, b.at = map[string][]string{}, map[string][]time.Time{}
	}
	lines, _ := decode(b.t, body)
	for _, l := range lines {
		b.lines[tenant] = append(b.lines[tenant], l.Line)
		b.at[tenant] = append(b.at[tenant], time.Now())
	}
	return reply(204, ""), nil
}

func (b *backend) set(answer func(tenant string) *http.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) of(tenant string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines[tenant])
}

func reply(code int, text string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
}

// away answers 503 to all, throttled 429 to one tenant.
func away(string) *http.Response { return reply(503, "") }

func throttled(tenant string) func(string) *http.Response {
	return func(t string) *http.Response {
		if t == tenant {
			return reply(429, "ingestion rate limit exceeded")
		}
		return nil
	}
}

// rig is a writer with its tenants, running.
type rig struct {
	*Writer
	tenants *Tenants
	reg     *prometheus.Registry
	t       *testing.T
	stops   []func()

	mu    sync.Mutex
	acked []int
	next  int
}

func newRig(t *testing.T, own, dir string, spool SpoolConfig, b *backend) *rig {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	reg := prometheus.NewRegistry()
	m := delivery.NewMetrics(reg)
	tenants := NewTenants(log, own, dir, spool, m, func(tenant, dir string) *delivery.Queue {
		h := Header("test")
		if tenant != "" {
			h.Set("X-Scope-OrgID", tenant)
		}
		cfg := delivery.Config{MaxBytes: spool.MaxBytes, MaxAge: spool.MaxAge, MaxParallel: 1}
		return delivery.New(cfg, dir, log, m, delivery.Endpoint{
			Name: "loki", Tenant: tenant, URL: "http://loki.test/push", Client: &http.Client{Transport: b}, Header: h,
			Timeout: 10 * time.Second, Codec: Codec{}, Spool: true,
		})
	})
	w, err := New(DefaultConfig(), log, NewMetrics(reg), "loki", "", tenants)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Writer: w, tenants: tenants, reg: reg, t: t}
	for _, run := range []func(context.Context) error{w.Run, tenants.Run} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- run(ctx) }()
		r.stops = append(r.stops, func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
	return r
}

func (r *rig) stop() {
	for _, stop := range r.stops {
		stop()
	}
}

// push pushes a line for each of the tenants as one batch, with the batch's number as text.
func (r *rig) push(tenants ...string) {
	r.t.Helper()
	n := r.next
	r.next++
	b := model.LogBatch{Ack: func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.acked = append(r.acked, n)
	}}
	for _, tenant := range tenants {
		b.Streams = append(b.Streams, stream(labels("__tenant_id__", tenant, "job", "x"), "", fmt.Sprint(n)))
	}
	if err := r.Push(r.t.Context(), &b); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) acks() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.acked)
}

func texts(from, to int) (all []string) {
	for n := from; n < to; n++ {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

func counted(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// L37, P20.
func TestThrottledTenantDoesNotDelayOthers(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		b.set(throttled("b")) //nolint:bodyclose // The queue closes it.
		r := newRig(t, "own", dir, DefaultConfig().Spool, b)
		begin := time.Now()
		const seconds = 30 * 60
		for range seconds {
			r.push("a", "b", "")
			time.Sleep(time.Second)
		}
		synctest.Wait()
		for _, tenant := range []string{"a", "own"} {
			got := b.of(tenant)
			if len(got) < seconds-2 || !slices.Equal(got, texts(0, len(got))) {
				t.Errorf("%d lines of tenant %s arrived, want all, in order", len(got), tenant)
			}
			for i, at := range b.at[tenant] {
				// Pushed in second i, due after batch_wait.
				if late := at.Sub(begin) - time.Duration(i)*time.Second - time.Second; late > time.Second {
					t.Fatalf("line %d of tenant %s came %v late", i, tenant, late)
				}
			}
		}
		if got := b.of("b"); len(got) != 0 {
			t.Errorf("tenant b got %d lines through", len(got))
		}
		// What waits is on disk, so no position waits.
		if got := r.acks(); len(got) < seconds-2 || !slices.IsSorted(got) {
			t.Errorf("%d batches are acknowledged, want all", len(got))
		}
		b.set(nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(texts(0, seconds), b.of("b")); diff != "" {
			t.Errorf("tenant b (-want +got):\n%.1000s", diff)
		}
		r.stop()
		if diff := cmp.Diff(counted(0, seconds), r.acks()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%.1000s", diff)
		}
	})
}

func TestAcknowledgementsWaitForTheSlowestTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		b.set(throttled("b"))                                                               //nolint:bodyclose // The queue closes it.
		r := newRig(t, "", t.TempDir(), SpoolConfig{MaxAge: config.Duration(time.Hour)}, b) // No spool.
		r.push("a")
		r.push("a", "b")
		r.push("a")
		r.push()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]int{0}, r.acks()); diff != "" {
			t.Errorf("acknowledged while b waits (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(texts(0, 3), b.of("a")); diff != "" {
			t.Errorf("tenant a (-want +got):\n%s", diff)
		}
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(counted(0, 4), r.acks()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		r.push() // Of which a stage has left nothing.
		if diff := cmp.Diff(counted(0, 5), r.acks()); diff != "" {
			t.Errorf("with a batch without lines (-want +got):\n%s", diff)
		}
		r.stop()
	})
}

func TestSpoolsOfTenantsAreFoundAtTheStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with [odd] * name")
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		b.set(away)
		r := newRig(t, "", dir, DefaultConfig().Spool, b)
		for range 5 {
			r.push("a.b'(x)", "")
			time.Sleep(time.Second)
		}
		r.stop()
		if diff := cmp.Diff(counted(0, 5), r.acks()); diff != "" {
			t.Errorf("acknowledged at the stop (-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		r := newRig(t, "", dir, DefaultConfig().Spool, b)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, tenant := range []string{"a.b'(x)", ""} {
			if diff := cmp.Diff(texts(0, 5), b.of(tenant)); diff != "" {
				t.Errorf("tenant %q (-want +got):\n%s", tenant, diff)
			}
		}
		r.stop()
	})
}

// What is spooled stays with its tenant when the destination gets another one; what was of none is
// of the first that it gets.
func TestSpooledLinesStayWithTheirTenant(t *testing.T) {
	dir := t.TempDir()
	life := func(own string, b *backend, push bool) {
		synctest.Test(t, func(t *testing.T) {
			b.t = t
			r := newRig(t, own, dir, DefaultConfig().Spool, b)
			for range 5 {
				if push {
					r.push("")
				}
				time.Sleep(10 * time.Second)
			}
			synctest.Wait()
			shown := map[string]bool{}
			for _, s := range r.tenants.Status() {
				if shown[s.Tenant] {
					t.Errorf("two queues are shown as tenant %q", s.Tenant)
				}
				shown[s.Tenant] = true
			}
			if _, err := r.reg.Gather(); err != nil {
				t.Error(err)
			}
			r.stop()
		})
	}
	down, up := &backend{}, &backend{}
	down.set(away)
	life("", down, true)
	life("a", down, true)
	life("b", up, false)
	if diff := cmp.Diff(slices.Concat(texts(0, 5), texts(0, 5)), up.of("a")); diff != "" {
		t.Errorf("tenant a (-want +got):\n%s", diff)
	}
	if got := slices.Concat(up.of("b"), up.of("")); len(got) > 0 {
		t.Errorf("lines of another tenant: %q", got)
	}
}

func TestTenantsAreBoundedAndNamesAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		r := newRig(t, "own", t.TempDir(), DefaultConfig().Spool, b)
		for i := range maxTenants + 20 {
			r.push(fmt.Sprintf("t%03d", i), "own") // The latter is the destination's own.
		}
		r.push("a/b")
		r.push("..")
		r.push(strings.Repeat("x", 151))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(r.tenants.Status()); n != maxTenants {
			t.Errorf("%d queues, want %d", n, maxTenants)
		}
		if got := b.of("own"); len(got) != maxTenants+20 {
			t.Errorf("%d lines of the own tenant arrived", len(got))
		}
		for reason, want := range map[string]float64{dropTooManyTenants: 21, dropInvalidTenant: 3} {
			if got := testutil.ToFloat64(r.droppedOf(reason)); got != want {
				t.Errorf("%v lines dropped for %s, want %v", got, reason, want)
			}
		}
		if diff := cmp.Diff(counted(0, maxTenants+23), r.acks()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%.1000s", diff)
		}
		var memory int64
		for _, s := range r.tenants.Status() {
			memory += s.DiskMaxBytes
		}
		if limit := 2 * int64(DefaultConfig().Spool.MaxBytes); memory > limit*maxTenants {
			t.Errorf("the limits add up to %d", memory)
		}
		r.stop()
	})
}

func (r *rig) droppedOf(reason string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "x", Help: "x"})
	all, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "ingot_loki_dropped_lines_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == reason {
					g.Set(m.GetCounter().GetValue())
				}
			}
		}
	}
	return g
}

func TestTenantsShareTheSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		b.set(away)
		spool := SpoolConfig{MaxBytes: 16 * config.MiB, MaxAge: config.Duration(48 * time.Hour)}
		r := newRig(t, "", t.TempDir(), spool, b)
		body := func() delivery.Block {
			return delivery.Block{Body: delivery.NewBody(nil, make([]byte, 500<<10)), Items: 1, Time: time.Now()}
		}
		fill := func(tenant string, n int) {
			q, err := r.tenants.Queue(tenant)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := q.Put(t.Context(), body()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Minute)
			}
		}
		fill("", 40)
		total := func() (sum int64, each []int64) {
			for _, s := range r.tenants.Status() {
				sum += s.DiskBytes
				each = append(each, s.DiskBytes>>20)
			}
			return sum, each
		}
		if sum, _ := total(); sum < 14<<20 || sum > 16<<20 {
			t.Errorf("alone a tenant uses %d bytes, want nearly all", sum)
		}
		fill("late", 40)
		if sum, each := total(); sum > 17<<20 || each[0] < 6 || each[1] < 6 {
			t.Errorf("two tenants use %v MiB, want about half each of 16", each)
		}
		r.stop()
	})
}

func TestTenantWithoutLinesForLongIsGivenUpAndComesBack(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		r := newRig(t, "", dir, DefaultConfig().Spool, b)
		r.push("a", "")
		time.Sleep(idleTenant + time.Minute)
		synctest.Wait()
		if n := len(r.tenants.Status()); n != 1 {
			t.Errorf("%d queues, want the own one only", n)
		}
		if _, err := os.Stat(filepath.Join(dir, tenantPrefix+"a")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its directory: %v", err)
		}
		r.push("a", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(texts(0, 2), b.of("a")); diff != "" {
			t.Errorf("tenant a (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(counted(0, 2), r.acks()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		r.stop()
	})
}

func TestFilesThatCannotBeReadOutliveTheirQueue(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, tenantPrefix+"a", "00000000000000000001.seg")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("of a version to come"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "", dir, DefaultConfig().Spool, &backend{t: t})
		time.Sleep(idleTenant + time.Minute)
		synctest.Wait()
		if n := len(r.tenants.Status()); n != 1 {
			t.Errorf("%d queues, want the own one only", n)
		}
		r.stop()
	})
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// L38.
func TestRefusedLinesAreCountedAndOthersAreNotResent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{t: t}
		requests := 0
		b.set(func(string) *http.Response {
			requests++
			return reply(400, `2 errors like: entry for stream '{job="x"}' has timestamp too old: x; 1 errors like: max entry size '5' bytes exceeded for stream '{job="x"}' while adding an entry with length '6' bytes`)
		})
		r := newRig(t, "", t.TempDir(), DefaultConfig().Spool, b)
		for range 10 {
			r.push("")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s := r.tenants.Status()[0]
		if requests != 1 || s.Sent.Items != 7 || s.Dropped[reasonTooOld].Items != 2 || s.Dropped[reasonLineTooLong].Items != 1 || s.State != delivery.StateRefusing {
			t.Errorf("%d requests, %+v; want one, seven lines sent and three refused", requests, s)
		}
		if s.Memory.Blocks+s.Disk.Blocks != 0 || s.Sent.Bytes+s.Dropped[reasonTooOld].Bytes+s.Dropped[reasonLineTooLong].Bytes != s.Put.Bytes {
			t.Errorf("%+v does not add up", s)
		}
		if diff := cmp.Diff(counted(0, 10), r.acks()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		r.stop()
	})
}

// P10, with identifiers that nothing compresses in every line.
func TestSixHoursFitTheDefaultSpool(t *testing.T) {
	var lines []string
	size := 0
	for i := range 20_000 {
		l := fmt.Sprintf(`ts=2026-11-22T23:%02d:%02d.%03dZ level=info caller=server.go:%d method=GET path=/api/v1/items/%d status=%d duration=%d.%03dms trace_id=%016x%016x`,
			i/60%60, i%60, i*7%1000, i%300, i*7919%10007, 200+i%5, i%900, i*31%1000, uint64(i)*0x9e3779b97f4a7c15, uint64(i)*0xc2b2ae3d27d4eb4f)
		lines, size = append(lines, l), size+len(l)
	}
	q := make(fakeQueue, 100)
	w, _ := newWriter(t, DefaultConfig(), "", q)
	if err := w.Push(t.Context(), &model.LogBatch{Streams: []model.Stream{stream(labels("job", "x"), labels("pod", "p"), lines...)}}); err != nil {
		t.Fatal(err)
	}
	if err := w.flush(t.Context(), w.own); err != nil {
		t.Fatal(err)
	}
	close(q)
	sent := 0
	for b := range q {
		sent += b.Body.Len()
	}
	need := float64(sent) / float64(size) * 6 * 3600 * 1e6
	if have := float64(DefaultConfig().Spool.MaxBytes); need > 0.9*have {
		t.Errorf("six hours take %.1f GB, the spool has %.1f", need/1e9, have/1e9)
	}
	t.Logf("six hours of 1 MB/s take %.1f GB", need/1e9)
}
