package series

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// TestLabelsOfEveryLength walks over the lengths at which labels are copied in another way or
// their own lengths take another byte, for keys with and without memory behind them.
func TestLabelsOfEveryLength(t *testing.T) {
	s := NewShared()
	check := func(name, label, value string) {
		t.Helper()
		target := model.NewLabels(model.Label{Name: "cluster", Value: value}, model.Label{Name: "job", Value: "j"}, model.Label{Name: "zone", Value: "z"})
		ls := model.NewLabels(append(target.All(), model.Label{Name: nameLabel, Value: name},
			model.Label{Name: label, Value: value}, model.Label{Name: "exported_job", Value: value})...)
		table := s.NewTable(target)
		table.Begin(1)
		line := []byte(fmt.Sprintf("%s{%s=%q,job=%q} 1 and what follows it in the window, which is no part of the key\n", name, label, value, value))
		key := line[:strings.IndexByte(string(line), ' ')]
		row := table.Add(key, hashOf(s, string(key)), ls, 0, false, false)
		for _, k := range [][]byte{key, slices.Clip(slices.Clone(key))} {
			for _, dst := range [][]byte{nil, []byte("before"), make([]byte, 0, 4096)} {
				got := table.AppendLabels(dst, row, k)
				if string(got) != string(dst)+string(ls) {
					t.Fatalf("%s gives %q, want %q behind %q", k, got, ls, dst)
				}
			}
		}
	}
	for n := range 300 {
		value := strings.Repeat("v", n)
		check("m", "a", value)
		check("some_metric_total", "some_label", value)
		check("m"+value, "l"+value, "x")
	}
	for _, n := range []int{16380, 16381, 16382, 16383, 16384, 16385, 30_000} {
		check("m", "a", strings.Repeat("v", n))
	}
}
