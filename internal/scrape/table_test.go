package scrape

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// naive is what a Table must do, written down with maps and without any care for speed.
type naive struct {
	newest map[model.Labels]int64
	prev   map[model.Labels]bool
	lastOK map[string]bool // Keys that yield samples, of the last successful scrape and those after it.
}

type line struct {
	key   string
	ls    model.Labels // "" is dropped by relabelling.
	at    int64        // 0 is no timestamp.
	track bool
}

// scrape returns what is taken, the stale markers and the number of added lines.
func (n *naive) scrape(now int64, lines []line, failed bool) (taken []Taken, stale []model.Labels, added int) {
	newest, cur, keys := maps.Clone(n.newest), make(map[model.Labels]bool), make(map[string]bool)
	for _, l := range lines {
		if l.ls == "" {
			taken = append(taken, TakenRelabelled)
			continue
		}
		if !n.lastOK[l.key] && !keys[l.key] {
			added++
		}
		keys[l.key] = true
		at, own := l.at, l.at != 0
		if !own {
			at = now
		}
		last, seen := newest[l.ls]
		switch {
		case seen && at < last:
			taken = append(taken, TakenOutOfOrder)
			continue
		case seen && at == last && !own:
			taken = append(taken, TakenDuplicate)
			continue
		case seen && at == last:
			taken = append(taken, TakenUnchanged)
		default:
			taken = append(taken, TakenOK)
		}
		newest[l.ls] = at
		if !own || l.track {
			cur[l.ls] = true
		}
	}
	if failed {
		cur = map[model.Labels]bool{}
		maps.Copy(n.lastOK, keys) // As in Prometheus, whose cache keeps what a failed scrape had.
	} else {
		n.newest, n.lastOK = newest, keys
	}
	for ls := range n.prev {
		if !cur[ls] && n.newest[ls] < now {
			stale = append(stale, ls)
			n.newest[ls] = now
		}
	}
	n.prev = cur
	slices.Sort(stale)
	return taken, stale, added
}

// fast runs the same lines through a Table, with the keys found as the loop finds them.
func fast(t *Table, now int64, lines []line, failed bool) (taken []Taken, stale []model.Labels, added int) {
	t.Begin(now)
	seed := t.seed
	for _, l := range lines {
		var row Row
		var ok bool
		hash := maphash.String(seed, l.key)
		if t.Hint() == (expfmt.Hint{Hash: hash, Len: len(l.key)}) {
			row, ok = t.Expected(nil, expfmt.TypeUnknown)
		} else {
			row, ok = t.Find([]byte(l.key), hash, expfmt.TypeUnknown)
		}
		if !ok {
			row = t.Add([]byte(l.key), hash, l.ls, expfmt.TypeUnknown, false, false)
		}
		if why := t.Dropped(row); why != TakenOK {
			taken = append(taken, why)
			continue
		}
		at, own := l.at, l.at != 0
		if !own {
			at = now
		}
		taken = append(taken, t.Take(row, at, own, !own || l.track))
	}
	added = t.Added()
	t.Stale(failed, func(ls []byte) { stale = append(stale, model.Labels(ls)) })
	if failed {
		t.Fail()
	} else {
		t.Commit()
	}
	slices.Sort(stale)
	return taken, stale, added
}

// world makes lines: a fixed set of keys, of which some share their labels, some have
// timestamps and some are dropped; and from scrape to scrape lines come, go and move.
type world struct {
	rng   *rand.Rand
	order []int
	churn int
}

func (w *world) lines(now int64, shuffle bool) (all []line) {
	if shuffle {
		w.rng.Shuffle(len(w.order), func(i, j int) { w.order[i], w.order[j] = w.order[j], w.order[i] })
	}
	for _, k := range w.order {
		if w.rng.IntN(w.churn) == 0 {
			continue
		}
		l := line{key: fmt.Sprintf("m{k=\"%d\"}", k), ls: model.NewLabels(model.Label{Name: "k", Value: fmt.Sprint(k)})}
		switch {
		case k%17 == 0:
			l.ls = ""
		case k%11 == 0:
			l.ls = model.NewLabels(model.Label{Name: "k", Value: "shared"})
		case k%7 == 0:
			l.at, l.track = now-w.rng.Int64N(30_000), k%2 == 0
		}
		all = append(all, l)
		if w.rng.IntN(50) == 0 {
			all = append(all, l)
		}
	}
	return all
}

