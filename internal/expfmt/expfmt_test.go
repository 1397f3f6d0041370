package expfmt

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWindowsDoNotChangeWhatIsRead(t *testing.T) {
	for name, body := range corpus(t) {
		for _, o := range []Options{{}, {Created: true}} {
			want, keys := readPieces(formatOf(name), o, body, nil, func() int { return len(body) })
			if got := want[len(want)-1]; got != "end" {
				t.Errorf("reading %s ends with %q", name, got)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for i, most := range []int{1, 7, 300, 5000, 300, 5000} {
				expected := keys
				if i > 3 {
					expected = turned(keys)
				}
				got, _ := readPieces(formatOf(name), o, body, expected, func() int { return 1 + random.IntN(most) })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s through windows growing by up to %d bytes (-whole +windows):\n%s", name, most, diff)
				}
			}
		}
	}
}

func TestWindowThatEndsAnywhereAsksForMore(t *testing.T) {
	for _, in := range []string{
		"a 1\n", "a{b=\"c\"} 1.5 23\n", "# HELP a b\n", "# TYPE a counter\n", "# x\n", "\n\n", "{\"a b\",c=\"d\ne\"} 1e5\n", "a NaN\n",
	} {
		for cut := range len(in) {
			var p Parser
			p.Reset(Text004, maphash.MakeSeed())
			p.Feed([]byte(in[:cut]), false)
			kind, err := p.Next(Hint{})
			if !errors.Is(err, ErrMore) || kind != KindNone {
				t.Errorf("reading %q of %q gives kind %d and %v, want ErrMore", in[:cut], in, kind, err)
			}
		}
	}
}

