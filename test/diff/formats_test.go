package diff_test

import (
	"encoding/binary"
	"strings"

	"github.com/gogo/protobuf/types"
	dto "github.com/prometheus/prometheus/prompb/io/prometheus/client"
)

const (
	openMetrics = "application/openmetrics-text;version=1.0.0"
	protobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// formats compares what formats other than plain text have, and limits.
func formats(f func(string, scenario), job func(string) string) {
	f("metadata", scenario{job: job(""), bodies: []string{
		"# HELP a of a\\nb\n# TYPE a counter\na 1\na_total 2\nb 3\na 4\n# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\nh_x 1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n",
	}, seconds: 20})
	f("OpenMetrics", scenario{job: job(""), typ: openMetrics, bodies: []string{
		"# HELP a of a\n# TYPE a counter\n# UNIT a_seconds seconds\na_total{x=\"1\"} 1 # {id=\"q\"} 0.5 946684000.25\na_created{x=\"1\"} 900000000.5\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE st stateset\nst{st=\"on\"} 1\n# TYPE g gaugehistogram\ng_bucket{le=\"1\"} 1\ng_gcount 1\ng_gsum 1\n# EOF\n",
		"500",
		"b_total{x=\"1\"} 1 946684000\n# EOF\n",
		"b_total{x=\"1\"} 1 946684000\n# EOF\nb 1\n",
		"# EOF\n",
	}, seconds: 50})
	created := []string{
		"# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 900000000.5\na_total{x=\"2\"} 1\na_created{x=\"2\"} 900000001\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\nh_created 9\n# TYPE b gauge\nb_created 1\n# EOF\n",
	}
	f("created", scenario{job: job(""), typ: openMetrics, bodies: created, seconds: 20})
	f("start timestamps", scenario{job: job(""), typ: openMetrics, bodies: created, seconds: 20, start: true})
	f("exemplars", scenario{job: job(""), typ: openMetrics, bodies: []string{
		"# TYPE a counter\na_total 1 # {id=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {id=\"2\"} 0.5 946684000\nh_bucket{le=\"+Inf\"} 2 # {id=\"3\"} 5 946684001\n# EOF\n",
		"# TYPE a counter\na_total 1 # {id=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {id=\"2\"} 0.5 946684000\nh_bucket{le=\"+Inf\"} 2 # {id=\"4\"} 5 946684002\n# EOF\n",
		"# TYPE a counter\na_total 1 # {id=\"2\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {id=\"2\"} 0.5 946683000\nh_bucket{le=\"+Inf\"} 2 # {} 5 946684003\n# EOF\n",
		"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2 # {id=\"5\"} 4 946684003\n# EOF\n",
		"500",
		"a_total 1 # {id=\"1\"} 1\n# EOF\n",
	}, seconds: 50})
	f("timestamps not honoured", scenario{job: job("honor_timestamps: false, "), typ: openMetrics, bodies: []string{"a 1 946684000\n# EOF\n", "a 1 946684000\n# EOF\n", "# EOF\n"}, seconds: 30})
	f("own after scraped", scenario{job: job(""), bodies: []string{"a 1\n", "a 2 946684001000\n", "a 3\n"}, seconds: 40})
	f("no name", scenario{job: job(""), bodies: []string{"a 1\n", "{a=\"b\"} 1\n", "{} 1\n"}, seconds: 40})
	f("legacy names", scenario{job: job("metric_name_validation_scheme: legacy, metric_name_escaping_scheme: underscores, "), bodies: []string{"a 1\n", "{\"a.b\"} 1\n", "a{\"x.y\"=\"1\"} 1\n"}, seconds: 40})
	f("renamed", scenario{job: job("metric_relabel_configs: [{source_labels: [__name__], regex: a, target_label: __name__, replacement: b}], "), bodies: []string{"a 1\nb 2\nc 1\n", "b 2\na 1\n", "c 1\n"}, seconds: 40})
	f("renamed with metadata", scenario{job: job("metric_relabel_configs: [{source_labels: [__name__], regex: 'a(.*)', target_label: __name__, replacement: 'b$1'}, {source_labels: [x], regex: (.+), target_label: __name__, replacement: 'c_$1'}], "), bodies: []string{
		"# HELP a of a\n# TYPE a counter\na_total 1\n# HELP b of b\n# TYPE b counter\nb_total 2\n# HELP c of c\n# TYPE c histogram\nc{x=\"bucket\"} 1\nc_bucket{le=\"1\"} 1\nc{x=\"other\"} 1\nc_bucket{le=\"2\"} 1\n# HELP d of d\n# TYPE d gauge\nd{x=\"1\"} 1\nd 1\n# HELP c_q of q\n# TYPE c_q summary\nq{x=\"q_sum\"} 1\nc_q_sum 1\n",
	}, seconds: 20})
	f("odd families", scenario{job: job(""), bodies: []string{
		"# TYPE a_total counter\na 1\n# TYPE b_total counter\nb_total 1\n# TYPE h_sum histogram\nh_sum 1\nh_sum_bucket{le=\"1\"} 1\n# TYPE s_count summary\ns_count 1\n# TYPE g gauge\ng_total 1\n# TYPE u untyped\nu 1\nu_x 1\n",
	}, seconds: 20})
	f("odd families of OpenMetrics", scenario{job: job(""), typ: openMetrics, bodies: []string{"# TYPE i_info info\ni_info 1\n# TYPE j info\nj_info 1\n# TYPE g_bucket gaugehistogram\ng_bucket 1\ng_bucket_gsum 1\n# EOF\n"}, seconds: 20})
	f("all labels gone", scenario{job: job("metric_relabel_configs: [{regex: .*, action: labeldrop}], "), bodies: []string{"a 1\n"}, seconds: 20})
	f("name gone", scenario{job: job("metric_relabel_configs: [{regex: __name__, action: labeldrop}], "), bodies: []string{"a 1\n"}, seconds: 20})
	f("label name limit", scenario{job: job("label_name_length_limit: 8, "), bodies: []string{"a 1\n", "b{long_name=\"1\"} 1\na 1\n", "a 1\n"}, seconds: 30})
	f("label value limit", scenario{job: job("label_value_length_limit: 5, "), bodies: []string{"a 1\n", "longer 1\na 1\n", "b{x=\"123456\"} 1\nc 1\n", "a 1\n"}, seconds: 40})
	f("sample limit and repeated lines", scenario{job: job("sample_limit: 2, "), bodies: []string{"a 1\na 1\nb 1\n", "b 1\na 1\nb 1\n"}, seconds: 30})
	f("sample limit and dropped lines", scenario{job: job("sample_limit: 1, metric_relabel_configs: [{source_labels: [__name__], regex: a, action: drop}], "), bodies: []string{"a 1\nb 1\n", "a 1\nc 1\n", "b 1\nc 1\na 1\n"}, seconds: 40})
	f("body limit", scenario{job: "{job_name: j, scrape_interval: 10s, scrape_timeout: 5s, body_size_limit: 20B, sample_limit: 9, extra_scrape_metrics: true, static_configs: []}", bodies: []string{"a 1\n", "abcdefghijklmnopqrstu 1\n", "a 1\n"}, seconds: 40})
	native(f, job)
}

// timestamps compares what becomes of timestamps of the exposition's own.
func timestamps(f func(string, scenario), job func(string) string) {
	f("timestamps of one series", scenario{job: job(""), bodies: []string{"a 1 946684000000\na 2 946684001000\na 3\n", "a 4 946684001000\na 5 946684000000\n", "a 6\n", "b 1\n"}, seconds: 50})
	f("own and scraped", scenario{job: job(""), bodies: []string{"a 1\na 2 946684001000\n", "a 2 946684001000\na 3\n", "a 4\n", "b 1\na 5 946684001000\n", "b 1\n"}, seconds: 60})
	f("far future", scenario{job: job(""), bodies: []string{"a 1 4102444800000\nb 1\n", "a 2 4102444800000\nb 1\n", "a 1\n"}, seconds: 30})
	f("far future tracked", scenario{job: job("track_timestamps_staleness: true, "), bodies: []string{"a 1 4102444800000\nb 1\n", "b 1\n", "a 1\n"}, seconds: 30})
	f("far future limited", scenario{job: job("sample_limit: 1, "), bodies: []string{"a 1 4102444800000\nb 1\n", "b 1\n", "a 1 4102444800000\na 1 4102444800000\n"}, seconds: 30})
	f("own after stale", scenario{job: job(""), bodies: []string{"a 1\n", "500", "a 2 946684001000\n", "a 3\n"}, seconds: 40})
	f("own long after stale", scenario{job: job(""), bodies: []string{"a 1\n", "b 1\n", "b 1\n", "a 2 946684001000\nb 1\n", "a 3\n"}, seconds: 50})
	f("own after stale, tracked", scenario{job: job("track_timestamps_staleness: true, "), bodies: []string{"a 1 946684800000\n", "500", "a 2 946684801000\n", "a 3 946684802000\n"}, seconds: 40})
}

// native compares native histograms.
func native(f func(string, scenario), job func(string) string) {
	const (
		on   = "scrape_native_histograms: true, "
		both = on + "always_scrape_classic_histograms: true, "
	)
	bodies := []string{exposition(1), exposition(2), exposition(3)[:10], exposition(3)}
	f("protobuf", scenario{job: job(""), typ: protobuf, bodies: bodies, seconds: 50, start: true})
	f("protobuf started", scenario{job: job(on), typ: protobuf, bodies: bodies, seconds: 50, start: true})
	f("native and classic", scenario{job: job(both), typ: protobuf, bodies: bodies, seconds: 50, start: true})
	f("converted", scenario{job: job("convert_classic_histograms_to_nhcb: true, "), typ: protobuf, bodies: bodies, seconds: 50, start: true})
	f("text converted", scenario{job: job("convert_classic_histograms_to_nhcb: true, "), bodies: []string{
		"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n", "# TYPE h histogram\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n", "a 1\n",
	}, seconds: 40})
	f("target chooses", scenario{job: job(on + "relabel_configs: [{target_label: __scrape_native_histograms__, replacement: 'false'}, {target_label: __always_scrape_classic_histograms__, replacement: '1'}], "), typ: protobuf, bodies: bodies, seconds: 50, start: true})
	f("bucket limit", scenario{job: job(on + "native_histogram_bucket_limit: 2, "), typ: protobuf, bodies: bodies, seconds: 50, start: true})
	f("bucket limit and sample limit", scenario{job: job(on + "native_histogram_bucket_limit: 2, sample_limit: 9, "), typ: protobuf, bodies: []string{bodies[3], bodies[0]}, seconds: 20, start: true})
	f("bucket factor", scenario{job: job(on + "native_histogram_min_bucket_factor: 3, "), typ: protobuf, bodies: bodies, seconds: 50, start: true})
}

// exposition returns a body in protobuf of a process that has observed n times something.
func exposition(n uint64) string {
	var out strings.Builder
	write := func(name, help string, kind dto.MetricType, m dto.Metric) {
		b, err := (&dto.MetricFamily{Name: name, Help: help, Type: kind, Metric: []dto.Metric{m}}).Marshal()
		if err != nil {
			panic(err)
		}
		out.Write(binary.AppendUvarint(nil, uint64(len(b))))
		out.Write(b)
	}
	seen := func(id string, v float64, at int64) *dto.Exemplar {
		e := &dto.Exemplar{Label: []dto.LabelPair{{Name: "id", Value: id}}, Value: v}
		if at != 0 {
			e.Timestamp = &types.Timestamp{Seconds: at}
		}
		return e
	}
	began := &types.Timestamp{Seconds: 900_000_000}
	at := 940_000_000 + int64(n)
	write("c_total", "A counter.", dto.MetricType_COUNTER, dto.Metric{Counter: &dto.Counter{Value: float64(n), StartTimestamp: began, Exemplar: seen("c", 1, 0)}})
	write("g", "", dto.MetricType_GAUGE, dto.Metric{Gauge: &dto.Gauge{Value: 1}, TimestampMs: 1000 * at})
	write("s", "A summary.", dto.MetricType_SUMMARY, dto.Metric{Summary: &dto.Summary{SampleCount: n, SampleSum: 2, StartTimestamp: began, Quantile: []dto.Quantile{{Quantile: 0.5, Value: 1}}}})
	write("classic", "", dto.MetricType_HISTOGRAM, dto.Metric{Histogram: &dto.Histogram{SampleCount: n, SampleSum: 1, Bucket: []dto.Bucket{{CumulativeCount: n, UpperBound: 1, Exemplar: seen("b", 1, at)}}}})
	write("h", "Both.", dto.MetricType_HISTOGRAM, dto.Metric{Label: []dto.LabelPair{{Name: "x", Value: "y"}}, Histogram: &dto.Histogram{
		SampleCount: 6 + n, SampleSum: 10, StartTimestamp: began,
		Bucket:       []dto.Bucket{{CumulativeCount: 1, UpperBound: 0.5}, {CumulativeCount: 6 + n, UpperBound: 4, Exemplar: seen("b", 1, at)}},
		Schema:       3,
		PositiveSpan: []dto.BucketSpan{{Offset: 0, Length: 2}, {Offset: 20, Length: 1}}, PositiveDelta: []int64{1, 1, int64(n)},
		ZeroThreshold: 0.001, ZeroCount: 1,
		Exemplars: []*dto.Exemplar{seen("late", 2, at+5), seen("early", 3, at), seen("never", 1, 0)},
	}})
	write("f", "", dto.MetricType_GAUGE_HISTOGRAM, dto.Metric{Histogram: &dto.Histogram{
		SampleCountFloat: 2.5, SampleSum: 1, Schema: 0, PositiveSpan: []dto.BucketSpan{{Offset: -1, Length: 1}}, PositiveCount: []float64{2.5},
	}})
	if n == 3 { // One that cannot be made coarser: buckets of two signs.
		write("h2", "", dto.MetricType_HISTOGRAM, dto.Metric{Histogram: &dto.Histogram{
			SampleCount: 4, SampleSum: 1, Schema: -4, ZeroThreshold: 0.1, PositiveSpan: []dto.BucketSpan{{Length: 1}, {Offset: 1, Length: 1}}, PositiveDelta: []int64{1, 0},
			NegativeSpan: []dto.BucketSpan{{Length: 1}, {Offset: 1, Length: 1}}, NegativeDelta: []int64{1, 0},
		}})
		write("z", "", dto.MetricType_GAUGE, dto.Metric{Gauge: &dto.Gauge{Value: 1}})
	}
	return out.String()
}
