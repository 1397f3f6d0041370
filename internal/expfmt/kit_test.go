package expfmt

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// expected returns the hints of keys that follow each other.
func expected(seed maphash.Seed, keys ...string) (all []Hint) {
	for _, k := range keys {
		all = append(all, Hint{Hash: maphash.String(seed, k), Len: len(k)})
	}
	return all
}

// known is Keys that are kept as a list.
type known []Hint

func (k known) Knows(hash uint64, size int) bool { return slices.Contains(k, Hint{hash, size}) }

// turned returns keys in an order in which few of them are expected where they stand.
func turned(keys []string) []string {
	keys = slices.Clone(keys)
	slices.Reverse(keys)
	return keys
}

// readPieces reads b through windows that grow by what grow says, and writes down everything
// that the parser says about it, the error last. keys are what is known and expected, one a
// sample.
func readPieces(f Format, o Options, b []byte, keys []string, grow func() int) (all, found []string) {
	seed := maphash.MakeSeed()
	hints := expected(seed, keys...)
	p := Parser{Options: o, Keys: known(hints)}
	p.Reset(f, seed)
	var window []byte
	feed := func() {
		unread := window[len(window)-p.Unread():]
		n := min(grow(), len(b))
		window = append(append([]byte(nil), unread...), b[:n]...)
		b = b[n:]
		p.Feed(window, len(b) == 0)
	}
	feed()
	for {
		var h Hint
		if len(found) < len(hints) {
			h = hints[len(found)]
		}
		kind, err := p.Next(h)
		switch {
		case errors.Is(err, ErrMore) && len(b) > 0:
			feed()
			continue
		case errors.Is(err, io.EOF):
			return append(all, "end"), found
		case err != nil:
			return append(all, err.Error()), found
		}
		s := fmt.Sprintf("%d ", kind)
		switch kind {
		case KindType:
			all = append(all, s+fmt.Sprintf("%s %s", p.Name(), p.Type()))
			continue
		case KindHelp:
			all = append(all, s+fmt.Sprintf("%s %s", p.Name(), p.Help()))
			continue
		case KindUnit:
			all = append(all, s+fmt.Sprintf("%s %s", p.Name(), p.Unit()))
			continue
		case KindComment:
			all = append(all, s)
			continue
		default:
		}
		found = append(found, string(p.Key()))
		at, own := p.Time()
		s += fmt.Sprintf("%s %v %d %v %d %q", p.Key(), p.Value(), at, own, p.Start(), p.AppendLabels(nil))
		var e Exemplar
		for p.Exemplar(&e) {
			s += fmt.Sprintf(" %q %v %d %v", e.Labels, e.Value, e.Time, e.HasTime)
		}
		h1, h2 := p.Histogram()
		all = append(all, s+fmt.Sprint(h1, h2))
	}
}

// readWhole reads b in one window.
func readWhole(f Format, b string) []string {
	all, _ := readPieces(f, Options{}, []byte(b), nil, func() int { return len(b) })
	return all
}

// corpus returns the expositions of testdata, the format by its extension.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no expositions in testdata: %v", err)
	}
	all := make(map[string][]byte)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f)] = b
	}
	return all
}

func formatOf(name string) Format {
	if filepath.Ext(name) == ".om" {
		return OpenMetrics100
	}
	return Text004
}
