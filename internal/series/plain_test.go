package series

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// plain is what a Table must do, written down with maps and without any care for speed. It
// never forgets, so it agrees with a Table as long as timestamps that come back are newer.
type plain struct {
	newest map[model.Labels]int64
	prev   map[model.Labels]bool
	seen   map[string]bool // Keys that yield samples, of the last successful scrape and those after it.
}

func newPlain() *plain {
	return &plain{newest: map[model.Labels]int64{}, prev: map[model.Labels]bool{}, seen: map[string]bool{}}
}

// line is one line of an exposition, and what relabelling makes of it.
type line struct {
	key    string
	ls     model.Labels // "" is dropped by relabelling.
	typ    expfmt.Type
	typed  bool
	report bool
	at     int64 // 0 is no timestamp.
	track  bool
}

// ending is how a scrape ends.
type ending int

const (
	commit ending = iota
	fail
	abort
)

// outcome is what can be seen of a scrape.
type outcome struct {
	Taken  []Taken
	Labels []model.Labels // Of what was taken.
	Stale  []model.Labels
	Has    []bool // For each line.
	Added  int
	Len    int
}

func (n *plain) scrape(now int64, lines []line, end ending) (o outcome) {
	newest, cur, keys := maps.Clone(n.newest), make(map[model.Labels]bool), make(map[string]bool)
	for _, l := range lines {
		switch {
		case l.report:
			o.Taken = append(o.Taken, TakenDuplicate)
			continue
		case l.ls == "":
			o.Taken = append(o.Taken, TakenRelabelled)
			continue
		}
		again, known := keys[l.key], n.seen[l.key]
		at, own := l.at, l.at != 0
		if !own {
			at = now
		}
		last, seen := newest[l.ls]
		if late := seen && at < last && (own || !again && !cur[l.ls]); known || !late {
			if !again && !known {
				o.Added++
			}
			keys[l.key] = true
		}
		switch {
		case !own && (again || cur[l.ls] || seen && at == last):
			o.Taken = append(o.Taken, TakenDuplicate)
			continue
		case seen && at < last:
			o.Taken = append(o.Taken, TakenOutOfOrder)
			continue
		case seen && at == last:
			o.Taken = append(o.Taken, TakenUnchanged)
		default:
			o.Taken = append(o.Taken, TakenOK)
			o.Labels = append(o.Labels, l.ls)
		}
		newest[l.ls] = at
		if !own || l.track {
			cur[l.ls] = true
		}
	}
	for _, l := range lines {
		o.Has = append(o.Has, cur[l.ls])
	}
	if end != commit {
		cur = map[model.Labels]bool{}
		maps.Copy(n.seen, keys) // As in Prometheus, whose cache keeps what a failed scrape had.
	} else {
		n.newest, n.seen = newest, keys
	}
	if end != abort {
		for ls := range n.prev {
			if !cur[ls] && n.newest[ls] < now {
				o.Stale = append(o.Stale, ls)
				n.newest[ls] = now
			}
		}
		n.prev = cur
	}
	slices.Sort(o.Stale)
	o.Len = len(n.prev)
	return o
}

// drive runs the same lines through a Table, which finds the keys as a scrape does.
func drive(s *Shared, t *Table, now int64, lines []line, end ending) (o outcome) {
	t.Begin(now)
	for _, l := range lines {
		key := []byte(l.key)
		hash := hashOf(s, l.key)
		var row Row
		var ok bool
		if h := t.Hint(); h.Hash == hash && h.Len == len(key) {
			row, ok = t.Expected(key, l.typ)
		} else {
			row, ok = t.Find(key, hash, l.typ)
		}
		if !ok {
			row = t.Add(key, hash, l.ls, l.typ, l.typed, l.report)
		}
		if why := t.Dropped(row); why != TakenOK {
			o.Taken = append(o.Taken, why)
			continue
		}
		at, own := l.at, l.at != 0
		if !own {
			at = now
		}
		if !own && t.Again() {
			o.Taken = append(o.Taken, TakenDuplicate)
			continue
		}
		why := t.Take(row, at, own, !own || l.track)
		o.Taken = append(o.Taken, why)
		if why == TakenOK {
			o.Labels = append(o.Labels, model.Labels(t.AppendLabels(nil, row, key)))
		}
	}
	o.Added = t.Added()
	for _, l := range lines {
		o.Has = append(o.Has, l.ls != "" && t.Has(l.ls))
	}
	stale := func(ls []byte) { o.Stale = append(o.Stale, model.Labels(ls)) }
	switch end {
	case commit:
		t.Stale(false, stale)
		t.Commit()
	case fail:
		t.Stale(true, stale)
		t.Fail()
	default:
		t.Abort()
	}
	slices.Sort(o.Stale)
	o.Len = t.Len()
	return o
}

// world makes scrapes: a fixed set of lines of many forms, of which some share their labels,
// some have timestamps and some are dropped; and from scrape to scrape lines come, go, repeat
// and move, and the TYPE of some changes.
type world struct {
	rng     *rand.Rand
	protos  []proto
	order   []int
	churn   int
	retypes bool
	typ     expfmt.Type
}

