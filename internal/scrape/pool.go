package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// syncPause is the shortest time between two changes of a job's targets, however often
// discovery reports.
const syncPause = time.Second

// maxInvalidShown bounds how many of a job's invalid targets are kept for status.
const maxInvalidShown = 20

// maxHeaders bounds how many headers of requests are shared. There are few: a target may have
// a timeout of its own.
const maxHeaders = 64

// pool runs the targets of one job.
type pool struct {
	cfg            *JobConfig
	client         *http.Client
	sources        []discovery.Source
	relabelReports bool
	reports        [reportCount]model.Labels // The names of the report series, "" for those not wanted.
	histograms     histogramLimits
	renames        bool // Metric relabelling may change the names of metrics.
	shared         *shared
	metrics        *jobMetrics
	log            *slog.Logger

	wake chan struct{} // Holds one token while pending has changes.

	mu       sync.Mutex // guards what follows
	groups   map[groupKey]group
	wanted   map[model.Labels]int     // How often groups have a target, by its id.
	pending  map[model.Labels]*target // Targets to begin or, without one, to look at, by id.
	ended    map[int]error            // Sources whose Run has returned.
	loops    map[model.Labels]*loop   // By target id.
	byLabels map[model.Labels]*loop   // One of loops by the labels of its samples; nil until asked for.
	twins    bool                     // More than one of loops had the same place in byLabels.
	dropped  int                      // In all groups.
	invalid  int
	// How many examples all groups have of targets that are not scraped.
	shownDropped, shownInvalid int
	forced                     error
	headers                    map[string]http.Header // Of requests, by what differs between them.
}

func newPool(job Job, sh *shared, m *jobMetrics, log *slog.Logger, global Config) *pool {
	cfg := job.Config.WithDefaults(global)
	return &pool{
		cfg:            &cfg,
		client:         job.Client,
		sources:        job.Sources,
		relabelReports: job.RelabelReports,
		reports:        reportLabels(&cfg),
		histograms:     newHistogramLimits(&cfg),
		renames:        renames(cfg.MetricRelabelConfigs),
		shared:         sh,
		metrics:        m,
		log:            log.With("job", cfg.JobName),
		wake:           make(chan struct{}, 1),
		groups:         make(map[groupKey]group),
		wanted:         make(map[model.Labels]int),
		pending:        make(map[model.Labels]*target),
		ended:          make(map[int]error),
		loops:          make(map[model.Labels]*loop),
		headers:        make(map[string]http.Header),
	}
}

// renames reports whether rules may give a metric another name.
func renames(rules []*relabel.Config) bool {
	return slices.ContainsFunc(rules, func(r *relabel.Config) bool {
		switch r.Action {
		case relabel.Keep, relabel.Drop, relabel.KeepEqual, relabel.DropEqual, relabel.LabelDrop, relabel.LabelKeep:
			return false // Without its name a series is refused.
		case relabel.LabelMap:
			return true
		case relabel.Replace, relabel.HashMod, relabel.Lowercase, relabel.Uppercase:
		}
		return r.TargetLabel == prommodel.MetricNameLabel || strings.Contains(r.TargetLabel, "$")
	})
}

// run runs the sources of the job, and gives its loops to the scheduler, until ctx ends.
func (p *pool) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, s := range p.sources {
		wg.Go(func() { p.runSource(ctx, i, s) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.sync()
		pause := time.NewTimer(syncPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

func (p *pool) runSource(ctx context.Context, i int, s discovery.Source) {
	err := s.Run(ctx, func(groups []discovery.Group) {
		p.take(i, groups)
		select {
		case p.wake <- struct{}{}:
		default:
		}
	})
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("ended before it was asked to")
	}
	p.log.Error("a source of targets has ended, its last targets stay", "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[i] = err
}

// sync makes the running loops match what was discovered. It costs what has changed.
func (p *pool) sync() {
	p.metrics.syncs.Inc()
	p.mu.Lock()
	defer p.mu.Unlock()
	pending := p.pending
	p.pending = make(map[model.Labels]*target)
	for id := range pending {
		if l := p.loops[id]; l != nil && p.wanted[id] == 0 {
			p.shared.scheduler.remove(l)
			delete(p.loops, id)
			p.unlist(l)
		}
	}
	p.checkTargetLimit(len(p.wanted))
	maker := newLabelMaker()
	for id, t := range pending {
		if t == nil || p.wanted[id] == 0 || p.loops[id] != nil {
			continue
		}
		l := newLoop(p, t, &maker)
		l.force(p.forced)
		p.loops[id] = l
		p.list(l)
		p.shared.scheduler.add(l)
	}
}

// shareHeader makes requests of the job that have the same header have one in common. What
// sends them does not change it.
func (p *pool) shareHeader(q *request) {
	h := q.http.Header
	key := h.Get("Accept-Encoding") + " " + h.Get("X-Prometheus-Scrape-Timeout-Seconds") // The rest is the job's.
	p.mu.Lock()
	defer p.mu.Unlock()
	if same, ok := p.headers[key]; ok {
		q.http.Header = same
	} else if len(p.headers) < maxHeaders {
		p.headers[key] = h
	}
}

// sameLabels returns a loop that has the same labels on its samples as t, nil without one.
func (p *pool) sameLabels(t *target) *loop {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byLabels == nil { // Many targets may end together, so they are not compared with each other.
		p.byLabels = make(map[model.Labels]*loop, len(p.loops))
		for _, l := range p.loops {
			p.list(l)
		}
	}
	return p.byLabels[t.publicKey]
}

// list gives a loop its place in byLabels, if there is that map. The caller holds mu.
func (p *pool) list(l *loop) {
	if p.byLabels == nil {
		return
	}
	key := l.target.publicKey
	p.twins = p.twins || p.byLabels[key] != nil
	p.byLabels[key] = l
}

// unlist takes a loop out of byLabels. Where its place may be another one's too, the map is to
// be made again. The caller holds mu.
func (p *pool) unlist(l *loop) {
	if p.twins {
		p.byLabels, p.twins = nil, false
	}
	if key := l.target.publicKey; p.byLabels[key] == l {
		delete(p.byLabels, key)
	}
}

func (p *pool) checkTargetLimit(n int) {
	before := p.forced
	p.forced = nil
	if limit := int(p.cfg.TargetLimit); limit > 0 && n > limit {
		p.forced = fail(reasonTargetLimit, "target_limit exceeded: the job has %d targets, limit is %d", n, limit)
	}
	switch {
	case p.forced != nil && before == nil:
		p.log.Warn("job has too many targets, none is scraped", "err", p.forced)
	case p.forced == nil && before != nil:
		p.log.Info("job has no more than its limit of targets again")
	}
	if p.forced == nil && before == nil {
		return
	}
	for _, l := range p.loops {
		l.force(p.forced)
	}
}

// failing returns what is wrong with the job's sources.
func (p *pool) failing() []string {
	var all []string
	for i, s := range p.sources {
		if err := s.Err(); err != nil {
			all = append(all, err.Error())
		}
		p.mu.Lock()
		if err := p.ended[i]; err != nil {
			all = append(all, fmt.Sprintf("source %d: %v", i, err))
		}
		p.mu.Unlock()
	}
	return all
}
