package parser_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// lines are whole inputs of the text format on which the verdict is easily got wrong.
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

// strictLines are the same for OpenMetrics. Each is tried with and without # EOF behind it.
func strictLines() []string {
	return []string{
		"", "\n", " ", "#", "# ", "# EOF", "# EOF ", "# EOFx", "# EOF\n\n", "#EOF", "# EO", "# comment", "# HELP", "# HELP a", "# HELP a\n", "# HELP a \n", "# HELP a b\n", "# HELP a  b \n", "# HELP a \\\"x\\\"\\n\\\\\n", "# HELP \"a b\" c\n", "# HELP \"a\nb\" c\n", "# HELP \"a\\\nb\" c\n", "# HELP a \xff\n", "#  HELP a b\n", "# HELP  a b\n", "# help a b\n", "# HELP 1 b\n", "# HELP a\tb\n",
		"# TYPE a counter\n", "# TYPE a unknown\n", "# TYPE a untyped\n", "# TYPE a gaugehistogram\n", "# TYPE a info\n", "# TYPE a stateset\n", "# TYPE a summary\n", "# TYPE a histogram\n", "# TYPE a gauge\n", "# TYPE a counter \n", "# TYPE a \n", "# TYPE a Counter\n", "# TYPE a counter",
		"# UNIT a_seconds seconds\n", "# UNIT a seconds\n", "# UNIT seconds seconds\n", "# UNIT _seconds seconds\n", "# UNIT a \n", "# UNIT aseconds seconds\n", "# UNIT \"a b_c\" c\n", "# UNIT a_s s",
		"a 1\n", "a 1", "a 1\n\n", " a 1\n", "a  1\n", "a\t1\n", "a 1 \n", "a 1\t\n", "a 1\r\n", "a 1 2\n", "a 1 2 \n", "a 1 2.5\n", "a 1 -1\n", "a 1 1e3\n", "a 1 NaN\n", "a 1 +Inf\n", "a 1 1e300\n", "a 1 1e999\n", "a 1 x\n", "a 1 2 3\n", "a 1520879607.789 1520879607.789\n", "a 1 12 # {} 1\n", "a\n", "a \n", "a", "a ", "a 1\nb 2\n", "a 1_0\n", "a 0x1p4\n", "a nan\n", "a -inf\n", "a 1{\n",
		"a{} 1\n", "a{b=\"c\"} 1\n", "a{b=\"c\",} 1\n", "a{b=\"c\",,} 1\n", "a{,} 1\n", "a{,b=\"c\"} 1\n", "a{b=\"c\" ,d=\"e\"} 1\n", "a{b=\"c\"d=\"e\"} 1\n", "a{ b=\"c\"} 1\n", "a {b=\"c\"} 1\n", "a{b=\"c\"}1\n", "a{b=\"c\"} 1\n", "a{b=\"x\ny\"} 1\n", "a{b=\"x\\ny\"} 1\n", "a{b=\"x\\\"y\\\\\"} 1\n", "a{b=\"x\\\ny\"} 1\n", "a{b=\"\xff\"} 1\n", "a{b=\"x\x00y\"} 1\n", "a{b=\"x\\\x00\"y\"} 1\n", "a{1=\"b\"} 1\n", "a{b:c=\"d\"} 1\n", "a:b{c=\"d\"} 1\n", "a{b=c} 1\n", "a{b} 1\n", "a{b=\"c\"}{d=\"e\"} 1\n", "a{b", "a{b=\"c", "a{\"b\"=\"c\"} 1\n", "a{\"b\nc\"=\"d\"} 1\n",
		"{\"a\"} 1\n", "{\"a\",} 1\n", "{\"a\",b=\"c\"} 1\n", "{b=\"c\",\"a\"} 1\n", "{\"a.b\",\"c.d\"=\"e\"} 1\n", "{\"a\",\"b\"} 1\n", "a{\"b\"} 1\n", "{} 1\n", "{b=\"c\"} 1\n", "{\"a\n\"} 1\n", "{\"a\"b=\"c\"} 1\n", "{\"\"} 1\n", "{\"a\"}1\n",
		"a 1 # {} 1\n", "a 1 # {b=\"c\"} 1\n", "a 1 # {b=\"c\"} 1 2\n", "a 1 # {b=\"c\"} 1 2.5\n", "a 1 # {b=\"c\"} 1 2 3\n", "a 1 # {b=\"c\"} 1 NaN\n", "a 1 # {b=\"c\"} 1 Inf\n", "a 1 # {b=\"c\"}\n", "a 1 # {b=\"c\"} \n", "a 1 # {b=\"c\"} x\n", "a 1 # {b=\"c\",} 1\n", "a 1 # {b=\"c\",d=\"e\"} 1\n", "a 1 # {d=\"e\",b=\"c\"} 1\n", "a 1 # {b=\"c\" 1\n", "a 1 # {\"b\"=\"c\"} 1\n", "a 1 # {\"b\"} 1\n", "a 1 # {b=\"x\\\"y\"} 1\n", "a 1 # {b=\"\xff\"} 1\n", "a 1 # {b=\"x\x00\"} 1\n", "a 1 # {b= 1\n", "a 1 # {b=\"c\"} 1", "a 1 # {b=\"c\"} 1 2", "a 1 #", "a 1 # ", "a 1 # {", "a 1 # x\n", "a 1 #x\n", "a 1  # {} 1\n", "a 1 #{} 1\n", "a 1 # {} NaN\n", "a 1 # {} 1 # {} 1\n", "a 1 2 # {x=\"y\"} 3 4\n", "a 1 2 #\n",
		"# TYPE a counter\na_total 1\na_created 2.5\n", "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 2\na_total{x=\"2\"} 1\na_created{x=\"2\"} 3\n", "# TYPE a counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 1\na_created{x=\"1\"} 2\na_created{x=\"2\"} 3\n", "# TYPE a counter\na_total 1\n# TYPE b gauge\nb_created 2\n", "# TYPE a gauge\na 1\na_created 2\n", "a 1\na_created 2\n", "# TYPE a counter\na_total 1\na_created 0\n", "# TYPE a counter\na_total 1\na_created x\n",
		"# TYPE a counter\na_created 7\na_total 1\n", "# TYPE a counter\na_total 1\na_created 7\na_total 1\n# HELP a x\na_total 1\n", "# TYPE a counter\na 1\nb_total 3\nb_created 4\n", "# TYPE a summary\na{quantile=\"0\"} 1\na{quantile=\"1\"} 2\na_sum 1\na_count 2\na_created 9\n", "# TYPE a counter\na_total 1\na_created 2\n# TYPE b gauge\nb 1\n# TYPE a counter\na_total 1\n", "# TYPE a counter\na_total 1\na_created 2\n# TYPE b gauge\n# TYPE a counter\na_total 1\n",
		"# TYPE a histogram\na_bucket{le=\"1\"} 1 # {id=\"x\"} 0.5\na_bucket{le=\"+Inf\"} 3 # {id=\"y\"} 5 6\na_sum 4\na_count 3\na_created 5\n", "# TYPE a histogram\na_count 3\na_sum 4\na_created 5\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 3\n", "# HELP long_name x\n# TYPE long_name counter\na 1\na_created 5\nlong_name_total 4\nlong_name_created 6\n",
		"# TYPE a.b counter\n", "# TYPE \"a.b\" counter\n{\"a.b_total\",x=\"y\"} 1\n{\"a.b_created\",x=\"y\"} 2\n", "<html>", "{\"json\":1}", "\xef\xbb\xbfa 1\n", "a 1\n# EOF\na 2\n",
	}
}