// proto is a line that a world may show.
type proto struct {
	line   string // As exposed, made by key.
	name   string
	labels []model.Label
	style  int
	fate   int
	stamps int // 0 for none, 1 for some, 2 for tracked ones.
}

var worldTarget = []model.Label{{Name: "cluster", Value: "c"}, {Name: "instance", Value: "10.0.0.1:9100"}, {Name: "job", Value: "node"}, {Name: "zone", Value: "a"}}

func newWorld(seed uint64, size, churn int) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), churn: churn, typ: expfmt.TypeHistogram}
	values := []string{
		"", "a", "b c", "node", "/var/lib/{id}", `say "hi"`, `C:\dir`, "two\nlines", "été", "x,y=\"z\"", "c",
		strings.Repeat("long", 27), strings.Repeat("longer", 40), "0", "1",
	}
	for i := range size {
		p := proto{name: fmt.Sprintf("m%d_total", w.rng.IntN(9)), style: max(0, w.rng.IntN(20)-14), fate: w.rng.IntN(24)}
		for _, name := range []string{"Upper", "code", "exported_job", "instance", "le", "method", "pod", "zone"} {
			if w.rng.IntN(2) == 0 {
				p.labels = append(p.labels, model.Label{Name: name, Value: values[w.rng.IntN(len(values))]})
			}
		}
		p.labels = append(p.labels, model.Label{Name: "k", Value: fmt.Sprint(i)}) // Not in order of names.
		// Labels that depend on the TYPE come back later than a Table remembers.
		if w.rng.IntN(9) == 0 && !slices.Contains(p.labels, model.Label{Name: "le", Value: "1"}) {
			p.stamps = 1 + w.rng.IntN(2)
		}
		p.line = p.key()
		w.protos = append(w.protos, p)
		w.order = append(w.order, i)
	}
	return w
}

// key writes the line as an exporter may.
func (p *proto) key() string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	open, eq, sep, end := "{", "=", ",", "}"
	name := p.name
	switch p.style {
	case 1:
		end = ",}"
	case 2:
		open, eq, sep, end = " { ", " = ", " , ", " }"
	case 3:
		name, open = "", `{"`+p.name+`",`
	case 4:
		sep = ""
	}
	var b strings.Builder
	b.WriteString(name + open)
	for i, l := range p.labels {
		if i > 0 {
			b.WriteString(sep)
		}
		label := l.Name
		if p.style == 3 {
			label = `"` + label + `"`
		}
		b.WriteString(label + eq + `"` + escape.Replace(l.Value) + `"`)
	}
	return b.String() + end
}

// finished is what relabelling makes of the line.
func (p *proto) finished(typ expfmt.Type) model.Labels {
	all := []model.Label{{Name: "__name__", Value: p.name}}
	k := p.labels[len(p.labels)-1].Value
	for _, l := range p.labels {
		if l.Name == "le" && l.Value == "1" && typ == expfmt.TypeHistogram {
			l.Value = "1.0"
		}
		for _, t := range worldTarget {
			if t.Name == l.Name {
				l.Name = "exported_" + l.Name
			}
		}
		all = append(all, l)
	}
	all = append(all, worldTarget...)
	switch p.fate {
	case 0:
		return ""
	case 1: // Some lines share their labels.
		return model.NewLabels(model.Label{Name: "__name__", Value: "shared"}, model.Label{Name: "k", Value: k[:1]})
	case 2:
		all = append(all, model.Label{Name: "made", Value: "of " + k}) // A template each.
	case 3:
		all = append(all, model.Label{Name: "other", Value: k}, model.Label{Name: "kk", Value: k})
	case 4:
		all = append(all, model.Label{Name: "cluster", Value: "another"}, model.Label{Name: "__name__", Value: "renamed_" + p.name})
	}
	return model.NewLabels(all...)
}

func (w *world) lines(now int64, shuffle bool) (all []line) {
	if shuffle {
		w.rng.Shuffle(len(w.order), func(i, j int) { w.order[i], w.order[j] = w.order[j], w.order[i] })
	}
	if w.retypes && w.rng.IntN(3) == 0 {
		w.typ = []expfmt.Type{expfmt.TypeHistogram, expfmt.TypeCounter}[w.rng.IntN(2)]
	}
	for _, i := range w.order {
		if w.rng.IntN(w.churn) == 0 {
			continue
		}
		p := &w.protos[i]
		l := line{key: p.line, ls: p.finished(w.typ), typ: w.typ}
		l.typed = slices.ContainsFunc(p.labels, func(l model.Label) bool { return l.Name == "le" })
		l.report = p.fate == 5
		if p.stamps > 0 {
			l.at, l.track = now-w.rng.Int64N(30_000), p.stamps == 2
		}
		all = append(all, l)
		if w.rng.IntN(50) == 0 {
			all = append(all, l)
		}
	}
	return all
}
