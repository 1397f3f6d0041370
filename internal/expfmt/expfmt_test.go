package expfmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// entry is what both parsers must agree on.
type entry struct {
	Kind   string
	Key    string
	Bits   uint64
	Time   string
	Labels string
}

// ours reads b with this package. Every sample is read a second time with its own key as
// the hint, which must change nothing.
func ours(t *testing.T, b []byte) (all []entry, failed error) {
	t.Helper()
	read := func(hints []string) (all []entry, keys []string, failed error) {
		var p Parser
		p.Reset(b)
		for {
			hint := ""
			if len(keys) < len(hints) {
				hint = hints[len(keys)]
			}
			kind, err := p.Next(hint)
			if errors.Is(err, io.EOF) {
				return all, keys, nil
			}
			if err != nil {
				return all, keys, err
			}
			switch kind {
			case KindSample:
				keys = append(keys, string(p.Key()))
				at := ""
				if v, ok := p.Time(); ok {
					at = fmt.Sprint(v)
				}
				ls := show(p.AppendLabels(nil))
				all = append(all, entry{"sample", string(p.Key()), math.Float64bits(p.Value()), at, ls})
			case KindType:
				all = append(all, entry{Kind: "type", Key: string(p.Name())})
			case KindHelp:
				all = append(all, entry{Kind: "help", Key: string(p.Name())})
			default:
				all = append(all, entry{Kind: "comment"})
			}
		}
	}
	all, keys, failed := read(nil)
	again, _, failedAgain := read(keys)
	if diff := cmp.Diff(all, again); diff != "" || (failed == nil) != (failedAgain == nil) {
		t.Errorf("hints change what is read of %q: %s\n%v\n%v", b, diff, failed, failedAgain)
	}
	return all, failed
}

func show(ls []model.Label) string {
	b := labels.NewScratchBuilder(len(ls))
	for _, l := range ls {
		b.Add(l.Name, l.Value)
	}
	b.Sort()
	return b.Labels().String()
}

// theirs reads b with Prometheus' parser. Blanks before a name are not part of it here,
// while Prometheus takes them for a part of the name.
func theirs(b []byte) (all []entry, failed error) {
	p := textparse.NewPromParser(bytes.Clone(b), nil, false)
	for {
		kind, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		switch kind {
		case textparse.EntrySeries:
			key, at, v := p.Series()
			e := entry{"sample", strings.TrimLeft(string(key), " \t"), math.Float64bits(v), "", ""}
			if at != nil {
				e.Time = fmt.Sprint(*at)
			}
			var ls labels.Labels
			p.Labels(&ls)
			lb := labels.NewScratchBuilder(0)
			ls.Range(func(l labels.Label) {
				if l.Name == "__name__" && !strings.HasPrefix(e.Key, "{") {
					l.Value = strings.TrimLeft(l.Value, " \t")
				}
				lb.Add(l.Name, l.Value)
			})
			lb.Sort()
			e.Labels = lb.Labels().String()
			all = append(all, e)
		case textparse.EntryType:
			name, _ := p.Type()
			all = append(all, entry{Kind: "type", Key: string(name)})
		case textparse.EntryHelp:
			name, _ := p.Help()
			all = append(all, entry{Kind: "help", Key: string(name)})
		default:
			all = append(all, entry{Kind: "comment"})
		}
	}
}

