package stage

import (
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// maxText bounds what a stage may make of a line or of a value. It is well above what
	// Loki takes, so it only stops what grows without bound.
	maxText = 1 << 20
	// keptArena is how much memory for texts a runner keeps for the next turn.
	keptArena = 1 << 20
	// firstArena is the size of the first piece of it.
	firstArena = 16 << 10
)

// kind is what an extracted value is. The zero value is none.
type kind uint8

const (
	isNull kind = iota + 1 // extracted, but JSON's null: it cannot be made text
	isText
	isNumber
	isBool
)

// value is an extracted value, which is there if gen is that of the runner.
type value struct {
	b    []byte
	gen  uint32
	kind kind
}

// Runner runs a program: it has the memory for the line that is being processed and for what
// came out since the last Reset, and what stages share between streams, such as their limits.
// It belongs to one goroutine.
type Runner struct {
	prog *Program
	deps Deps

	// The line that is being processed.
	now    time.Time
	line   []byte
	t, seq int64
	stream string
	lines  int // how many lines it was made of
	delay  time.Duration
	labels labelSet
	meta   labelSet
	values []value
	gen    uint32

	initial []extracted // the labels that the line came with and that a stage may ask for

	arena    []byte
	arenaSum int // of the pieces before arena
	tmp      []byte
	edit     []byte
	data     map[string]any // for templates
	json     jsonScan
	counts   Counts
	dropped  []int // by reason
	limits   []limiter
	matches  []matched
	families []*family

	names struct{ stdout, stderr, full, csi []byte }

	spare [][]byte // buffers for lines that are held
	held  int      // bytes held in all pipelines
	// spareValues is the list of a block that has none.
	spareValues []heldValue
}

type extracted struct {
	slot  int
	value []byte
}

// NewRunner returns a runner of the program.
func (p *Program) NewRunner(deps Deps) *Runner {
	if deps.Rand == nil {
		deps.Rand = rand.New(rand.NewPCG(1, 2))
	}
	r := &Runner{
		prog: p, deps: deps,
		values:  make([]value, len(p.slots)),
		dropped: make([]int, len(p.reasons)),
		limits:  make([]limiter, p.limits),
		matches: make([]matched, p.matches),
		data:    map[string]any{},
	}
	r.names.stdout, r.names.stderr, r.names.full = []byte("stdout"), []byte("stderr"), []byte("F")
	r.names.csi = []byte("\u009b")
	for _, m := range p.metrics {
		r.families = append(r.families, deps.Metrics.family(m))
	}
	return r
}

// Counts is what a runner did since it was last asked. All are lines as they came, so a block
// of ten that is dropped counts ten.
type Counts struct {
	// Joined is how many lines became part of another one.
	Joined int
	// Cut is how many times a stage made something longer than 1 MiB, which was cut.
	Cut int
	// Redacted is how many secrets were replaced.
	Redacted int
	// Unobserved is how many values could not be added to a metric: they were no number, or the
	// metric has too many series.
	Unobserved int
}

// Counts returns what was counted and starts again at zero. drops is called with the number
// of lines dropped for each reason.
func (r *Runner) Counts(drops func(reason string, lines int)) Counts {
	for i, n := range r.dropped {
		if n > 0 {
			drops(r.prog.reasons[i], n)
		}
	}
	clear(r.dropped)
	c := r.counts
	r.counts = Counts{}
	return c
}

// Size returns how many bytes of memory hold what came out since the last Reset.
func (r *Runner) Size() int { return r.arenaSum + len(r.arena) }

// Reset frees the memory of everything that came out.
func (r *Runner) Reset() {
	r.arenaSum = 0
	if cap(r.arena) > keptArena {
		r.arena = nil
	}
	r.arena = r.arena[:0]
}

// begin starts with a line's labels and no extracted values but these: stages can ask for
// labels under their names, as in promtail.
func (r *Runner) begin(labels, meta model.Labels) {
	r.meta.begin(meta)
	if r.labels.begin(labels) {
		r.initial = r.initial[:0]
		for _, l := range r.labels.base {
			if slot, ok := r.prog.slots[l.name]; ok {
				r.initial = append(r.initial, extracted{slot, l.value})
			}
		}
		for i := range r.matches {
			r.matches[i].known = false
		}
	}
	if r.gen++; r.gen == 0 { // After four billion lines an old value would seem new.
		clear(r.values)
		r.gen = 1
	}
	for _, x := range r.initial {
		r.values[x.slot] = value{x.value, r.gen, isText}
	}
}

func (r *Runner) set(slot int, b []byte, k kind) { r.values[slot] = value{b, r.gen, k} }

func (r *Runner) unset(slot int) { r.values[slot] = value{} }

// kindOf returns what is extracted; 0 where nothing is.
func (r *Runner) kindOf(slot int) kind {
	if v := &r.values[slot]; v.gen == r.gen {
		return v.kind
	}
	return 0
}

// text returns an extracted value as text.
func (r *Runner) text(slot int) ([]byte, bool) {
	v := &r.values[slot]
	if v.gen != r.gen || v.kind <= isNull {
		return nil, false
	}
	return v.b, true
}

// input returns what a stage with an optional source reads; -1 is the line.
func (r *Runner) input(slot int) ([]byte, bool) {
	if slot < 0 {
		return r.line, true
	}
	return r.text(slot)
}

// output replaces what input returned.
func (r *Runner) output(slot int, b []byte) {
	if slot < 0 {
		r.line = b
	} else {
		r.set(slot, b, isText)
	}
}

// drop counts the line as dropped.
func (r *Runner) drop(reason int) outcome {
	r.dropped[reason] += r.lines
	return dropped
}

// room makes sure that n bytes can be appended to the arena in one piece.
func (r *Runner) room(n int) {
	if cap(r.arena)-len(r.arena) < n {
		r.arenaSum += len(r.arena)
		r.arena = make([]byte, 0, max(n, min(2*cap(r.arena), keptArena), firstArena))
	}
}

// keep copies b to the arena.
func (r *Runner) keep(b []byte) []byte {
	b = r.cut(b)
	r.room(len(b))
	start := len(r.arena)
	r.arena = append(r.arena, b...)
	return r.arena[start:len(r.arena):len(r.arena)]
}

// cut shortens b to the longest text, not within a character.
func (r *Runner) cut(b []byte) []byte {
	if len(b) <= maxText {
		return b
	}
	r.counts.Cut++
	return cutAt(b, maxText)
}

// cutAt returns at most n bytes of b, not ending within a character.
func cutAt(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// number keeps a number as text, in the form that promtail gives it.
func (r *Runner) number(f float64) []byte {
	r.tmp = strconv.AppendFloat(r.tmp[:0], f, 'f', -1, 64)
	return r.keep(r.tmp)
}

// borrow returns an empty buffer for a line that is held, and giveBack returns it.
func (r *Runner) borrow() []byte {
	if n := len(r.spare); n > 0 {
		b := r.spare[n-1]
		r.spare = r.spare[:n-1]
		return b[:0]
	}
	return nil
}

func (r *Runner) giveBack(b []byte) {
	if cap(b) > 0 && cap(b) <= maxSpareSize && len(r.spare) < maxSpare {
		r.spare = append(r.spare, b)
	}
}