func TestTextLinesReadAsInPrometheus(t *testing.T) {
	for _, l := range lines() {
		compare(t, wayOf(t, "text"), []byte(l))
		compare(t, wayOf(t, "text converted"), []byte(l))
	}
}

func TestOpenMetricsLinesReadAsInPrometheus(t *testing.T) {
	for _, l := range strictLines() {
		for _, end := range []string{"", "# EOF", "# EOF\n"} {
			for _, name := range []string{"OpenMetrics", "OpenMetrics with start", "OpenMetrics converted"} {
				compare(t, wayOf(t, name), []byte(l+end))
			}
		}
	}
}

func TestValuesHaveTheBitsOfPrometheus(t *testing.T) {
	for _, v := range []string{
		"0", "1", "-1", "123456789012345", "9007199254740991", "9007199254740992", "9007199254740993", "18446744073709551615", "18446744073709551616", "99999999999999999999",
		"0.1", "0.3", "3.0000000000000004", "1.7976931348623157e308", "5e-324", "1e22", "1e23", "-1.5e-22", "1e-23", "123456.789e3", "1.4321e9", "0.000000000000000000000000001",
		"1.6e+09", "1.0e0", "4503599627370497.5", "00012", "1e00", "1e000000001", "8.20000000000000000000001", "12345678", "1234567.8", "0.12345678", "123456789.123456", "12345678e1", "1234567812345678", "1234567/", "12345678:", "1234567\x8012",
	} {
		compare(t, wayOf(t, "text"), []byte("m "+v+"\n"))
		compare(t, wayOf(t, "OpenMetrics"), []byte("m "+v+" "+v+"\n# EOF\n"))
	}
}

