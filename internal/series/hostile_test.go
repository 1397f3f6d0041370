package series

import (
	"fmt"
	"testing"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// hostileTarget is the labels of the target in the tests below.
func hostileTarget() model.Labels {
	return model.NewLabels(model.Label{Name: "instance", Value: "10.20.30.40:9100"}, model.Label{Name: "job", Value: "integrations/hostile"}, model.Label{Name: "namespace", Value: "default"})
}

// hostile returns the forms that the lines of a target may have which wants to cost memory:
// what one of them looks like, and its labels beside those of the target.
func hostile() map[string]func(i int) (key string, ls []model.Label) {
	name := func(v string) model.Label { return model.Label{Name: "__name__", Value: v} }
	return map[string]func(i int) (string, []model.Label){
		"values": func(i int) (string, []model.Label) {
			v := fmt.Sprint(i)
			return `endless{i="` + v + `"}`, []model.Label{name("endless"), {Name: "i", Value: v}}
		},
		"names": func(i int) (string, []model.Label) {
			n := fmt.Sprintf("series_%d", i)
			return n, []model.Label{name(n)}
		},
		"names and values": func(i int) (string, []model.Label) {
			n, v := fmt.Sprintf("series_%d", i), fmt.Sprint(i*7)
			return n + `{v="` + v + `"}`, []model.Label{name(n), {Name: "v", Value: v}}
		},
		"label names": func(i int) (string, []model.Label) {
			l := fmt.Sprintf("l%d", i)
			return `m{` + l + `="x"}`, []model.Label{name("m"), {Name: l, Value: "x"}}
		},
		"escapes": func(i int) (string, []model.Label) {
			v := fmt.Sprint(i)
			return `m{v="\n` + v + `"}`, []model.Label{name("m"), {Name: "v", Value: "\n" + v}}
		},
		"gaps": func(i int) (string, []model.Label) {
			v := fmt.Sprint(i)
			return fmt.Sprintf(`m{%*sa=%*s"x",%*sv="%s"}`, i%200, "", i/200%200, "", i/40000, "", v), []model.Label{name("m"), {Name: "a", Value: "x"}, {Name: "v", Value: v}}
		},
	}
}

// TestNewSeriesCostLittleWhateverTheyLookLike holds what a scrape takes before anything of it
// is committed. A target may have sample_limit of new series, 500000.
func TestNewSeriesCostLittleWhateverTheyLookLike(t *testing.T) {
	const n, most = 60_000, 75*60_000 + maxWholes*5/4
	for form, line := range hostile() {
		t.Run(form, func(t *testing.T) {
			s := NewShared()
			table := s.NewTable(hostileTarget())
			target := hostileTarget().All()
			grown := 0
			scrape := func(now int64, n int) {
				table.Begin(now)
				for i := range n {
					key, ls := line(i)
					hash := hashOf(s, key)
					row, ok := table.Find([]byte(key), hash, 0)
					if !ok {
						row = table.Add([]byte(key), hash, model.NewLabels(append(ls, target...)...), 0, false, false)
					}
					table.Take(row, now, false, true)
				}
			}
			for k := range 2 {
				scrape(int64(k+1), n)
				grown = max(grown, table.Bytes())
				table.Stale(true, func([]byte) { t.Error("a marker for what was never sent") })
				table.Fail()
			}
			t.Logf("%d bytes a series; %d kept after failing", grown/n, table.Bytes())
			if grown > most {
				t.Errorf("%d bytes for %d new series, want at most %d", grown, n, most)
			}
			if kept := table.Bytes(); kept > 100_000 {
				t.Errorf("%d bytes are kept after a failed scrape, want few", kept)
			}
		})
	}
}

// TestLabelsAreRightBeyondTheBoundsOfWhatIsShared has more metric names, templates and whole
// label sets than a table shares or keeps uncompressed.
func TestLabelsAreRightBeyondTheBoundsOfWhatIsShared(t *testing.T) {
	const n = 30_000
	for form, line := range hostile() {
		t.Run(form, func(t *testing.T) {
			s := NewShared()
			table := s.NewTable(hostileTarget())
			target := append(hostileTarget().All(), model.Label{Name: "padding", Value: "which the target does not have, so that whole label sets are longer"})
			if form != "escapes" {
				target = hostileTarget().All()
			}
			want := make(map[model.Labels]bool)
			for k := range int64(4) {
				table.Begin(k + 1)
				for i := range n {
					if k > 1 { // Not in the order of the first scrapes.
						i = (i * 7919) % n
					}
					key, ls := line(i)
					finished, hash := model.NewLabels(append(ls, target...)...), hashOf(s, key)
					want[finished] = true
					row, ok := table.Find([]byte(key), hash, 0)
					if ok != (k > 0) {
						t.Fatalf("scrape %d: line %d known: %v", k, i, ok)
					}
					if !ok {
						row = table.Add([]byte(key), hash, finished, 0, false, false)
					}
					if table.Take(row, k+1, false, true) != TakenOK {
						t.Fatal("not taken")
					}
					if got := model.Labels(table.AppendLabels(nil, row, []byte(key))); got != finished {
						t.Fatalf("scrape %d: %s has %v, want %v", k, key, got, finished)
					}
				}
				table.Commit()
			}
			table.Begin(9)
			table.Stale(true, func(ls []byte) {
				if !want[model.Labels(ls)] {
					t.Errorf("marker for %v, which is none of the series or ended twice", model.Labels(ls))
				}
				delete(want, model.Labels(ls))
			})
			table.Fail()
			if len(want) > 0 {
				t.Errorf("%d series have no marker", len(want))
			}
		})
	}
}
