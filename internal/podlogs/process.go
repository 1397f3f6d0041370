package podlogs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

const (
	// maxStaged is how much memory the texts that stages wrote in one turn may take before the
	// turn is ended early.
	maxStaged = 4 << 20
	// leastPause is the shortest pause that a limit gets. A shorter one is a debt that the next
	// lines add to, since a file is not looked at more often than this anyway.
	leastPause = 100 * time.Millisecond
	// offsetBits is how much of a line's place in its chain is its offset in the file.
	offsetBits = 40
)

// compileStages compiles the stages of pod_logs and of each element of file_logs. keep are the
// labels that lines of pods keep in the end, nil for all. The error is a [config.Problems].
func compileStages(cfg *Config, keep []string) ([]*stage.Program, error) {
	var ps config.Problems
	programs := make([]*stage.Program, 1+len(cfg.Files))
	compile := func(i int, path string, list []stage.Config) {
		p, err := stage.Compile(list)
		if err != nil {
			ps.Merge(path, err)
		}
		programs[i] = p
	}
	list := cfg.Pods.Stages
	if len(list) > 0 && len(keep) > 0 {
		kept := stage.LabelKeepConfig(keep)
		list = append(slices.Clone(list), stage.Config{LabelKeep: &kept})
	}
	compile(0, "pod_logs.stages", list)
	for i := range cfg.Files {
		compile(i+1, config.Key(config.Index("file_logs", i), "stages"), cfg.Files[i].Stages)
	}
	return programs, ps.Err()
}

// ValidateStages returns the problems that the stages of all blocks have, also together: metrics
// that are defined twice and differ.
func (c Config) ValidateStages() error {
	programs, err := compileStages(&c, nil)
	if err != nil {
		return err
	}
	_, err = stage.NewMetrics(time.Now, programs...)
	return err
}

// CustomMetrics returns the metrics that stages make of lines, which this collector counts
// from then on. It is called before Run, and for one collector of a process only, since all
// read the same lines. The error names metrics that are defined twice and differ.
func (c *Collector) CustomMetrics() (prometheus.Collector, error) {
	m, err := stage.NewMetrics(time.Now, c.programs...)
	if err != nil {
		return nil, fmt.Errorf("set up the metrics of stages: %w", err)
	}
	c.custom = m
	return m, nil
}

// runner runs one program for a reader and knows how many lines it holds.
type runner struct {
	*stage.Runner
	in, out int  // lines in this turn
	used    bool // in this turn
}

// pipe is the state of the stages for one stream of a chain.
type pipe struct {
	// blocks joins lines before the other stages see them; steps are those. Each is nil where
	// there is nothing to do.
	blocks, steps *stage.Pipeline
}

// pipes is the state of the stages for a chain. Its files are numbered in the order in which
// they are read, so that a line has a place in the chain: the number, then the offset.
type pipes struct {
	streams       [2]pipe // of stdout and stderr
	blocks, steps *runner
	// files is how many files have a number, last is the number of the one read last.
	files, last int64
	// due is when the first of the lines held is to be let go; zero while none is held.
	due time.Time
}

// stager is what a reader needs for the stages.
type stager struct {
	steps  []*runner // by chain.config, nil where lines pass as they are
	joiner joiner
	used   []*runner // in this turn
	entry  stage.Entry
	out    stage.Streams
	staged int // lines in out
	held   int // lines held in all chains
}

func newStager(c *Collector) stager {
	s := stager{joiner: joiner{base: c.cfg.Pods.Multiline}, steps: make([]*runner, len(c.programs))}
	for i, p := range c.programs {
		if !p.Empty() {
			// Not to let the same share of lines pass in each process.
			random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			s.steps[i] = &runner{Runner: p.NewRunner(stage.Deps{Rand: random, Metrics: c.custom})}
		}
	}
	return s
}

// mayRead lets go of the lines of a chain that are due, and tells whether more may be read.
func (r *reader) mayRead(ctx context.Context, ch *chain) bool {
	if p := ch.pipes; p != nil && !p.due.IsZero() && !r.now.Before(p.due) {
		r.flush(ch)
		r.hand(ctx, ch)
	}
	return !r.now.Before(ch.notBefore) && ctx.Err() == nil
}

// prepare brings the stages up to date before lines of t are read. Those of a file that was
// written to after the next one had begun do not belong to what is held.
func (r *reader) prepare(t *tail) {
	ch := t.chain
	if !ch.piped {
		r.lay(ch)
	}
	p := ch.pipes
	if p == nil {
		return
	}
	if p.number(t) < p.last {
		r.drain(ch)
	}
	p.last = t.number
}

// lay makes the pipes of a chain.
func (r *reader) lay(ch *chain) {
	r.drain(ch)
	p := &pipes{steps: r.steps[ch.config]}
	if ch.config == 0 {
		var problem string
		if p.blocks, problem = r.joiner.runner(ch.joins, r.c.snapshot()); problem != "" {
			r.c.log.Warn("lines are joined as pod_logs.multiline says", "namespace", ch.pod.namespace, "pod", ch.pod.name, "container", ch.pod.container, "err", problem)
		}
	}
	ch.piped = true
	if old := ch.pipes; old != nil {
		p.files, p.last = old.files, old.last
	}
	if ch.pipes = p; p.blocks == nil && p.steps == nil {
		ch.pipes = nil
		return
	}
	for i := range p.streams {
		if p.blocks != nil {
			p.streams[i].blocks = p.blocks.NewPipeline()
		}
		if p.steps != nil {
			p.streams[i].steps = p.steps.NewPipeline()
		}
	}
}

