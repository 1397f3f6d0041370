// Package podlogs reads the log files of containers and other log files of the node and
// hands their lines on, each line at least once.
//
// A [Collector] serves one destination and has positions of its own, so that no destination
// can hold up another. Its scanner (scan.go) walks directories and opens every file that it
// finds at once; an open descriptor keeps a file readable whatever the kubelet does to its
// name. Its reader (wake.go, read.go) takes turns over the files: one read of up to 256 KiB,
// one pass over the lines (line.go, cri.go), one [Sink.Push]. Both sleep until the kernel
// tells of a change (watch.go) or something is due; where it does not tell, they look now and
// then. When the destination has accepted a turn, the file's acknowledged offset advances, and
// [Positions] writes it to the disk within a second (journal.go).
//
// The files of a container form a chain that is read oldest first, so that a line whose parts
// straddle a rotation is joined, and so that Loki sees times in order.
//
// A rotated file that the kubelet has compressed is one of the chain too (compressed.go,
// unzip.go), read from where its original was left. Offsets always count uncompressed bytes.
// What the node removed before it was read is counted as lost (loss.go), as far as the sizes
// in the positions tell.
//
// The package does not buffer lines (the file is the buffer), does not talk to Kubernetes
// (see [Pods]), does not read compressed files of file_logs and knows nothing about the format
// in which lines are sent.
package podlogs

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

// Sink takes what was read. In the program this is *loki.Writer.
type Sink interface {
	// Push hands on one turn of one file. It may block, which stops reading, and may not
	// keep any part of b after it returns. After an error the batch was not taken; it is
	// pushed again unless ctx has ended.
	Push(ctx context.Context, b *model.LogBatch) error
}

// Pods tells what the cluster knows of the pods of this node. In the program this is
// *kube.PodStore; it is nil without Kubernetes.
type Pods interface {
	// Pod returns the pod that uid in the name of a log directory stands for: its own, or for
	// a static pod the one that its mirror pod carries.
	Pod(namespace, name, uid string) (kube.Pod, bool)
}

// Collector reads log files for one destination.
type Collector struct {
	cfg       Config
	log       *slog.Logger
	m         *metrics
	pods      Pods
	positions *Positions
	sink      Sink
	timing    timing
	// maxUnzipped is the constant of this name, maxWatches the most watches, 0 for what the
	// kernel gives. Tests lower them.
	maxUnzipped int64
	maxWatches  int

	keep, drop *regexp.Regexp   // namespaces
	programs   []*stage.Program // of pod_logs, then of each element of file_logs
	custom     *stage.Metrics   // nil where another collector counts them
	fromPath   []*regexp.Regexp // of each element of file_logs, nil for none
	rules      *labelRules
	selection  selection
	limits     limits                  // the buckets in it belong to the reader
	groups     map[model.Labels]*group // belongs to the reader
	// inFlight is the number of pushes that have not been acknowledged.
	inFlight atomic.Int64

	// watch is nil where the system gives no notices, for the reason watchErr. Run sets both.
	watch    *watch
	watchErr error
	// woken has something when poked has.
	woken chan struct{}

	mu     sync.Mutex // guards the fields below and chain.tails
	chains map[string]*chain
	order  []*chain // chains in the order of their discovery
	byID   map[fileID]*tail
	// poked are the chains that the reader is to look at.
	poked []*chain
	// unmet are the chains of pods of which the cluster has not told yet.
	unmet []*chain
	// notices is how far directories are watched.
	notices Notices
	// skipped is what the last scan found and does not read, by path.
	skipped []Skipped
	scanned time.Time
	losses  []Loss // the last maxLosses
	tallies map[tallyKey]*PodLoss
}

// New returns a collector that reads what cfg, which has passed Validate, names. pods may be
// nil. positions belong to this collector alone and give it the name of its destination. m is
// shared by all collectors of a process.
func New(cfg Config, log *slog.Logger, m *Metrics, pods Pods, positions *Positions, sink Sink) (*Collector, error) {
	c := &Collector{
		cfg: cfg, log: log, m: m.of(positions.endpoint), pods: pods, positions: positions, sink: sink,
		timing: defaultTiming(), maxUnzipped: maxUnzipped,
		rules:    newLabelRules(&cfg.Pods, len(cfg.Pods.Stages) > 0),
		limits:   limits{cfg: cfg.Pods.Limits, namespaces: make(map[string]*bucket)},
		watchErr: errors.ErrUnsupported, woken: make(chan struct{}, 1),
		groups: make(map[model.Labels]*group),
		chains: make(map[string]*chain),
		byID:   make(map[fileID]*tail),
	}
	var err error
	if c.selection, err = newSelection(&cfg.Pods); err != nil {
		return nil, err
	}
	if cfg.Pods.Enabled && pods == nil && c.selection.needsPod() {
		return nil, errors.New("choose pods by pod_logs.discovery_method or pod_logs.label_selector: that needs the API server; set kubernetes.kubeconfig_file outside of a cluster")
	}
	if c.programs, err = compileStages(&cfg, c.rules.keep); err != nil {
		return nil, err
	}
	for _, name := range c.rules.vain() {
		log.Warn("static label is left out again, add it to pod_logs.labels_to_keep", "name", name)
	}
	if c.fromPath, err = pathLabels(cfg.Files); err != nil {
		return nil, err
	}
	if c.keep, err = namespaceMatcher(cfg.Pods.Namespaces); err != nil {
		return nil, err
	}
	if c.drop, err = namespaceMatcher(cfg.Pods.ExcludeNamespaces); err != nil {
		return nil, err
	}
	return c, nil
}

