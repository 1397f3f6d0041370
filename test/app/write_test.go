package app_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	dto "github.com/prometheus/prometheus/prompb/io/prometheus/client"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// The content types of expositions.
const (
	textType  = "text/plain; version=0.0.4; charset=utf-8"
	openType  = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	protoType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// page is what one target exposes and what has to arrive of it, by both versions of remote
// write.
type page struct {
	name, contentType, body string
	job                     string   // further keys of the job
	want                    []string // series and value as in an exposition, without job and instance
	down                    bool     // the scrape fails: nothing of the page arrives, up is 0
	check                   func(t *testing.T, message kit.Message, s map[string]kit.Series)
}

// pages are the cases of the sender suite of version 1.0 by what they ask for, and more.
func pages() []page {
	started := strconv.FormatFloat(float64(hourAgo.UnixMilli())/1000, 'f', 3, 64)
	return []page{
		{
			name: "counter", contentType: textType,
			body: "# HELP requests_total How many.\n# TYPE requests_total counter\nrequests_total 101.13\n", want: []string{"requests_total 101.13"},
			check: metadata("requests_total", "requests_total", kit.Metadata{Type: "counter", Help: "How many."}),
		},
		{
			name: "gauge", contentType: textType,
			body: "# TYPE level gauge\n# HELP level With \\\\ and \\n in it.\nlevel -7.5\n", want: []string{"level -7.5"},
			check: metadata("level", "level", kit.Metadata{Type: "gauge", Help: "With \\ and \n in it."}),
		},
		{
			name: "histogram", contentType: textType,
			body: "# TYPE d histogram\nd_bucket{le=\"0.5\"} 1\nd_bucket{le=\"+Inf\"} 3\nd_sum 4.5\nd_count 3\n",
			want: []string{`d_bucket{le="0.5"} 1`, `d_bucket{le="+Inf"} 3`, "d_sum 4.5", "d_count 3"}, check: metadata("d_bucket", "d", kit.Metadata{Type: "histogram"}),
		},
		{
			name: "summary", contentType: textType,
			body:  "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"0.9\"} NaN\ns_sum 4.5\ns_count 3\n",
			want:  []string{`s{quantile="0.5"} 1`, `s{quantile="0.9"} NaN`, "s_sum 4.5", "s_count 3"},
			check: metadata("s_sum", "s", kit.Metadata{Type: "summary"}),
		},
		{
			name: "special values", contentType: textType,
			body: "v{of=\"inf\"} +Inf\nv{of=\"-inf\"} -Inf\nv{of=\"nan\"} NaN\nv{of=\"zero\"} 0\nv{of=\"-zero\"} -0\nv{of=\"large\"} 1.7976931348623157e+308\n" +
				"v{of=\"small\"} 5e-324\nv{of=\"precise\"} 0.1234567890123456\nv{of=\"scientific\"} 1.23e-4\n",
			want: []string{
				`v{of="inf"} +Inf`, `v{of="-inf"} -Inf`, `v{of="nan"} NaN`, `v{of="zero"} 0`, `v{of="-zero"} -0`, `v{of="large"} 1.7976931348623157e+308`,
				`v{of="small"} 5e-324`, `v{of="precise"} 0.1234567890123456`, `v{of="scientific"} 1.23e-4`,
			},
		},
		{
			name: "sorted labels", contentType: textType,
			body: "m{z=\"1\",a=\"2\",_b=\"3\",A=\"4\",job2=\"5\",inst=\"6\"} 1\n", want: []string{`m{z="1",a="2",_b="3",A="4",job2="5",inst="6"} 1`},
		},
		{name: "repeated labels", contentType: textType, body: "good 1\nm{a=\"1\",a=\"2\"} 1\n", down: true},
		{name: "empty labels", contentType: textType, body: "m{a=\"\",b=\"1\"} 1\n", want: []string{`m{b="1"} 1`}},
		{name: "no name", contentType: textType, body: "good 1\n{a=\"1\"} 1\n", down: true},
		{name: "invalid", contentType: textType, body: "good 1\n}{ bad\n", down: true},
		{name: "nothing", contentType: textType, body: "# nothing to see\n"},
		{
			name: "job and instance of the target win", contentType: textType,
			body: "m{job=\"mine\",instance=\"me\"} 1\n", want: []string{`m{exported_job="mine",exported_instance="me"} 1`},
		},
		{
			name: "labels of other scripts and with escapes", contentType: textType,
			body: "m{path=\"C:\\\\DIR\\\\\",quote=\"say \\\"hi\\\"\",line=\"a\\nb\",script=\"日本語 🚀\"} 1\n",
			want: []string{`m{path="C:\\DIR\\",quote="say \"hi\"",line="a\nb",script="日本語 🚀"} 1`},
		},
		{
			name: "many labels", contentType: textType, body: "m{" + manyLabels + "} 1\n", want: []string{"m{" + manyLabels + "} 1"},
		},
		{
			name: "long label", contentType: textType,
			body: fmt.Sprintf("m{long=%q} 1\n", strings.Repeat("x", 2000)), want: []string{fmt.Sprintf("m{long=%q} 1", strings.Repeat("x", 2000))},
		},
		{
			name: "own times", contentType: textType, want: []string{"m 1"},
			body: fmt.Sprintf("m 1 %d\n", ownTime.UnixMilli()),
			check: func(t *testing.T, _ kit.Message, s map[string]kit.Series) {
				t.Helper()
				if got := s["m"].Samples; len(got) != 1 || got[0].T != ownTime.UnixMilli() {
					t.Errorf("samples %v, want one with the time of the page, %d", got, ownTime.UnixMilli())
				}
			},
		},
		{
			name: "own times not honoured", contentType: textType, job: "honor_timestamps: false", want: []string{"m 1"},
			body: fmt.Sprintf("m 1 %d\n", ownTime.UnixMilli()),
			check: func(t *testing.T, _ kit.Message, s map[string]kit.Series) {
				t.Helper()
				if got := s["m"].Samples; got[0].T == ownTime.UnixMilli() || len(got) < 2 {
					t.Errorf("samples %v, want those of the scrapes", got)
				}
			},
		},
		{
			name: "openmetrics", contentType: openType,
			body: "# TYPE r_seconds counter\n# UNIT r_seconds seconds\n# HELP r_seconds How \\\"long\\\".\nr_seconds_total 3 # {trace_id=\"abc\"} 0.5 " + started + "\n" +
				"# TYPE build info\nbuild_info{version=\"1\"} 1\n# EOF\n",
			want: []string{"r_seconds_total 3", `build_info{version="1"} 1`},
			check: func(t *testing.T, message kit.Message, s map[string]kit.Series) {
				t.Helper()
				metadata("r_seconds_total", "r_seconds", kit.Metadata{Type: "counter", Help: `How "long".`, Unit: "seconds"})(t, message, s)
				metadata("build_info", "build", kit.Metadata{Type: "info"})(t, message, s)
				got := s["r_seconds_total"].Exemplars
				if len(got) != 1 || got[0].V != 0.5 || got[0].Labels.Get("trace_id") != "abc" || !near(got[0].T) {
					t.Errorf("exemplars %+v, want the one of the page once", got)
				}
			},
		},
		{
			name: "start timestamps", contentType: openType, job: "start_timestamps: true",
			body: "# TYPE r counter\nr_total 3\nr_created " + started + "\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 3\nh_created " + started + "\n# EOF\n",
			check: func(t *testing.T, message kit.Message, s map[string]kit.Series) {
				t.Helper()
				for _, name := range []string{"r_total", "h_bucket", "h_count", "h_sum"} {
					if sample := s[name].Samples[0]; message == kit.Message2 && !near(sample.Start) {
						t.Errorf("%s starts at %d, want %s", name, sample.Start, started)
					}
				}
			},
		},
		{
			name: "names in UTF-8", contentType: openType,
			body: "# TYPE \"temperature.c°\" gauge\n{\"temperature.c°\",\"room.no\"=\"1\"} 21\n# EOF\n",
			check: func(t *testing.T, _ kit.Message, s map[string]kit.Series) {
				t.Helper()
				if got := s["temperature.c°"]; got.Labels.Get("room.no") != "1" || got.Samples[0].V != 21 {
					t.Errorf("got %v", s)
				}
			},
		},
		{
			name: "native histogram", contentType: protoType, body: nativeHistogram(), job: "scrape_native_histograms: true, scrape_protocols: [PrometheusProto]",
			check: func(t *testing.T, _ kit.Message, s map[string]kit.Series) {
				t.Helper()
				got := s["native"].Histograms
				if len(got) == 0 || got[0].Int == nil || got[0].Int.Count != 6 || got[0].Int.Sum != 18.5 || got[0].Int.Schema != 3 || len(got[0].Int.PositiveBuckets) != 3 {
					t.Errorf("histograms %+v", got)
				}
			},
		},
	}
}

// hourAgo is the time since which counters count and at which exemplars were taken.
var hourAgo = time.Now().Add(-time.Hour)

// near tells whether a time that a page had in seconds is that of hourAgo: Prometheus cuts the
// fraction of a float off, which can cost a millisecond.
func near(t int64) bool { return t == hourAgo.UnixMilli() || t == hourAgo.UnixMilli()-1 }

// reportSamples is how many series every scrape has beside those exposed: up and the like.
const reportSamples = 5

// ownTime is the time of samples on pages with times.
var ownTime = time.Now().Add(-time.Minute).Truncate(time.Millisecond)

// manyLabels fill a series up to the limit of the receiver together with name, job, instance.
var manyLabels = func() string {
	var all []string
	for i := range 27 {
		all = append(all, fmt.Sprintf("l%02d=\"v\"", i))
	}
	return strings.Join(all, ",")
}()

// metadata returns a check of what came beside a series of a family.
func metadata(series, family string, want kit.Metadata) func(*testing.T, kit.Message, map[string]kit.Series) {
	return func(t *testing.T, message kit.Message, s map[string]kit.Series) {
		t.Helper()
		if message == kit.Message1 {
			return // comes by family and is looked at by the test itself
		}
		if got := s[series].Metadata; got != want {
			t.Errorf("metadata of %s is %+v, want %+v (family %s)", series, got, want, family)
		}
	}
}

// nativeHistogram is a page in protobuf with one native histogram.
func nativeHistogram() string {
	family := &dto.MetricFamily{
		Name: "native", Type: dto.MetricType_HISTOGRAM,
		Metric: []dto.Metric{{Histogram: &dto.Histogram{
			SampleCount: 6, SampleSum: 18.5, Schema: 3, ZeroThreshold: 0.001, ZeroCount: 1,
			PositiveSpan: []dto.BucketSpan{{Offset: 1, Length: 2}, {Offset: 3, Length: 1}}, PositiveDelta: []int64{1, 1, 0},
		}}},
	}
	raw, err := family.Marshal()
	if err != nil {
		panic(err)
	}
	return string(binary.AppendUvarint(nil, uint64(len(raw)))) + string(raw)
}

// P1, P2: the cases of the sender suites and more, judged by a receiver that refuses whatever
// the specifications of remote write 1.0 and 2.0 forbid a sender.
func TestSenderKeepsTheSpecifications(t *testing.T) {
	t.Parallel()
	for _, message := range []kit.Message{kit.Message1, kit.Message2} {
		t.Run(string(message), func(t *testing.T) {
			t.Parallel()
			testSender(t, message)
		})
	}
}

func testSender(t *testing.T, message kit.Message) {
	t.Helper()
	limits := kit.DefaultSeriesLimits()
	limits.UTF8Names = true
	r := kit.StartMetrics(t, kit.MetricsConfig{Messages: []kit.Message{message}, Histograms: true, Limits: limits})
	var jobs []string
	all := make(map[string]*kit.Target)
	for _, p := range pages() {
		target := kit.StartTarget(t, 0)
		target.SetPage(func(int64, *http.Request) (string, []byte) { return p.contentType, []byte(p.body) })
		all[p.name] = target
		var keys []string
		if p.job != "" {
			keys = append(keys, p.job)
		}
		jobs = append(jobs, scrapeJob(fmt.Sprintf("%q", p.name), []*kit.Target{target}, keys...))
	}
	p := kit.Start(t, kit.ProcessConfig{Config: config(
		[]string{prometheusTo("metrics", r.PushURL(), "protobuf_message: "+string(message), "max_samples_per_send: 50", "metadata_config: {send_interval: 1s}")}, jobs,
	)})
	(&rig{all: slices.Collect(maps.Values(all))}).scrapes(t, 4)
	for _, req := range r.Requests() {
		if req.Status != 200 {
			t.Fatalf("a request was answered %d %s", req.Status, req.Answer)
		}
	}
	for _, c := range pages() {
		t.Run(c.name, func(t *testing.T) { testPage(t, c, all[c.name], r, message) })
	}
	if message == kit.Message1 {
		kit.Eventually(t, soon, "metadata by family", func() error {
			have := r.Families(kit.AnonymousTenant)
			for name, want := range map[string]kit.Metadata{
				"requests_total": {Type: "counter", Help: "How many."}, "level": {Type: "gauge", Help: "With \\ and \n in it."},
				"d": {Type: "histogram"}, "s": {Type: "summary"}, "r_seconds": {Type: "counter", Help: `How "long".`, Unit: "seconds"},
			} {
				if have[name] != want {
					return fmt.Errorf("family %s is %+v, want %+v", name, have[name], want)
				}
			}
			return nil
		})
	}
	for _, req := range r.Requests() {
		checkRequest(t, message, req)
	}
	if refused := r.Refused(); len(refused) > 0 {
		t.Errorf("%d samples refused, first %+v", len(refused), refused[0])
	}
	if n := resent(r.Requests()); n > 0 {
		t.Errorf("%d requests were sent twice", n)
	}
	waitBalance(t, p)
}

// checkRequest checks what every request must have beside what the receiver judges.
func checkRequest(t *testing.T, message kit.Message, req kit.Request) {
	t.Helper()
	contentType, version := "application/x-protobuf", "0.1.0"
	if message == kit.Message2 {
		contentType, version = "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"
	}
	if req.Status/100 != 2 {
		t.Errorf("a request was answered %d %s", req.Status, req.Answer)
	}
	if req.Items > 50 {
		t.Errorf("a request had %d samples, want at most max_samples_per_send", req.Items)
	}
	for name, want := range map[string]string{
		"Content-Type": contentType, "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": version, "Retry-Attempt": "",
	} {
		if got := req.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := req.Header.Get("User-Agent"); !strings.HasPrefix(got, "ingot/") {
		t.Errorf("User-Agent is %q, want ingot/ and the version", got)
	}
}

func testPage(t *testing.T, c page, target *kit.Target, r *kit.MetricsReceiver, message kit.Message) {
	t.Helper()
	instance := fmt.Sprintf("{instance=%q}", target.Addr())
	var reports []string
	var got []kit.Series
	kit.Eventually(t, soon, "the report of a scrape and its series", func() error {
		got, reports = nil, nil
		for _, s := range r.Series("", instance) {
			if name := s.Labels.Get("__name__"); name == "up" || strings.HasPrefix(name, "scrape_") {
				reports = append(reports, name)
				continue
			}
			got = append(got, s)
		}
		if len(reports) < reportSamples || !c.down && len(c.want) > 0 && len(got) == 0 {
			return fmt.Errorf("series %v and %v", reports, got)
		}
		return nil
	})
	up, err := r.Last("", fmt.Sprintf("up{instance=%q}", target.Addr()))
	if want := map[bool]float64{true: 0, false: 1}[c.down]; err != nil || up.V != want {
		t.Errorf("up is %g (%v), want %g", up.V, err, want)
	}
	if c.down && len(got) > 0 {
		t.Errorf("%v arrived of a scrape that failed", got)
	}
	byName := make(map[string]kit.Series)
	for _, s := range got {
		byName[s.Labels.Get("__name__")] = s
		if job := s.Labels.Get("job"); job != c.name {
			t.Errorf("%s has job %q, want %q", s.Labels, job, c.name)
		}
	}
	if c.want != nil {
		comparePage(t, c, got, target)
	}
	if c.check != nil && !c.down {
		c.check(t, message, byName)
	}
}

// comparePage holds the series that arrived against those that were wanted, as sets.
func comparePage(t *testing.T, c page, got []kit.Series, target *kit.Target) {
	t.Helper()
	var have, want []string
	for _, s := range got {
		have = append(have, fmt.Sprintf("%s %x", s.Labels, math.Float64bits(s.Samples[0].V)))
	}
	for _, line := range c.want {
		exposed, err := kit.ParseExposition([]byte(line))
		check(t, err)
		l := exposed[0].Labels.Map()
		l["job"], l["instance"] = c.name, target.Addr()
		value := exposed[0].Value
		bits := math.Float64bits(value)
		if math.IsNaN(value) {
			bits = 0x7ff8000000000001 // Prometheus' own NaN, and not the stale marker
		}
		want = append(want, fmt.Sprintf("%s %x", labels.FromMap(l), bits))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("arrived:\n%s\nwant:\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}
