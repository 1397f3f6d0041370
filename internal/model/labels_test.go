package model

import (
	"strings"
	"testing"
)

func TestLabelsKeepWhatTheyWereBuiltFrom(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	ls := NewLabels(Label{"pod", "p"}, Label{"__name__", "up"}, Label{"empty", ""}, Label{"pod", "q"}, Label{"z", long})
	want := []Label{{"__name__", "up"}, {"pod", "q"}, {"z", long}}
	got := ls.All()
	if len(got) != len(want) {
		t.Fatalf("All() = %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("All()[%d] = %v, want %v", i, got[i], want[i])
		}
	}
	if v := ls.Get("z"); v != long {
		t.Errorf("Get(z) has %d bytes, want %d", len(v), len(long))
	}
	if v := ls.Get("none"); v != "" {
		t.Errorf("Get(none) = %q, want nothing", v)
	}
}

func TestWireFormIsThatOfRemoteWrite(t *testing.T) {
	got := string(NewLabels(Label{"a", "b"}))
	if want := "\x0a\x06\x0a\x01a\x12\x01b"; got != want {
		t.Errorf("NewLabels = %x, want %x", got, want)
	}
}

func TestAppendWithLetsTheExistingLabelWin(t *testing.T) {
	f := func(l, extra Labels, want string) {
		t.Helper()
		if got := Labels(l.AppendWith(nil, extra)).String(); got != want {
			t.Errorf("%v with %v = %v, want %v", l, extra, got, want)
		}
	}
	ab := NewLabels(Label{"a", "1"}, Label{"b", "2"})
	f(ab, "", `{a="1", b="2"}`)
	f("", ab, `{a="1", b="2"}`)
	f(ab, NewLabels(Label{"b", "9"}, Label{"c", "3"}), `{a="1", b="2", c="3"}`)
	f(NewLabels(Label{"m", "1"}), ab, `{a="1", b="2", m="1"}`)
}

func BenchmarkAppendWith(b *testing.B) {
	l := NewLabels(Label{"__name__", "container_cpu_usage_seconds_total"}, Label{"job", "cadvisor"}, Label{"pod", "x"})
	ext := NewLabels(Label{"cluster", "tiles"}, Label{"k8s_cluster_name", "tiles"})
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = l.AppendWith(dst[:0], ext)
	}
}

// FuzzAppendWith compares with building the union label by label.
func FuzzAppendWith(f *testing.F) {
	f.Add("a=1,c=2", "b=3,c=4")
	f.Add("", "x=1")
	f.Add("Z=1,__name__=up", "cluster=t,zz=9")
	parse := func(s string) (ls []Label) {
		for pair := range strings.SplitSeq(s, ",") {
			if name, value, ok := strings.Cut(pair, "="); ok {
				ls = append(ls, Label{name, value})
			}
		}
		return ls
	}
	f.Fuzz(func(t *testing.T, own, extra string) {
		l, e := NewLabels(parse(own)...), NewLabels(parse(extra)...)
		want := NewLabels(append(e.All(), l.All()...)...) // Of a repeated name the last one wins.
		if got := Labels(l.AppendWith(nil, e)); got != want {
			t.Errorf("%v with %v = %v, want %v", l, e, got, want)
		}
	})
}

func TestWithoutLeavesWhatDiffers(t *testing.T) {
	all := NewLabels(Label{"a", "1"}, Label{"b", "2"}, Label{"c", "3"})
	for _, c := range []struct{ other, want Labels }{
		{"", all},
		{all, ""},
		{NewLabels(Label{"b", "2"}), NewLabels(Label{"a", "1"}, Label{"c", "3"})},
		{NewLabels(Label{"b", "other"}, Label{"z", "1"}), all},
	} {
		if got := all.Without(c.other); got != c.want {
			t.Errorf("%v without %v is %v, want %v", all, c.other, got, c.want)
		}
	}
}