// Run reads until ctx ends, closes the files and returns nil. No state of a file or directory
// ends it. What was read and not acknowledged is read again at the next start.
func (c *Collector) Run(ctx context.Context) error {
	c.positions.load()
	stopWatch := c.startWatch()
	s := newScanner(c)
	s.scan(time.Now())
	s.begun()
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	newReader(c).run(ctx)
	wg.Wait()
	stopWatch()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.byID {
		c.leaveUnread(t)
		// Nothing was written to it, so that closing has nothing to tell.
		_ = t.file.close()
	}
	return nil
}

// startWatch asks for notices of changes; stop ends that.
func (c *Collector) startWatch() (stop func()) {
	w, err := newWatch(c.poke)
	c.mu.Lock()
	c.watch, c.watchErr = w, err
	c.mu.Unlock()
	if err != nil {
		return func() {}
	}
	w.limit = c.maxWatches
	var wg sync.WaitGroup
	wg.Go(w.run)
	return func() {
		w.close()
		wg.Wait()
	}
}

// poke has the reader look at chains, or at all.
func (c *Collector) poke(chains []*chain, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if all {
		chains = c.order
	}
	for _, ch := range chains {
		c.pokeLocked(ch)
	}
}

// pokeLocked is poke for one chain while the caller holds mu.
func (c *Collector) pokeLocked(ch *chain) {
	if ch.poked {
		return
	}
	ch.poked = true
	c.poked = append(c.poked, ch)
	select {
	case c.woken <- struct{}{}:
	default: // The reader has not woken since the last time.
	}
}

// snapshot returns the chains.
func (c *Collector) snapshot() []*chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.order)
}

// add puts files, which are in order, into the chain of their key, which takes the place of ch
// if it exists already.
func (c *Collector) add(ch *chain, tails []*tail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.chains[ch.key]; old != nil {
		ch = old
	} else {
		c.chains[ch.key] = ch
		c.order = append(c.order, ch)
		if ch.pod.name != "" && c.pods != nil {
			c.unmet = append(c.unmet, ch)
		}
	}
	for _, t := range tails {
		t.chain = ch
		c.byID[t.id] = t
	}
	// The reader may hold the old slice.
	ch.tails = slices.Clone(ch.tails)
	for _, t := range tails {
		ch.insert(t)
	}
	c.pokeLocked(ch)
}

// remove closes a file that is done with, unless a name leads to it again.
func (c *Collector) remove(t *tail) {
	c.mu.Lock()
	if _, gone := t.goneSince(); !gone {
		c.mu.Unlock()
		return
	}
	c.detach(t)
	c.mu.Unlock()
	if err := t.file.close(); err != nil {
		c.log.Debug("deleted log file closed with an error", "path", t.name(), "err", err)
	}
}

// retire closes a compressed file that was acknowledged to its end.
func (c *Collector) retire(t *tail) {
	c.mu.Lock()
	c.detach(t)
	c.mu.Unlock()
	_ = t.file.close() // It was only read.
}

// detach takes a file that was handed on to its end out of its chain. The caller holds mu.
func (c *Collector) detach(t *tail) {
	// The place is free before the scanner can open the file again.
	c.positions.release(t.pos.Load())
	delete(c.byID, t.id)
	if c.watch != nil {
		c.watch.dropFile(t.wd)
	}
	ch := t.chain
	ch.tails = slices.DeleteFunc(slices.Clone(ch.tails), func(x *tail) bool { return x == t })
	if len(ch.tails) == 0 {
		delete(c.chains, ch.key)
		c.order = slices.DeleteFunc(c.order, func(x *chain) bool { return x == ch })
	}
	c.pokeLocked(ch)
}

// claim returns the open file of that identity, to which a name leads, so that it is not
// removed.
func (c *Collector) claim(id fileID) *tail {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byID[id]
	if t != nil {
		t.mu.Lock()
		t.gone = time.Time{}
		t.mu.Unlock()
	}
	return t
}

// miss notes that no name leads to a file any more; claim notes the opposite.
func (c *Collector) miss(t *tail, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.mu.Lock()
	if t.gone.IsZero() {
		t.gone = now
	}
	t.mu.Unlock()
	if t.chain != nil { // Else it is new and could not be added.
		c.pokeLocked(t.chain)
	}
}