func compare(t *testing.T, b []byte) {
	t.Helper()
	got, gotErr := ours(t, b)
	want, wantErr := theirs(b)
	if (gotErr == nil) != (wantErr == nil) {
		t.Errorf("verdict on %q: %v, Prometheus: %v", b, gotErr, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries of %q differ from Prometheus (-theirs +ours):\n%s", b, diff)
	}
}

// lines are whole inputs on which the verdict is easily got wrong.
func lines() []string {
	return []string{
		"", "\n", " ", "\t\n", "\r\n", "foo 1", "foo 1\n", "  foo 1\n", "\tfoo{a=\"b\"} 1", "foo\t1\t2\t\n",
		"foo-1", "foo+Inf", "foo1", "foo{a=\"b\"}1", "foo {a=\"b\"} 1", "foo\t{a=\"b\"}\t1", "foo {a=\"b\"} {", "foo 1{",
		"foo 1\r\n", "foo 1 2\r\n", "foo 1 -5", "foo 1 +5", "foo 1 2 3", "foo 1 12a", "foo 1 1.5",
		"foo 1 9223372036854775807", "foo 1 9223372036854775808", "foo 1 99999999999999999999", "foo 1 00000000000000000000012",
		"foo 0x1p3", "foo 0x10", "foo 1_000", "foo 1e999", "foo -1e999", "foo 1e-999", "foo nan", "foo NaN", "foo -NaN", "foo inf", "foo Infinity", "foo -infinity",
		"foo 1e5", "foo 1E5", "foo 1e+05", "foo 1e", "foo 1e+", "foo .5", "foo 5.", "foo .", "foo -", "foo -0", "foo +1", "foo --1", "foo 1.2.3", "foo 12abc", "foo",
		"foo ", "foo{} 1", "foo{} ", "foo{", "foo{a", "foo{a=", "foo{a=\"", "foo{a=\"b", "foo{a=\"b\"", "foo{a=\"b\"}", "foo{,} 1", "foo{a=\"b\",} 1", "foo{a=\"b\",,} 1", "foo{a=\"b\" c=\"d\"} 1",
		"foo{ a = \"b\" , c = \"d\" } 1", "foo{a=b} 1", "foo{a='b'} 1", "foo{1a=\"b\"} 1", "foo{a:b=\"c\"} 1", "foo:bar:baz 1", ":foo 1", "1foo 1", "foo{a=\"b\"}} 1",
		"foo{a=\"x\\\\y\"} 1", "foo{a=\"x\\\"y\"} 1", "foo{a=\"x\\ny\"} 1", "foo{a=\"x\\ty\"} 1", "foo{a=\"x\\\ny\"} 1", "foo{a=\"x\ny\"} 1", "foo{a=\"\"} 1", "foo{a=\"\xff\"} 1", "foo{a=\"é\"} 1", "foo{é=\"a\"} 1",
		"foo{a=\"1\",a=\"2\"} 1", "foo{__name__=\"bar\"} 1", "{\"foo\"} 1", "{\"foo\",} 1", "{\"foo\",a=\"b\"} 1", "{a=\"b\",\"foo\"} 1", "{\"foo\" a=\"b\"} 1", "{\"foo\",\"a.b\"=\"c\"} 1", "{\"foo bar\"} 1", "{\"fo\\\"o\"} 1",
		"{\"foo\",\"bar\"} 1", "foo{\"bar\"} 1", "{a=\"b\"} 1", "{} 1", "{\"\"} 1", "{\"foo\xff\"} 1", "{\"foo", "{\"foo\"", "{\"a\nb\"} 1", "{\"foo\"}1", "{\"foo\"}{a=\"b\"} 1",
		"#", "#\n", "# ", "#comment", "# comment\n", "#\tx", "# HELP", "# HELP\n", "# HELP ", "# HELP foo", "# HELP foo ", "# HELP foo bar", "# HELP foo  bar \t", "# HELP foo\\bar\\n", "# HELP foo \xff", "# HELP 1foo bar", "# HELP \"a b\" c", "# HELP \"a b", "#HELP foo \xff", "# HELPfoo \xff", "# HELP foo{bar", "#\tHELP\tfoo\tbar", "#  HELP  foo  bar", "# HELP foo bar\r\n", "# help foo \xff",
		"# TYPE foo counter", "# TYPE foo counter\nfoo 1", "# TYPE foo gauge\n", "# TYPE foo histogram", "# TYPE foo summary", "# TYPE foo untyped", "# TYPE foo unknown", "# TYPE foo info", "# TYPE foo Counter", "# TYPE foo counter ", "# TYPE foo  counter", "# TYPE foo counter\r\n", "# TYPE foo", "# TYPE foo ", "# TYPE", "# TYPE \"foo bar\" counter", "# TYPE foo-counter", "# UNIT foo seconds", "# EOF\nfoo 1",
		"# TYPE foo histogram\nfoo_bucket{le=\"1\"} 1\nfoo_bucket{le=\"+Inf\"} 2\nfoo_bucket{le=\"0.5\"} 1\nfoo_bucket{le=\"x\"} 1\nfoo_bucket{le=\"1e3\"} 1\n# TYPE bar summary\nbar{quantile=\"0\"} 1\nbar{quantile=\"1\",le=\"1\"} 1\n# TYPE baz gauge\nbaz{le=\"1\",quantile=\"1\"} 1\n",
		"<html><body>404</body></html>", "{\"status\":\"ok\"}", "\x1f\x8b\x08", "foo 1\n\nbar 2\n   \nbaz 3", "foo 1\nbar\nbaz 3", "\xef\xbb\xbffoo 1", "foo 1 # comment", "foo 1\n# EOF\n",
		"foo{a=\"x\x00y\"} 1", "foo{a=\"x\\\x00\"y\"} 1", "foo 1\n\x00bar", "foo\x00 1", "foo 1\x00\nbar 2", "# HELP foo a\x00b", "#x\x00y\nfoo 1", "# x\x00y\nfoo 1", "# \x00y\nfoo 1", "{\"a\x00b\"} 1", "foo 1 12\x00\n", "\x00",
	}
}

func TestVerdictsAreThoseOfPrometheus(t *testing.T) {
	for _, l := range lines() {
		compare(t, []byte(l))
	}
}

func TestValuesHaveTheBitsOfPrometheus(t *testing.T) {
	for _, v := range []string{
		"0", "1", "-1", "123456789012345", "9007199254740991", "9007199254740992", "9007199254740993", "18446744073709551615", "18446744073709551616", "99999999999999999999",
		"0.1", "0.3", "3.0000000000000004", "1.7976931348623157e308", "5e-324", "1e22", "1e23", "-1.5e-22", "1e-23", "123456.789e3", "1.4321e9", "0.000000000000000000000000001",
		"1.6e+09", "1.0e0", "4503599627370497.5", "00012", "1e00", "1e000000001", "8.20000000000000000000001",
	} {
		compare(t, []byte("m "+v+"\n"))
	}
}

func TestExpositionsOfExportersReadAsInPrometheus(t *testing.T) {
	for name, body := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			compare(t, body)
			if got, err := ours(t, body); err != nil || len(got) < 10 {
				t.Errorf("read %d entries of %s and %v, want all of them", len(got), name, err)
			}
		})
	}
}

