package exporter

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	clientmodel "github.com/prometheus/prometheus/prompb/io/prometheus/client"
)

// A parsed page, as Prometheus' own library reads it.
type parsed struct {
	series int
	bits   uint64           // The sum of the bits of all values.
	oldest map[string]int64 // Timestamps by family; 0 is a sample without one.
	newest map[string]int64
}

func parse(t *testing.T, text []byte) parsed {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	p := parsed{oldest: map[string]int64{}, newest: map[string]int64{}}
	add := func(v float64) {
		p.series++
		p.bits += math.Float64bits(v)
	}
	for name, f := range families {
		p.oldest[name] = math.MaxInt64
		for _, m := range f.Metric {
			p.oldest[name] = min(p.oldest[name], m.GetTimestampMs())
			p.newest[name] = max(p.newest[name], m.GetTimestampMs())
			switch {
			case m.Histogram != nil:
				for _, b := range m.Histogram.Bucket {
					add(float64(b.GetCumulativeCount()))
				}
				add(m.Histogram.GetSampleSum())
				add(float64(m.Histogram.GetSampleCount()))
			case m.Summary != nil:
				for _, q := range m.Summary.Quantile {
					add(q.GetValue())
				}
				add(m.Summary.GetSampleSum())
				add(float64(m.Summary.GetSampleCount()))
			default: // The other ones are zero, and so are their bits.
				add(m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue())
			}
		}
	}
	return p
}

func TestPagesParseAndHaveTheSeriesTheyPromise(t *testing.T) {
	for _, name := range []string{"M1", "M3", "M4", "M5", "unique"} {
		load, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range load.groups {
			b := g.make(load, 0, 7)
			if p := parse(t, b.plain); p.series != g.series || b.samples != g.series || b.exposed != g.series {
				t.Errorf("%s, %s: %d series parsed, %d and %d counted, want %d", name, g.job, p.series, b.samples, b.exposed, g.series)
			}
		}
	}
}

func TestSeriesOfAPageAreDifferentAndStay(t *testing.T) {
	m1, err := Find("M1")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range append(m1.groups, uniques(1)...) {
		first, second := keys(g.make(m1, 0, 0)), keys(g.make(m1, 0, 1))
		if len(first) != g.series {
			t.Errorf("%s: %d different series, want %d", g.job, len(first), g.series)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("%s: the next scrape has other series (-first +second):\n%s", g.job, diff)
		}
	}
}

