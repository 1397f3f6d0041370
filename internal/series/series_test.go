package series

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

func hashOf(s *Shared, key string) uint64 { return maphash.String(s.Seed(), key) }

// play runs a world through a Table and through maps, which must agree.
func play(t *testing.T, w *world, scrapes int, shuffle func(i int) bool) *Table {
	t.Helper()
	s := NewShared()
	table, n := s.NewTable(model.NewLabels(append([]model.Label(nil), worldTarget...)...)), newPlain()
	for i := range scrapes {
		now := int64(1_000_000 + i*10_000)
		lines := w.lines(now, shuffle(i))
		end := commit
		if r := w.rng.IntN(8); r < 2 {
			end = []ending{fail, abort}[r]
			lines = lines[:w.rng.IntN(len(lines)+1)]
		}
		if i%23 == 22 {
			table.Resume()
			clear(n.seen)
		}
		want := n.scrape(now, lines, end)
		got := drive(s, table, now, lines, end)
		if !reflect.DeepEqual(want, got) { // cmp takes ten times as long.
			t.Fatalf("scrape %d, ending %d (-want +got):\n%.4000s", i, end, cmp.Diff(want, got))
		}
	}
	if n := s.Mismatches(); n > 0 {
		t.Errorf("%d mismatches found by the audit, want none", n)
	}
	return table
}

func TestTableDoesWhatMapsDo(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(seed, 200, 2+int(seed)*3)
			w.retypes = seed%3 == 0
			play(t, w, 60, func(i int) bool { return seed%5 == 0 || seed%5 == 1 && i == 30 })
		})
	}
}

func FuzzTable(f *testing.F) {
	f.Add(uint64(1), uint16(50), uint8(10), uint8(1), true)
	f.Add(uint64(2), uint16(3), uint8(1), uint8(0), false)
	f.Add(uint64(3), uint16(400), uint8(200), uint8(7), false)
	f.Fuzz(func(t *testing.T, seed uint64, size uint16, churn, shuffle uint8, retypes bool) {
		w := newWorld(seed, int(size%500), 1+int(churn))
		w.retypes = retypes
		play(t, w, 40, func(i int) bool { return shuffle > 0 && i%int(shuffle) == 0 })
	})
}

// FuzzAnyLineGivesItsLabelsBack uses keys that no parser would let through, and labels that
// have nothing to do with them.
func FuzzAnyLineGivesItsLabelsBack(f *testing.F) {
	f.Add([]byte(`m{a="b",c="d"}`), "a", "b", "x", "d", uint8(3))
	f.Add([]byte(`m{a="`), "a", "b", "", "", uint8(0))
	f.Add([]byte(`{"`), "", "m", "y", "z", uint8(1))
	f.Fuzz(func(t *testing.T, key []byte, n1, v1, n2, v2 string, mutate uint8) {
		s := NewShared()
		target := model.NewLabels(model.Label{Name: "job", Value: "j"}, model.Label{Name: n2, Value: v2})
		ls := model.NewLabels(model.Label{Name: n1, Value: v1}, model.Label{Name: n2, Value: v2}, model.Label{Name: "job", Value: "j"})
		table := s.NewTable(target)
		table.Begin(1)
		hash := maphash.Bytes(s.Seed(), key)
		if _, ok := table.Find(key, hash, 0); ok {
			t.Fatal("an empty table found a row")
		}
		row := table.Add(key, hash, ls, 0, false, false)
		if got := model.Labels(table.AppendLabels(nil, row, key)); got != ls {
			t.Errorf("%q gives %v, want %v", key, got, ls)
		}
		// A key of another shape, as if two had the same hash: anything but a panic.
		if len(key) > 0 {
			other := append([]byte(nil), key...)
			other[int(mutate)%len(other)] ^= '"'
			table.AppendLabels(nil, row, other)
			table.AppendLabels(nil, row, other[:int(mutate)%len(other)])
		}
		table.Take(row, 1, false, true)
		table.Commit()
		table.Begin(2)
		var stale []model.Labels
		table.Stale(false, func(b []byte) { stale = append(stale, model.Labels(b)) })
		if len(stale) != 1 || stale[0] != ls {
			t.Errorf("stale markers for %v, want one for %v", stale, ls)
		}
	})
}