// number returns the number of a file.
func (p *pipes) number(t *tail) int64 {
	if t.number == 0 {
		p.files++
		t.number = p.files
	}
	return t.number
}

// process gives a line to the stages. The line begins at the offset at of t.
func (r *reader) process(ch *chain, rec record, t *tail, at int64) {
	p, i, e := ch.pipes, rec.stream(), &r.entry
	*e = stage.Entry{
		T: rec.t, Line: rec.text, Labels: ch.labels[i].index, Metadata: ch.labels[i].metadata,
		Seq: p.number(t)<<offsetBits | at,
	}
	if ch.format != FormatRaw {
		e.Stream = [...]string{"stdout", "stderr"}[i]
	}
	s := &p.streams[i]
	if s.blocks != nil {
		r.use(p.blocks).in++
		if s.blocks.Apply(e, r.now) != stage.Keep {
			return
		}
		p.blocks.out++
	}
	r.step(ch, s, e)
}

// step gives an entry to the stages behind the joining of blocks.
func (r *reader) step(ch *chain, s *pipe, e *stage.Entry) {
	if s.steps != nil {
		r.use(ch.pipes.steps).in++
		if s.steps.Apply(e, r.now) != stage.Keep {
			return
		}
		ch.pipes.steps.out++
	}
	r.yield(ch, e)
}

// yield adds what came out of the stages to the turn.
func (r *reader) yield(ch *chain, e *stage.Entry) {
	if len(e.Line) > maxLine {
		e.Line = append(slices.Clip(shorten(e.Line)), cutMarker...)
		r.count.cut++
	}
	r.out.Add(e)
	r.staged++
	if e.Delay >= leastPause {
		ch.notBefore = r.now.Add(e.Delay)
	}
}

func (r *reader) use(x *runner) *runner {
	if !x.used {
		x.used = true
		r.used = append(r.used, x)
	}
	return x
}

// full tells that the turn should end here: a limit asks for a pause, or stages have written
// much.
func (r *reader) full(ch *chain) bool {
	if ch.pipes == nil {
		return false
	}
	if ch.notBefore.After(r.now) {
		return true
	}
	for _, x := range r.used {
		if x.Size() > maxStaged {
			return true
		}
	}
	return false
}

// flush lets go of the lines of a chain that are due. The caller ends the turn.
func (r *reader) flush(ch *chain) {
	r.letGo(ch, (*stage.Pipeline).Flush)
}

// drain lets go of all lines of a chain. The caller ends the turn.
func (r *reader) drain(ch *chain) {
	r.letGo(ch, (*stage.Pipeline).Drain)
}

func (r *reader) letGo(ch *chain, next func(*stage.Pipeline, *stage.Entry, time.Time) bool) {
	p := ch.pipes
	if p == nil || !p.holding() {
		return
	}
	e := &r.entry
	for i := range p.streams {
		s := &p.streams[i]
		if s.blocks != nil {
			for r.use(p.blocks); next(s.blocks, e, r.now); {
				p.blocks.out++
				r.step(ch, s, e)
			}
		}
		if s.steps != nil {
			for r.use(p.steps); next(s.steps, e, r.now); {
				p.steps.out++
				r.yield(ch, e)
			}
		}
	}
}

// each calls visit with the place of the oldest line that a pipeline holds, and when the first
// one is due.
func (p *pipes) each(visit func(seq int64, due time.Time)) {
	for i := range p.streams {
		for _, x := range [...]*stage.Pipeline{p.streams[i].blocks, p.streams[i].steps} {
			if x == nil {
				continue
			}
			if seq, due, ok := x.Held(); ok {
				visit(seq, due)
			}
		}
	}
}

func (p *pipes) holding() (yes bool) {
	p.each(func(int64, time.Time) { yes = true })
	return yes
}

// holds tells whether a line that is held begins in t.
func (p *pipes) holds(t *tail) (yes bool) {
	p.each(func(seq int64, _ time.Time) { yes = yes || seq>>offsetBits == t.number })
	return yes
}

// schedule notes when the first line is due.
func (p *pipes) schedule() {
	p.due = time.Time{}
	p.each(func(_ int64, due time.Time) {
		if p.due.IsZero() || due.Before(p.due) {
			p.due = due
		}
	})
}

// target returns the offset up to which the lines of t before off have left the stages, given
// the files of its chain. Of what is held a part may be in any file behind its beginning.
func (p *pipes) target(t *tail, chain []*tail, off int64) int64 {
	p.each(func(seq int64, _ time.Time) {
		first := seq >> offsetBits
		if first == t.number {
			off = min(off, seq&(1<<offsetBits-1))
			return
		}
		for _, x := range chain {
			if x == t {
				return
			}
			if x.number == first {
				off = min(off, t.marked)
				return
			}
		}
	})
	return off
}

// settleStages takes the counts of the stages and frees what they used in a turn.
func (r *reader) settleStages() {
	for _, x := range r.used {
		lines := x.in - x.out
		n := x.Counts(func(reason string, dropped int) {
			r.c.m.dropped.WithLabelValues(reason).Add(float64(dropped))
			lines -= dropped
		})
		lines -= n.Joined
		r.held += lines
		r.c.m.linesJoined.Add(float64(n.Joined))
		r.c.m.cut.Add(float64(n.Cut))
		r.c.m.redacted.Add(float64(n.Redacted))
		r.c.m.unobserved.Add(float64(n.Unobserved))
		x.in, x.out, x.used = 0, 0, false
		x.Reset()
	}
	if len(r.used) > 0 {
		r.c.m.linesHeld.Set(float64(r.held))
		r.used = r.used[:0]
		r.out.Reset()
		r.staged = 0
	}
}
