package expfmt

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzWindows reads anything whole and through windows that are cut anywhere, with what was
// found the first time expected the second: entries and errors must be the same. That they are
// Prometheus' too is a matter of test/diff.
func FuzzWindows(f *testing.F) {
	for name, body := range corpus(f) {
		f.Add(body[:min(len(body), 2000)], uint8(formatOf(name)), uint64(1), false)
		f.Add(body, uint8(formatOf(name)), uint64(2), true)
	}
	f.Add([]byte("# TYPE a counter\na_total 1\na_created 2\n# EOF\n"), uint8(OpenMetrics100), uint64(3), true)
	f.Add([]byte("a{b=\"x\ny\"} 1 2\n\n\x00"), uint8(Text004), uint64(4), false)
	f.Fuzz(func(t *testing.T, b []byte, format uint8, seed uint64, created bool) {
		o := Options{Created: created}
		fm := Format(format % 3)
		want, keys := readPieces(fm, o, b, nil, func() int { return len(b) })
		random := rand.New(rand.NewPCG(seed, 0))
		for _, expected := range [][]string{keys, turned(keys)} {
			got, _ := readPieces(fm, o, b, expected, func() int { return 1 + random.IntN(1+len(b)/4) })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("windows change what is read of %q (-whole +windows):\n%s", b, diff)
			}
		}
	})
}
