package stage

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// start is the present time of tests.
var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// file is the root of a configuration with stages.
type file struct {
	Stages []Config `yaml:"pipeline_stages"`
}

func (f file) Validate() error {
	_, err := Compile(f.Stages)
	var ps config.Problems
	ps.Merge("pipeline_stages", err)
	return ps.Err()
}

// load reads a list of stages, written as under pipeline_stages.
func load(text string) ([]Config, error) {
	var f file
	err := config.Load([]byte("pipeline_stages:\n"+text), &f)
	return f.Stages, err
}

func compile(t testing.TB, text string) *Program {
	t.Helper()
	list, err := load(text)
	if err != nil {
		t.Fatalf("load stages: %v\n%s", err, text)
	}
	prog, err := Compile(list)
	if err != nil {
		t.Fatalf("compile stages: %v\n%s", err, text)
	}
	return prog
}

// bench is a pipeline with what a test looks at.
type bench struct {
	t   testing.TB
	r   *Runner
	p   *Pipeline
	now time.Time
	seq int64
}

func newBench(t testing.TB, text string) *bench {
	t.Helper()
	r := compile(t, text).NewRunner(Deps{Rand: rand.New(rand.NewPCG(7, 7))})
	return &bench{t: t, r: r, p: r.NewPipeline(), now: start}
}

var base = model.NewLabels(model.Label{Name: "app", Value: "web"}, model.Label{Name: "namespace", Value: "shop"})

// line returns a line with the usual labels.
func (b *bench) line(text string) *Entry {
	b.seq++
	return &Entry{T: b.now.UnixNano(), Line: []byte(text), Labels: base, Seq: b.seq}
}

// one runs a line and returns the entry, nil if it was dropped or held.
func (b *bench) one(text string) *Entry {
	e := b.line(text)
	if b.p.Apply(e, b.now) != Keep {
		return nil
	}
	return e
}

// all runs lines and returns the lines that come out, with those still held at the end.
func (b *bench) all(lines ...string) []string {
	var out []string
	for _, l := range lines {
		if e := b.one(l); e != nil {
			out = append(out, string(e.Line))
		}
	}
	for {
		var e Entry
		if !b.p.Drain(&e, b.now) {
			return out
		}
		out = append(out, string(e.Line))
	}
}

// value returns the extracted value of a name after the last line.
func (b *bench) value(name string) (string, bool) {
	slot, ok := b.r.prog.slots[name]
	if !ok {
		b.t.Fatalf("no stage has the value %s", name)
	}
	v, ok := b.r.text(slot)
	return string(v), ok
}

func (b *bench) dropped() map[string]int {
	all := map[string]int{}
	b.r.Counts(func(reason string, n int) { all[reason] = n })
	return all
}

// labelsOf returns a label set of name, value pairs.
func labelsOf(pairs ...string) model.Labels {
	var ls []model.Label
	for i := 0; i < len(pairs); i += 2 {
		ls = append(ls, model.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return model.NewLabels(ls...)
}
