package stage

import (
	"math/rand/v2"
	"time"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// Verdict is what has become of a line.
type Verdict uint8

const (
	// Keep means that the entry goes on. It is the line given, or an earlier one that is
	// complete now, while the line given is held.
	Keep Verdict = iota
	// Drop means that the line is dropped and counted.
	Drop
	// Hold means that the line is held until those that belong to it have come, or has been
	// joined to one that is.
	Hold
)

// Entry is a line before and after the stages.
type Entry struct {
	// T is nanoseconds since the Unix epoch.
	T int64
	// Line is the text, valid UTF-8 without line end. Apply does not write to it. Afterwards
	// it is a view of the same memory or of the runner's.
	Line []byte
	// Labels and Metadata are those of the stream, and afterwards those of the line.
	Labels, Metadata model.Labels
	// Stream is stdout or stderr where the caller has taken the container runtime's record
	// apart already. The stages cri and docker then only set what they would have extracted.
	Stream string
	// Seq is where the line begins, in a number that grows from line to line. Afterwards it is
	// that of the first line that went into the entry.
	Seq int64
	// Delay is set where a limit asks the caller to pause so long before the next line.
	Delay time.Duration
}

// Deps is what a runner needs from outside.
type Deps struct {
	// Rand decides what sampling lets pass. Nil is a fixed sequence.
	Rand *rand.Rand
	// Metrics takes what the stage metrics observes. Nil where somebody else counts the same
	// lines already, such as the reader for another destination.
	Metrics *Metrics
}

// Pipeline is the state of one stream of lines. It belongs to the goroutine of its runner.
type Pipeline struct {
	r      *Runner
	blocks []block    // lines held, by the stages that hold some
	times  []lastTime // by the stages timestamp
}

// NewPipeline returns an empty pipeline, which takes no memory worth mentioning until a stage
// has something to keep.
func (r *Runner) NewPipeline() *Pipeline { return &Pipeline{r: r} }

// Apply runs the stages on e and changes it to what comes out. now is the present time. The
// memory behind e.Line must stay as it is until the next Reset if e is kept.
func (p *Pipeline) Apply(e *Entry, now time.Time) Verdict {
	r := p.r
	if len(r.prog.steps) == 0 {
		return Keep
	}
	r.now, r.line, r.t, r.seq, r.stream, r.lines = now, e.Line, e.T, e.Seq, e.Stream, 1
	r.delay = 0
	r.begin(e.Labels, e.Metadata)
	return p.run(0, e)
}

// Flush makes e the next entry that was held and has waited long enough. It returns false
// when there is none, and is called until then.
func (p *Pipeline) Flush(e *Entry, now time.Time) bool { return p.flush(e, now, false) }

// Drain makes e the next entry that was held, however short. It returns false when there is
// none.
func (p *Pipeline) Drain(e *Entry, now time.Time) bool { return p.flush(e, now, true) }

func (p *Pipeline) flush(e *Entry, now time.Time, all bool) bool {
	for i := range p.blocks {
		b := &p.blocks[i]
		for b.lines > 0 && (all || !now.Before(b.due)) {
			p.r.now, p.r.delay = now, 0
			after := b.after
			p.r.release(b)
			if p.run(after, e) == Keep {
				return true
			}
		}
	}
	return false
}

// Held returns the Seq of the oldest line held, and when the first of those held is due to be
// flushed. ok is false when none is held.
func (p *Pipeline) Held() (seq int64, due time.Time, ok bool) {
	for i := range p.blocks {
		b := &p.blocks[i]
		if b.lines == 0 {
			continue
		}
		if !ok || b.seq < seq {
			seq = b.seq
		}
		if !ok || b.due.Before(due) {
			due = b.due
		}
		ok = true
	}
	return seq, due, ok
}

// run runs the steps from the given one on the line of the runner.
func (p *Pipeline) run(from int, e *Entry) Verdict {
	r := p.r
	for i := from; i < len(r.prog.steps); i++ {
		switch o := r.prog.steps[i].run(r, p); o {
		case next:
		case held:
			return Hold
		case dropped:
			return Drop
		default:
			i += int(o)
		}
	}
	r.counts.Joined += r.lines - 1
	e.T, e.Line, e.Seq, e.Stream, e.Delay = r.t, r.line, r.seq, r.stream, r.delay
	e.Labels, e.Metadata = r.labels.render(), r.meta.render()
	return Keep
}