// keys returns the names and labels of a page in order.
func keys(b *body) []string {
	var all []string
	for l := range strings.Lines(string(b.plain)) {
		if !strings.HasPrefix(l, "#") {
			key, _, _ := strings.Cut(strings.TrimPrefix(l[strings.LastIndexByte(l, '}')+1:], " "), " ")
			if i := strings.LastIndexByte(l, '}'); i >= 0 {
				key = l[:i+1]
			}
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestRulesAreCountedAsPrometheusAppliesThem(t *testing.T) {
	load, err := Find("M6")
	if err != nil {
		t.Fatal(err)
	}
	drop, err := relabel.NewRegexp(load.Rules.Drop)
	if err != nil {
		t.Fatal(err)
	}
	labels, err := relabel.NewRegexp(load.Rules.LabelDrop)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	label := regexp.MustCompile(`([a-z_]+)="[^"]*",?`)
	for _, g := range load.groups {
		b := g.make(load, 0, 0)
		var kept []string
		for _, key := range keys(b) {
			if name, _, _ := strings.Cut(key, "{"); drop.MatchString(name) {
				continue
			}
			kept = append(kept, label.ReplaceAllStringFunc(key, func(text string) string {
				if name, _, _ := strings.Cut(text, "="); labels.MatchString(name) {
					return ""
				}
				return text
			}))
		}
		slices.Sort(kept)
		if n := len(slices.Compact(kept)); n != b.samples || b.exposed != g.series || n == 0 {
			t.Errorf("%s: the rules leave %d different series, %d of %d are counted", g.job, n, b.samples, b.exposed)
		}
		left += g.targets * b.samples
	}
	if share := float64(left) / float64(load.Series()); share < 0.6 || share > 0.85 {
		t.Errorf("the rules leave %.2f of all samples, want about three of four", share)
	}
	cadvisor := load.groups[1]
	if want := cadvisor.targets * cadvisor.make(load, 0, 0).samples; load.Stamped() != want || want == cadvisor.targets*cadvisorSeries {
		t.Errorf("%d series with timestamps, want %d", load.Stamped(), want)
	}
}

func TestProtobufPagesHoldWhatTheyPromise(t *testing.T) {
	load, err := Find("M7")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b := load.groups[0].make(load, 0, 5)
	var got tally
	for text := b.at(now); len(text) > 0; {
		size, n := binary.Uvarint(text)
		var f clientmodel.MetricFamily
		if err := f.Unmarshal(text[n : n+int(size)]); err != nil {
			t.Fatal(err)
		}
		text = text[n+int(size):]
		for _, m := range f.Metric {
			got.exposed++
			exemplars := m.GetHistogram().GetExemplars()
			if e := m.GetCounter().GetExemplar(); e != nil {
				exemplars = append(exemplars, e)
			}
			for _, e := range exemplars {
				got.exemplars++
				if at := time.Unix(e.GetTimestamp().GetSeconds(), int64(e.GetTimestamp().GetNanos())); !at.Equal(now) {
					t.Errorf("an exemplar of %s is of %s, want %s", f.GetName(), at, now)
				}
			}
			h := m.GetHistogram()
			if h == nil {
				got.samples++
				got.bits += math.Float64bits(m.GetCounter().GetValue() + m.GetGauge().GetValue())
				continue
			}
			got.histograms++
			got.bits += math.Float64bits(h.GetSampleSum())
			count, value := int64(0), int64(0)
			for _, d := range h.PositiveDelta {
				value += d
				count += value
			}
			if h.GetSchema() != 3 || uint64(count) != h.GetSampleCount() || int(h.PositiveSpan[0].GetLength()) != len(h.PositiveDelta) {
				t.Errorf("histogram of %s does not add up: %v", f.GetName(), h)
			}
		}
	}
	if diff := cmp.Diff(got, b.tally, cmp.AllowUnexported(tally{})); diff != "" || got.exposed != nativeSeries || len(b.stamps) != got.exemplars {
		t.Errorf("%d stamps, page (-parsed +counted):\n%s", len(b.stamps), diff)
	}
}

func TestProtobufTargetRefusesWhoDoesNotAskForIt(t *testing.T) {
	load, err := Find("tiny-native")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Start(t.Context(), load, false)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, status := get(t, e.Jobs()[0].Targets[0], false); status != http.StatusNotAcceptable || e.Counts() != (Counts{Refused: 1}) {
		t.Errorf("status %d, counts %+v", status, e.Counts())
	}
}

func TestPagesAreTheSameInEveryRun(t *testing.T) {
	load, err := Find("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range load.groups {
		a, b := g.make(load, 0, 3), g.make(load, 0, 3+steps)
		if !bytes.Equal(a.plain, b.plain) {
			t.Errorf("%s: step 3 and the same step of the next round differ", g.job)
		}
		if bytes.Equal(a.plain, g.make(load, 0, 2).plain) {
			t.Errorf("%s: steps 2 and 3 have the same values", g.job)
		}
	}
}

func TestMeanLineIsAsLongAsInTheMeasuredCluster(t *testing.T) {
	m1, err := Find("M1")
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, g := range m1.groups {
		size += g.targets * len(g.make(m1, 0, 0).plain)
	}
	if mean := size / m1.Series(); mean < 205 || mean > 253 {
		t.Errorf("a sample of M1 takes %d bytes of exposition, want about 229", mean)
	}
}

func TestShuffledPageHasTheSameLines(t *testing.T) {
	m5, err := Find("M5")
	if err != nil {
		t.Fatal(err)
	}
	plain := m5.groups[0]
	plain.shuffle = false
	a, b := plain.make(m5, 0, 0), m5.groups[0].make(m5, 0, 0)
	if bytes.Equal(a.plain, b.plain) {
		t.Error("the page is not shuffled")
	}
	lines := func(b *body) []string { return slices.Sorted(strings.Lines(string(b.plain))) }
	if diff := cmp.Diff(lines(a), lines(b)); diff != "" {
		t.Errorf("lines differ (-plain +shuffled):\n%s", diff)
	}
}

func TestATenthOfThePodsIsReplacedAMinute(t *testing.T) {
	load, err := Find("M4")
	if err != nil {
		t.Fatal(err)
	}
	ksm := load.groups[3]
	before, after := keys(ksm.make(load, 0, 0)), keys(ksm.make(load, 0, uint64(time.Minute/load.Interval)))
	gone := 0
	for _, k := range before {
		if _, found := slices.BinarySearch(after, k); !found {
			gone++
		}
	}
	if gone != ksmSeries/10 {
		t.Errorf("%d of %d series are gone after a minute, want a tenth", gone, ksmSeries)
	}
}

func TestServedPagesAreCounted(t *testing.T) {
	load, err := Find("tiny")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Start(t.Context(), load, true)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var want Counts
	for _, compressed := range []bool{false, true} {
		for _, j := range e.Jobs() {
			for _, addr := range j.Targets {
				begin := time.Now().UnixMilli()
				text, size := scrape(t, addr, compressed)
				p := parse(t, text)
				want.Scrapes++
				if compressed {
					want.Compressed++
				}
				want.Exposed += int64(p.series)
				want.Samples += int64(p.series)
				want.Bytes += int64(size)
				want.Bits += p.bits
				checkStamps(t, p, begin)
			}
		}
	}
	if diff := cmp.Diff(want, e.Counts()); diff != "" {
		t.Errorf("counts (-parsed +counted):\n%s", diff)
	}
	e.Hold(true)
	if _, status := get(t, e.Jobs()[0].Targets[0], false); status != http.StatusServiceUnavailable {
		t.Errorf("status %d while held, want 503", status)
	}
	if got := e.Counts().Sub(want); got != (Counts{Refused: 1}) {
		t.Errorf("a refused scrape was counted as %+v", got)
	}
}

// get returns a body as it was sent.
func get(t *testing.T, addr string, compressed bool) (raw []byte, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", map[bool]string{false: "identity", true: "gzip"}[compressed])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return raw, resp.StatusCode
}

// scrape returns a page and how many bytes its body had.
func scrape(t *testing.T, addr string, compressed bool) (text []byte, size int) {
	t.Helper()
	raw, _ := get(t, addr, compressed)
	if !compressed {
		return raw, len(raw)
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if text, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return text, len(raw)
}

func checkStamps(t *testing.T, p parsed, begin int64) {
	t.Helper()
	for name, oldest := range p.oldest {
		if !strings.HasPrefix(name, "container_") {
			if p.newest[name] != 0 {
				t.Errorf("%s has a timestamp", name)
			}
		} else if oldest <= begin-stampSpread || p.newest[name] > time.Now().UnixMilli() {
			t.Errorf("%s has timestamps from %d to %d, which is not within a second of now", name, oldest, p.newest[name])
		}
	}
}

func TestUnknownLoadIsRefused(t *testing.T) {
	if _, err := Find("M99"); err == nil || !strings.Contains(err.Error(), "M1") {
		t.Errorf("error %v, want one that names the loads there are", err)
	}
}

func BenchmarkRender(b *testing.B) {
	load, err := Find("M1")
	if err != nil {
		b.Fatal(err)
	}
	for _, g := range load.groups {
		b.Run(g.job, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.make(load, 0, 1)
			}
		})
	}
}