func TestExpositionsOfExportersReadAsInPrometheus(t *testing.T) {
	for name, body := range corpus(t) {
		for _, w := range ways() {
			t.Run(name+"/"+w.name, func(t *testing.T) { compare(t, w, body) })
		}
	}
}

// corpus is expositions of the three formats.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	files, err := filepath.Glob("../../../internal/expfmt/testdata/*.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no expositions in testdata: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f)] = b
	}
	for name, format := range map[string]expfmt.Format{
		"client text":        expfmt.NewFormat(expfmt.TypeTextPlain),
		"client OpenMetrics": expfmt.NewFormat(expfmt.TypeOpenMetrics),
		"client protobuf":    expfmt.NewFormat(expfmt.TypeProtoDelim),
	} {
		all[name] = clientExposition(t, format)
	}
	return all
}

// clientExposition is what a program with Prometheus' client library answers: every type,
// native and classic histograms, exemplars, start timestamps, names that need quotes.
func clientExposition(t testing.TB, format expfmt.Format) []byte {
	t.Helper()
	r := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "A \"counter\"\nof \\ requests."}, []string{"code", "Path"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "temperature_celsius", Help: "A gauge."})
	quoted := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "a name.with blanks", Help: "Quoted."}, []string{"label.dot"})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "latency_seconds", Objectives: map[float64]float64{0.5: 0.05, 1: 0}})
	classic := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "classic_seconds", Buckets: []float64{0.1, 1, 10}}, []string{"x"})
	native := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "native_seconds", NativeHistogramBucketFactor: 1.1}, []string{"x"})
	both := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "both_seconds", Buckets: []float64{1, 10}, NativeHistogramBucketFactor: 2})
	empty := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "empty_seconds", Buckets: []float64{1}})
	r.MustRegister(counter, gauge, quoted, summary, classic, native, both, empty)
	for i := range 3 {
		c := counter.WithLabelValues(fmt.Sprint(200+i), "/a\"b\\c\nd")
		c.Add(float64(i))
		c.(prometheus.ExemplarAdder).AddWithExemplar(1, prometheus.Labels{"trace_id": fmt.Sprint("t", i)})
		for k := range 20 {
			v := float64(k*k) / 7
			x := fmt.Sprint(i)
			classic.WithLabelValues(x).(prometheus.ExemplarObserver).ObserveWithExemplar(v, prometheus.Labels{"trace_id": fmt.Sprint(k), "b": "c"})
			native.WithLabelValues(x).(prometheus.ExemplarObserver).ObserveWithExemplar(v-3, prometheus.Labels{"trace_id": fmt.Sprint(k)})
			both.Observe(v)
			summary.Observe(v)
		}
	}
	gauge.Set(-12.5)
	quoted.WithLabelValues("é").Set(1)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UnixMilli()
	families[0].Metric[0].TimestampMs = &at
	var out bytes.Buffer
	e := expfmt.NewEncoder(&out, format.WithEscapingScheme(model.NoEscaping), expfmt.WithCreatedLines())
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			t.Fatal(err)
		}
	}
	if c, ok := e.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}