func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.prom")
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

func TestHintThatIsOnlyTheBeginningOfAKeyDoesNotMatch(t *testing.T) {
	for in, want := range map[string]string{
		"foo {a=\"b\"} 1": `foo {a="b"}`,
		"foo{a=\"b\"} 1":  `foo{a="b"}`,
		"foobar 1":        "foobar",
		"foo 1":           "foo",
		"foo-1":           "foo",
	} {
		var p Parser
		p.Reset([]byte(in))
		if kind, err := p.Next("foo"); kind != KindSample || string(p.Key()) != want {
			t.Errorf("key of %q with the hint foo is %q (%v), want %q", in, p.Key(), err, want)
		}
		if p.Hinted() != (in == "foo 1") {
			t.Errorf("Hinted after %q is %v", in, p.Hinted())
		}
	}
}

func TestErrorsNameTheLineAndWhatWasExpected(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		_, err := ours(t, []byte(in))
		if err == nil || err.Error() != want {
			t.Errorf("error of %q:\n got %v\nwant %s", in, err, want)
		}
	}
	f("<html><body>not found", `line 1: expected a metric name, found "<html><body>not"`)
	f("a 1\n\n<p>", `line 3: expected a metric name, found "<p>"`)
	f("a 1\nb\nc 2\n", `line 2: expected a value, found the end of the line`)
	f("a", `line 1: expected a value, found the end of the input`)
	f("a x", `line 1: expected a number as value, found "x"`)
	f("a 1e999", `line 1: value "1e999" is too large for a 64-bit float`)
	f("a 1\r\n", `line 1: expected a number as value, found "1\r"`)
	f("a 1 -2", `line 1: expected a timestamp in milliseconds or the end of the line, found "-2"`)
	f("a 1 2 3", `line 1: expected the end of the line after the timestamp, found "3"`)
	f("a 1 99999999999999999999", `line 1: expected a timestamp of at most 63 bits, found "99999999999999999999"`)
	f(`a{b}`, `line 1: expected = after a label name, found "}"`)
	f(`a{b=c}`, `line 1: expected a label value in double quotes, found "c}"`)
	f(`a{b="c} 1`, `line 1: expected a closing double quote`)
	f("a{b=\"x\ny\",-} 1", `line 2: expected a label name or }, found "-}"`)
	f("a{b=\"\xff\"} 1", `line 1: the value of label "b" is no valid UTF-8`)
	f(`{a="b"} 1`, `line 1: expected a metric name before or inside the braces`)
	f(`a{"b"} 1`, `line 1: the metric has a second name`)
	f("# TYPE a counters", `line 1: expected counter, gauge, histogram, summary or untyped as type of "a", found "counters"`)
	f("# HELP 1 x", `line 1: expected a metric name after HELP, found "1"`)
	f(strings.Repeat("x 1\n", 99)+strings.Repeat("\x01", 80), `line 100: expected a metric name, found "`+strings.Repeat(`\x01`, 40)+`"...`)
}
