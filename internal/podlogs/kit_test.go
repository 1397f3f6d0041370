package podlogs

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// line is one line as the sink got it.
type line struct {
	labels, metadata string
	t                int64
	text             string
}

// ledger is a sink that writes down what it gets.
type ledger struct {
	mu    sync.Mutex
	cond  *sync.Cond
	lines []line
	acks  []func()
	// hold keeps acknowledgements until release; shut blocks Push.
	hold, shut bool
	pushes     int
}

func newLedger() *ledger {
	l := &ledger{}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *ledger) Push(ctx context.Context, b *model.LogBatch) error {
	defer context.AfterFunc(ctx, l.cond.Broadcast)()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.shut && ctx.Err() == nil {
		l.cond.Wait()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, s := range b.Streams {
		for _, e := range s.Entries {
			l.lines = append(l.lines, line{s.Labels.String(), s.Metadata.String(), e.T, string(e.Line)})
		}
	}
	l.pushes++
	if l.hold {
		l.acks = append(l.acks, b.Ack)
	} else {
		b.Ack()
	}
	l.cond.Broadcast()
	return nil
}

func (l *ledger) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.cond.Broadcast()
}

func (l *ledger) texts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, x := range l.lines {
		out = append(out, x.text)
	}
	return out
}

func (l *ledger) all() []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// wait blocks until the ledger has n lines.
func (l *ledger) wait(t *testing.T, n int) []string {
	t.Helper()
	timer := time.AfterFunc(patience, l.cond.Broadcast)
	defer timer.Stop()
	start := time.Now()
	l.mu.Lock()
	for len(l.lines) < n && time.Since(start) < patience {
		l.cond.Wait()
	}
	l.mu.Unlock()
	got := l.texts()
	if len(got) < n {
		t.Fatalf("%d lines arrived, want %d; the last are %q", len(got), n, got[max(0, len(got)-3):])
	}
	return got
}

// eventually waits for a condition without a notice of its own.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("%s did not come about", what)
		}
	}
}

// rig is a collector over a tree in a temporary directory.
type rig struct {
	t         *testing.T
	root      string // the pods
	positions string // the file
	cfg       Config
	pods      Pods
	sink      *ledger

	reg  *prometheus.Registry
	c    *Collector
	p    *Positions
	stop context.CancelFunc
	done chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, root: filepath.Join(dir, "pods"), positions: filepath.Join(dir, "data", "loki.json"), sink: newLedger()}
	if err := os.Mkdir(r.root, 0o755); err != nil {
		t.Fatal(err)
	}
	r.cfg.Pods = DefaultPodConfig()
	r.cfg.Pods.Enabled = true
	r.cfg.Pods.Path = r.root
	r.cfg.Pods.FirstStart = startConfig(fromBeginning) // Lines of tests are old.
	r.cfg.Pods.ScanInterval = config.Duration(5 * time.Millisecond)
	t.Cleanup(func() { r.kill() })
	return r
}

func testLogger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// build makes a fresh collector without running it.
func (r *rig) build() {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	m := NewMetrics(r.reg)
	r.p = NewPositions(r.positions, "loki", testLogger(r.t), m)
	var err error
	if r.c, err = New(r.cfg, testLogger(r.t), m, r.pods, r.p, r.sink); err != nil {
		r.t.Fatal(err)
	}
	r.c.timing = timing{
		tick: time.Millisecond, pollMin: 2 * time.Millisecond, pollMax: 5 * time.Millisecond, pollIdle: 10 * time.Millisecond, idleAge: 20 * time.Millisecond,
		settle: 20 * time.Millisecond, closeAge: 30 * time.Millisecond, goneAge: 30 * time.Millisecond, openAge: time.Minute,
		hot: time.Millisecond, gather: time.Millisecond,
	}
}

// start runs a fresh collector; its positions are written by save and finish alone.
func (r *rig) start() {
	r.t.Helper()
	r.build()
	r.run()
}

// run runs what build has made.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop, r.done = cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		if err := r.c.Run(ctx); err != nil {
			r.t.Errorf("Run() = %v, want nil", err)
		}
	}()
}

// kill ends the collector as SIGKILL would: nothing is written.
func (r *rig) kill() {
	if r.stop != nil {
		r.stop()
		<-r.done
		r.stop = nil
	}
}

// finish ends the collector as a stop of the program would.
func (r *rig) finish() {
	r.kill()
	r.p.rewrite()
}

// dir makes the log directory of a container and returns its path.
func (r *rig) dir(pod, container string) string {
	r.t.Helper()
	path := filepath.Join(r.root, "shop_"+pod+"_uid-"+pod, container)
	if err := os.MkdirAll(path, 0o755); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *rig) status(base string) (FileStatus, bool) {
	for _, f := range r.c.Status().Files {
		if filepath.Base(f.Path) == base {
			return f, true
		}
	}
	return FileStatus{}, false
}

// logFile appends to a log file, which it creates.
type logFile struct {
	t *testing.T
	f *os.File
}

func openLog(t *testing.T, path string) *logFile {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &logFile{t, f}
}

func (l *logFile) write(s string) *logFile {
	l.t.Helper()
	if _, err := l.f.WriteString(s); err != nil {
		l.t.Fatal(err)
	}
	return l
}

// out writes whole lines to stdout.
func (l *logFile) out(texts ...string) *logFile {
	l.t.Helper()
	var b strings.Builder
	for _, s := range texts {
		b.WriteString(cri("stdout", "F", s))
	}
	return l.write(b.String())
}

func cri(stream, tag, text string) string {
	return "2026-01-02T03:04:05.123456789Z " + stream + " " + tag + " " + text + "\n"
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func numbered(prefix string, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s-%06d", prefix, i))
	}
	return out
}

// wantSet compares sets of ids, so that a repetition cannot hide a loss.
func wantSet(t *testing.T, got, want []string) {
	t.Helper()
	have := map[string]int{}
	for _, s := range got {
		have[s]++
	}
	var missing, twice []string
	for _, s := range want {
		switch have[s] {
		case 0:
			missing = append(missing, s)
		case 1:
		default:
			twice = append(twice, s)
		}
		delete(have, s)
	}
	if len(missing)+len(twice)+len(have) > 0 {
		t.Errorf("of %d lines %d are missing %.200q, %d came more than once %.200q, %d are invented %.200q",
			len(want), len(missing), missing, len(twice), twice, len(have), slices.Sorted(maps.Keys(have)))
	}
}

// wantAll checks that nothing is missing or invented, allowing repetitions.
func wantAll(t *testing.T, got, want []string) {
	t.Helper()
	uniq := slices.Clone(got)
	slices.Sort(uniq)
	wantSet(t, slices.Compact(uniq), want)
}

// fakePods is what the cluster knows.
type fakePods struct {
	mu   sync.Mutex
	pods map[string]kube.Pod // by uid
}

func (f *fakePods) put(uid string, p kube.Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pods == nil {
		f.pods = map[string]kube.Pod{}
	}
	f.pods[uid] = p
}

func (f *fakePods) forget(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pods, uid)
}

func (f *fakePods) Pod(namespace, name, uid string) (kube.Pod, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pods[uid]
	return p, ok && p.Namespace == namespace && p.Name == name
}