func TestUnreadIsWhatTheNextWindowBeginsWith(t *testing.T) {
	var p Parser
	p.Reset(Text004, maphash.MakeSeed())
	p.Feed([]byte("a 1\nbc 2"), false)
	if _, err := p.Next(Hint{}); err != nil || p.Unread() != len("bc 2") {
		t.Errorf("after the first line %d bytes are unread (%v), want %d", p.Unread(), err, len("bc 2"))
	}
	if _, err := p.Next(Hint{}); !errors.Is(err, ErrMore) || p.Unread() != len("bc 2") {
		t.Errorf("after a line without an end %d bytes are unread (%v), want %d", p.Unread(), err, len("bc 2"))
	}
	p.Feed([]byte("bc 2"), true)
	if _, err := p.Next(Hint{}); err != nil || p.Value() != 2 || p.Unread() != 0 {
		t.Errorf("the last line reads as %v with %d bytes unread (%v)", p.Value(), p.Unread(), err)
	}
	if _, err := p.Next(Hint{}); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

// What is no exposition at all shall not be collected until the body ends.
func TestGarbageIsRefusedBeforeItsEnd(t *testing.T) {
	var p Parser
	for _, f := range []Format{Text004, OpenMetrics100} {
		p.Reset(f, maphash.MakeSeed())
		p.Feed([]byte(strings.Repeat("\x1f\x8b", 50)), false)
		if _, err := p.Next(Hint{}); err == nil || errors.Is(err, ErrMore) {
			t.Errorf("bytes without a line end as format %d give %v", f, err)
		}
	}
}

func TestExpectedKeyIsMetAsAWholeOnly(t *testing.T) {
	for in, want := range map[string]string{
		"foo {a=\"b\"} 1": `foo {a="b"}`,
		"foo{a=\"b\"} 1":  `foo{a="b"}`,
		"foobar 1":        "foobar",
		"foo 1":           "foo",
		"foo\t NaN":       "foo",
		"foo-1":           "foo",
		"bar 1":           "bar",
	} {
		seed := maphash.MakeSeed()
		var p Parser
		p.Reset(Text004, seed)
		p.Feed([]byte(in), true)
		if kind, err := p.Next(expected(seed, "foo")[0]); kind != KindSample || string(p.Key()) != want {
			t.Errorf("key of %q when foo was expected is %q (%v), want %q", in, p.Key(), err, want)
		}
		if p.Hinted() != (in == "foo 1" || in == "foo\t NaN") {
			t.Errorf("Hinted after %q is %v", in, p.Hinted())
		}
		if p.Hash() != maphash.String(seed, want) {
			t.Errorf("Hash after %q is not that of %q", in, want)
		}
	}
}

func TestKnownKeyIsNotLexed(t *testing.T) {
	seed := maphash.MakeSeed()
	keys := []string{`a{x="{y} z"}`, "a", `a{x="1"}`}
	p := Parser{Keys: known(expected(seed, keys...))}
	p.Reset(Text004, seed)
	f := func(in, key string, lexed bool) {
		t.Helper()
		p.Reset(Text004, seed)
		p.Feed([]byte(in), true)
		kind, err := p.Next(expected(seed, "b")[0])
		if kind != KindSample || string(p.Key()) != key || p.Hinted() || p.Value() != 1 || p.Hash() != maphash.String(seed, key) {
			t.Errorf("%q is read as %q, value %v (%v), want %q and 1", in, p.Key(), p.Value(), err, key)
		}
		if got := len(p.parts) > 0; got != lexed {
			t.Errorf("%q was lexed: %v, want %v", in, got, lexed)
		}
		if labels := p.AppendLabels(nil); labels[0].Value != key[:1] {
			t.Errorf("the labels of %q are %q", in, labels)
		}
	}
	f("a 1\n", "a", false)
	f("a{x=\"1\"}  1\n", keys[2], false)
	f("a {x=\"1\"} 1\n", `a {x="1"}`, true)
	f("a{x=\"{y} z\"} 1\n", keys[0], true) // The first brace before a blank is not the last.
	f("a{x=\"2\"} 1\n", `a{x="2"}`, true)
}

func TestErrorsNameTheLineAndWhatWasExpected(t *testing.T) {
	f := func(format Format, in, want string) {
		t.Helper()
		all := readWhole(format, in)
		if got := all[len(all)-1]; got != want {
			t.Errorf("error of %q:\n got %v\nwant %s", in, got, want)
		}
		cut, _ := readPieces(format, Options{}, []byte(in), nil, func() int { return 1 })
		if diff := cmp.Diff(all, cut); diff != "" {
			t.Errorf("error of %q byte by byte (-whole +bytes):\n%s", in, diff)
		}
	}
	text := func(in, want string) { t.Helper(); f(Text004, in, want) }
	text("<html><body>not found", `line 1: expected a metric name, found "<html><body>not"`)
	text("a 1\n\n<p>", `line 3: expected a metric name, found "<p>"`)
	text("a 1\nb\nc 2\n", `line 2: expected a value, found the end of the line`)
	text("a", `line 1: expected a value, found the end of the input`)
	text("a x", `line 1: expected a number as value, found "x"`)
	text("a 1e999", `line 1: value "1e999" is too large for a 64-bit float`)
	text("a 1\r\n", `line 1: expected a number as value, found "1\r"`)
	text("a 1 -2", `line 1: expected a timestamp in milliseconds or the end of the line, found "-2"`)
	text("a 1 2 3", `line 1: expected the end of the line after the timestamp, found "3"`)
	text("a 1 99999999999999999999", `line 1: expected a timestamp of at most 63 bits, found "99999999999999999999"`)
	text(`a{b}`, `line 1: expected = after a label name, found "}"`)
	text(`a{b=c}`, `line 1: expected a label value in double quotes, found "c}"`)
	text(`a{b="c} 1`, `line 1: expected a closing double quote`)
	text("a{b=\"x\ny\",-} 1", `line 2: expected a label name or }, found "-}"`)
	text("a{b=\"\xff\"} 1", `line 1: the value of label "b" is no valid UTF-8`)
	text(`{a="b"} 1`, `line 1: expected a metric name before or inside the braces`)
	text(`a{"b"} 1`, `line 1: the metric has a second name`)
	text("# TYPE a counters", `line 1: expected counter, gauge, histogram, summary or untyped as type of "a", found "counters"`)
	text("# HELP 1 x", `line 1: expected a metric name after HELP, found "1"`)
	text(strings.Repeat("x 1\n", 99)+strings.Repeat("\x01", 80), `line 100: expected a metric name, found "`+strings.Repeat(`\x01`, 40)+`"...`)

	strict := func(in, want string) { t.Helper(); f(OpenMetrics100, in, want) }
	strict("a 1\n", `line 2: the exposition does not end with # EOF`)
	strict("a 1", `line 1: the exposition does not end with # EOF`)
	strict("a 1\n\n# EOF\n", `line 2: expected a metric name or #, found the end of the line`)
	strict("a 1\n# EOF\nb 2\n", `line 3: there is something after # EOF`)
	strict("a 1\n# text\n# EOF\n", `line 2: expected # HELP, # TYPE, # UNIT or # EOF, found "#"`)
	strict("a  1\n", `line 1: expected a value, found " 1"`)
	strict("a\t1\n", `line 1: expected a blank and a value, found "\t1"`)
	strict("a 1 NaN\n", `line 1: expected a timestamp in seconds, found "NaN"`)
	strict("a{b=\"c\" d=\"e\"} 1\n", `line 1: expected a comma or } after a label value, found " d=\"e\"} 1"`)
	strict("a{b=\"x\ny\"} 1\n", `line 1: expected a closing double quote on the same line`)
	strict("a 1 # {b=\"c\"}\n", `line 1: expected a blank and the value of the exemplar, found the end of the line`)
	strict("# UNIT a_seconds bytes\n", `line 1: the name "a_seconds" does not end with its unit "bytes"`)
	strict("# TYPE a untyped\n", `line 1: expected a metric type for "a", found "untyped"`)
}

func TestStartIsThatOfTheLabels(t *testing.T) {
	const in = "# TYPE a counter\na_total{x=\"1\"} 5\na_created{x=\"1\"} 1.5\na_total{x=\"2\"} 6\na_created{x=\"2\"} 2\na_total{x=\"3\"} 7\n# EOF\n"
	f := func(o Options, want ...string) {
		t.Helper()
		var p Parser
		p.Options = o
		p.Reset(OpenMetrics100, maphash.MakeSeed())
		p.Feed([]byte(in), true)
		var got []string
		for {
			kind, err := p.Next(Hint{})
			if err != nil {
				break
			}
			if kind == KindSample {
				got = append(got, fmt.Sprintf("%s %d", p.Key(), p.Start()))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("starts with %+v (-want +got):\n%s", o, diff)
		}
	}
	f(Options{Created: true}, `a_total{x="1"} 1500`, `a_total{x="2"} 2000`, `a_total{x="3"} 0`)
	f(Options{}, `a_total{x="1"} 0`, `a_created{x="1"} 0`, `a_total{x="2"} 0`, `a_created{x="2"} 0`, `a_total{x="3"} 0`)
}

// A family without _created lines shall not be read twice for each of its lines.
func TestLookingForStartsIsLinear(t *testing.T) {
	var b strings.Builder
	b.WriteString("# TYPE a counter\n")
	for i := range 20000 {
		fmt.Fprintf(&b, "a_total{x=\"%d\"} %d\n", i, i)
	}
	b.WriteString("# EOF\n")
	body := []byte(b.String())
	all, _ := readPieces(OpenMetrics100, Options{Created: true}, body, nil, func() int { return 256 << 10 })
	if len(all) != 20002 || all[len(all)-1] != "end" {
		t.Errorf("read %d entries, the last %s", len(all), all[len(all)-1])
	}
	var p Parser
	p.Options.Created = true
	p.Reset(OpenMetrics100, maphash.MakeSeed())
	p.Feed(body, true)
	for {
		kind, err := p.Next(Hint{})
		if err != nil {
			break
		}
		if here := p.base + p.i; kind == KindSample && p.created.ahead.until > here+maxPeek+100 {
			t.Fatalf("at byte %d it has been read up to byte %d", here, p.created.ahead.until)
		}
	}
}

func TestWholeFormatsWaitForTheEnd(t *testing.T) {
	const in = "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 3\na_sum 4\na_count 3\nb 1\n"
	p := Parser{Options: Options{ConvertClassic: true}}
	p.Reset(Text004, maphash.MakeSeed())
	p.Feed([]byte(in[:20]), false)
	if _, err := p.Next(Hint{}); !errors.Is(err, ErrMore) || p.Unread() != 20 {
		t.Fatalf("before the end: %v with %d bytes unread, want ErrMore and 20", err, p.Unread())
	}
	p.Feed([]byte(in), true)
	var got []string
	for {
		kind, err := p.Next(Hint{})
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case KindHistogram:
			h, _ := p.Histogram()
			got = append(got, fmt.Sprintf("%s %d %v %v", p.Key(), h.Count, h.Sum, h.CustomValues))
		case KindSample:
			got = append(got, fmt.Sprintf("%s %v", p.Key(), p.Value()))
		default:
		}
	}
	if diff := cmp.Diff([]string{"a 3 4 [1]", "b 1"}, got); diff != "" || p.Unread() != 0 {
		t.Errorf("converted (-want +got), %d bytes unread:\n%s", p.Unread(), diff)
	}
}

func TestBrokenProtobufIsAnError(t *testing.T) {
	for _, in := range []string{"\x05\x0a\x01a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a 1\n", "\x02\x0a\x05"} {
		if all := readWhole(Proto, in); len(all) != 1 || all[0] == "end" {
			t.Errorf("reading %q gives %q, want an error", in, all)
		}
	}
}

// Prometheus' parsers would end the process on more of these.
func TestEndlessNothingIsRefusedWhereItIsRecursedInto(t *testing.T) {
	family := "\x05\x0a\x01a\x18\x01"                                  // A gauge a without a metric.
	metric := "\x12\x0a\x01a\x18\x01\x22\x0b\x12\x09\x09" + "12345678" // And one with.
	metric = string(rune(len(metric)-1)) + metric[1:]
	created := Options{ConvertClassic: true, Created: true}
	for _, c := range []struct {
		name string
		f    Format
		o    Options
		in   string
		end  string
	}{
		{"families", Proto, Options{}, strings.Repeat("\x00", maxEmpty+1), "more than 16384 metric families without metrics follow each other"},
		{"named families", Proto, Options{}, strings.Repeat(family, maxEmpty+1), "more than 16384 metric families without metrics follow each other"},
		{"few families", Proto, Options{}, strings.Repeat(family, maxEmpty) + metric + strings.Repeat(family, maxEmpty), "end"},
		{"lines", Text004, created, strings.Repeat("\n \t\n", maxEmpty), "more than 16384 empty lines follow each other, so histograms cannot be converted"},
		{"few lines", Text004, created, strings.Repeat("\n", maxEmpty) + "a 1\n" + strings.Repeat("\n", maxEmpty), "end"},
		{"lines that are only read", Text004, Options{}, strings.Repeat("\n", 1<<20), "end"},
		{"created", OpenMetrics100, created, "# TYPE a counter\n" + strings.Repeat("a_created 1\n", maxCreated+1) + "# EOF\n", "more than 65536 _created lines follow each other, so histograms cannot be converted"},
		{"few created", OpenMetrics100, created, "# TYPE a counter\n" + strings.Repeat("a_created 1\n", maxCreated) + "# EOF\n", "end"},
		{"exemplar", OpenMetrics100, created, "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1 # {b\na_count 1\n# EOF\n", `line 3: expected = after a label name, found the end of the line`},
		{"created that are only read", OpenMetrics100, Options{Created: true}, "# TYPE a counter\n" + strings.Repeat("a_created 1\n", 1<<18) + "# EOF\n", "end"},
	} {
		all, _ := readPieces(c.f, c.o, []byte(c.in), nil, func() int { return len(c.in) })
		if got := all[len(all)-1]; got != c.end {
			t.Errorf("%s: got %q, want %q", c.name, got, c.end)
		}
	}
}