func TestTableDoesWhatMapsDo(t *testing.T) {
	for seed := range uint64(40) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 1)), churn: 2 + int(seed)*3}
		for k := range 300 {
			w.order = append(w.order, k)
		}
		n := &naive{newest: map[model.Labels]int64{}, prev: map[model.Labels]bool{}, lastOK: map[string]bool{}}
		table := NewTable()
		// Rows that were long gone are forgotten, timestamps included, so stay below that.
		for i := range int64(forgetAfter) {
			now := 1_000_000 + i*10_000
			lines := w.lines(now, seed%5 == 0)
			failed := w.rng.IntN(6) == 0
			if failed {
				lines = lines[:w.rng.IntN(len(lines))]
			}
			taken, stale, added := n.scrape(now, lines, failed)
			gotTaken, gotStale, gotAdded := fast(table, now, lines, failed)
			if !slices.Equal(taken, gotTaken) {
				t.Fatalf("seed %d, scrape %d: taken (-want +got):\n%s", seed, i, cmp.Diff(taken, gotTaken))
			}
			if !slices.Equal(stale, gotStale) {
				t.Fatalf("seed %d, scrape %d: stale (-want +got):\n%s", seed, i, cmp.Diff(stale, gotStale))
			}
			if !failed && added != gotAdded {
				t.Fatalf("seed %d, scrape %d: %d lines added, want %d", seed, i, gotAdded, added)
			}
		}
	}
}

func TestTableForgetsWhatIsNotExposedAnyMore(t *testing.T) {
	table := NewTable()
	for i := range int64(300) {
		lines := []line{{key: "stays", ls: "stays"}}
		for k := range 100 {
			s := fmt.Sprintf("m{k=\"%d-%d\"}", i, k)
			lines = append(lines, line{key: s, ls: model.Labels(s)})
		}
		_, stale, _ := fast(table, i+1, lines, false)
		if i > 0 && len(stale) != 100 {
			t.Fatalf("%d stale markers, want 100", len(stale))
		}
	}
	if rows, series := len(table.rows), len(table.series); rows > 2500 || series > 2500 || len(table.index) > 2500 || len(table.byLabels) > 2500 {
		t.Errorf("table has %d rows and %d series after 300 scrapes of 101, want few", rows, series)
	}
	for i := range int64(300) {
		var lines []line
		for k := range 100 {
			s := fmt.Sprintf("f{k=\"%d-%d\"}", i, k)
			lines = append(lines, line{key: s, ls: model.Labels(s)})
		}
		fast(table, 2000+i, lines, true)
	}
	if rows := len(table.rows); rows > 5000 {
		t.Errorf("table has %d rows after 300 failed scrapes of 100 new lines, want few", rows)
	}
}

func TestAbortedScrapeLeavesNoTrace(t *testing.T) {
	table := NewTable()
	lines := []line{{key: "a", ls: "a"}, {key: "b", ls: "b", at: 5}}
	fast(table, 10, lines, false)
	table.Begin(20)
	r, _ := table.Find([]byte("b"), maphash.String(table.seed, "b"), expfmt.TypeUnknown)
	if got := table.Take(r, 15, true, false); got != TakenOK {
		t.Fatalf("Take = %d, want it taken", got)
	}
	table.Abort()
	taken, stale, _ := fast(table, 30, []line{{key: "b", ls: "b", at: 15}}, false)
	if diff := cmp.Diff([]Taken{TakenOK}, taken); diff != "" {
		t.Errorf("taken after the abort (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]model.Labels{"a"}, stale); diff != "" {
		t.Errorf("stale after the abort (-want +got):\n%s", diff)
	}
}