func TestAbortedScrapeLeavesNoTrace(t *testing.T) {
	s := NewShared()
	table := s.NewTable("")
	a, b := model.NewLabels(model.Label{Name: "x", Value: "a"}), model.NewLabels(model.Label{Name: "x", Value: "b"})
	drive(s, table, 10, []line{{key: "a", ls: a}, {key: "b", ls: b, at: 5}}, commit)
	drive(s, table, 20, []line{{key: "b", ls: b, at: 15}}, abort)
	o := drive(s, table, 30, []line{{key: "b", ls: b, at: 15}}, commit)
	if diff := cmp.Diff([]Taken{TakenOK}, o.Taken); diff != "" {
		t.Errorf("taken after the abort (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]model.Labels{a}, o.Stale); diff != "" {
		t.Errorf("stale after the abort (-want +got):\n%s", diff)
	}
}

func TestTableForgetsWhatIsNotExposedAnyMore(t *testing.T) {
	s := NewShared()
	table := s.NewTable("")
	scrape := func(now int64, name string, end ending) outcome {
		lines := []line{{key: "stays", ls: model.NewLabels(model.Label{Name: "x", Value: "stays"})}}
		for k := range 100 {
			v := fmt.Sprintf("%d-%d", now, k)
			lines = append(lines, line{
				key: fmt.Sprintf("%s{k=\"%s\"}", name, v),
				ls:  model.NewLabels(model.Label{Name: "__name__", Value: name}, model.Label{Name: "k", Value: v}),
			})
		}
		return drive(s, table, now, lines, end)
	}
	for i := range int64(300) {
		if o := scrape(i+1, fmt.Sprintf("m%d", i), commit); i > 0 && len(o.Stale) != 100 {
			t.Fatalf("%d stale markers, want 100", len(o.Stale))
		}
	}
	check := func(after string) {
		t.Helper()
		if rows, parts, names := len(table.rows), len(table.parts), len(table.names); rows > 2500 || parts > 3500 || names > 60 {
			t.Errorf("table has %d rows, %d parts and %d names after %s, want few", rows, parts, names, after)
		}
	}
	check("300 scrapes of 101")
	for i := range int64(300) {
		scrape(2000+i, "f", fail)
	}
	if rows := len(table.rows); rows > 5000 {
		t.Errorf("table has %d rows after 300 failed scrapes of 100 new lines, want few", rows)
	}
	scrape(3000, "f", commit)
	check("failed scrapes and a good one")
}

func TestAuditReplacesARowThatGivesWrongLabels(t *testing.T) {
	s := NewShared()
	table := s.NewTable("")
	var lines []line
	for k := range auditEvery {
		v := fmt.Sprintf("%02d", k)
		lines = append(lines, line{
			key: `m{k="` + v + `"}`,
			ls:  model.NewLabels(model.Label{Name: "__name__", Value: "m"}, model.Label{Name: "k", Value: v}),
		})
	}
	drive(s, table, 1, lines, commit)
	table.rows[5].final ^= 1 // As if another key with the same hash had made the row.
	for i := range int64(auditEvery) {
		o := drive(s, table, 2+i, lines, commit)
		for k, ls := range o.Labels {
			if ls != lines[k].ls {
				t.Fatalf("line %d has labels %v, want %v", k, ls, lines[k].ls)
			}
		}
	}
	if n := s.Mismatches(); n != 1 {
		t.Errorf("%d mismatches, want the one", n)
	}
}

func TestOrderIsForgottenWhenItIsThatOfTheRows(t *testing.T) {
	w := newWorld(7, 300, 1<<20)
	s := NewShared()
	table := s.NewTable("")
	drive(s, table, 10, w.lines(10, false), commit)
	lines := w.lines(20, true)
	repeated := map[string]bool{}
	lines = slices.DeleteFunc(lines, func(l line) bool {
		was := repeated[l.key]
		repeated[l.key] = true
		return was
	})
	for i := range int64(heldLong + 2) {
		drive(s, table, 20+i, lines, commit)
	}
	if table.order != nil || table.work != nil || table.free != nil {
		t.Errorf("order of %d, work %v and %d free rows kept after an order that holds", len(table.order), table.work != nil, len(table.free))
	}
}

func TestIndexIsKeptWhileTheOrderNeverHolds(t *testing.T) {
	w := newWorld(8, 300, 1<<20)
	s := NewShared()
	table := s.NewTable("")
	kept := func(scrapes int, shuffle bool) bool {
		for range scrapes {
			now := table.Time() + 10_000
			drive(s, table, now, w.lines(now, shuffle), commit)
		}
		return table.work != nil
	}
	if kept(1, false) {
		t.Error("the index is kept after the first scrape")
	}
	if !kept(3, true) {
		t.Error("the index is not kept after three scrapes in another order")
	}
	if kept(1, false) { // In the order of the last one.
		t.Error("the index is kept after a scrape in the same order")
	}
}

func TestTypeDecidesWhetherARowServes(t *testing.T) {
	s := NewShared()
	table := s.NewTable("")
	old := model.NewLabels(model.Label{Name: "__name__", Value: "m_bucket"}, model.Label{Name: "le", Value: "1.0"})
	as := model.NewLabels(model.Label{Name: "__name__", Value: "m_bucket"}, model.Label{Name: "le", Value: "1"})
	l := line{key: `m_bucket{le="1"}`, ls: old, typ: expfmt.TypeHistogram, typed: true}
	drive(s, table, 10, []line{l}, commit)
	l.ls, l.typ = as, expfmt.TypeCounter
	o := drive(s, table, 20, []line{l}, commit)
	want := outcome{Taken: []Taken{TakenOK}, Labels: []model.Labels{as}, Stale: []model.Labels{old}, Has: []bool{true}, Len: 1}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("after the change of TYPE (-want +got):\n%s", diff)
	}
	l.typ = expfmt.TypeGauge // The same labels again.
	o = drive(s, table, 30, []line{l}, commit)
	want.Stale = nil
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("after a change of TYPE that changes nothing (-want +got):\n%s", diff)
	}
}

func TestChurnDoesNotFillTheTable(t *testing.T) {
	const n, each = 3000, 50
	s := NewShared()
	table := s.NewTable("")
	lines := make([]line, n)
	replace := func(from int, step int) {
		for i := from; i < from+each; i++ {
			v := fmt.Sprintf("%d-%d", i, step)
			lines[i] = line{
				key: fmt.Sprintf(`m{k="%s"}`, v),
				ls:  model.NewLabels(model.Label{Name: "__name__", Value: "m"}, model.Label{Name: "k", Value: v}),
			}
		}
	}
	for from := 0; from < n; from += each {
		replace(from, 0)
	}
	drive(s, table, 1, lines, commit)
	least := table.Bytes()
	for step := range 200 {
		replace(step*each%n, step+1)
		drive(s, table, int64(step+2), lines, commit)
		if rows := len(table.rows); rows > n*112/100 {
			t.Fatalf("%d rows for %d lines in scrape %d", rows, n, step)
		}
		if held := table.Bytes(); held > least*3/2 {
			t.Fatalf("%d bytes in scrape %d, %d after the first", held, step, least)
		}
	}
}
