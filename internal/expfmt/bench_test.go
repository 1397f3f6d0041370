package expfmt

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// BenchmarkParser reads whole expositions. The two forms are the first scrape of a target,
// where no key is known, and every later one.
func BenchmarkParser(b *testing.B) {
	for name, body := range corpus(b) {
		f := formatOf(name)
		body = repeat(body, 20)
		seed := maphash.MakeSeed()
		keys := hintsOf(b, f, seed, body)
		for _, form := range []struct {
			name  string
			hints []Hint
		}{{"lexed", nil}, {"hinted", keys}} {
			b.Run(name+"/"+form.name, func(b *testing.B) {
				var p Parser
				var e Exemplar
				readAll(&p, &e, f, seed, body, form.hints)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					readAll(&p, &e, f, seed, body, form.hints)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/sample")
			})
		}
		b.Run(name+"/prometheus", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				readTheirs(f, body)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/sample")
		})
	}
}

// BenchmarkLine reads one kind of line over and over, with its key expected.
func BenchmarkLine(b *testing.B) {
	for _, line := range []struct {
		name   string
		format Format
		text   string
	}{
		{"node", Text004, "node_cpu_seconds_total{cpu=\"11\",mode=\"iowait\"} 1234.56\n"},
		{"node16", Text004, "node_cpu_seconds_total{cpu=\"11\",mode=\"idle\"} 9383.497090401628\n"},
		{"nan", Text004, "go_gc_duration_seconds{quantile=\"0.5\"} NaN\n"},
		{"cadvisor", Text004, "container_cpu_usage_seconds_total{container=\"app\",cpu=\"total\",id=\"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod4f426dcb_b394_fb36_bb2d_420f0f88080b.slice/cri-containerd-b774eb5248db40af72158370d269a9a5ae658f33fe3b890b93f448b3a5aa3c81.scope\",image=\"registry.example.org/team/app:v1.0\",name=\"b774eb5248db40af72158370d269a9a5ae658f33fe3b890b93f448b3a5aa3c81\",namespace=\"ns-0\",pod=\"app-4f426dcb\"} 38579.144245 1700000097654\n"},
		{"bytes", Text004, "container_memory_usage_bytes{container=\"app\",namespace=\"ns-0\",pod=\"app-4f426dcb\"} 1.34217728e+08 1700000097654\n"},
		{"openmetrics", OpenMetrics100, "http_requests_total{code=\"200\",method=\"GET\"} 12345\n"},
		{"exemplar", OpenMetrics100, "http_request_duration_seconds_bucket{code=\"200\",method=\"GET\",le=\"0.1\"} 12345 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 0.054 1700000097.654\n"},
		{"type", Text004, "# TYPE http_request_duration_seconds histogram\n"},
		{"help", Text004, "# HELP http_request_duration_seconds How long it took to answer, by code and method.\n"},
	} {
		b.Run(line.name, func(b *testing.B) {
			const n = 1000
			body := []byte(strings.Repeat(line.text, n) + "# EOF\n")
			seed := maphash.MakeSeed()
			hints := hintsOf(b, line.format, seed, body)
			var p Parser
			var e Exemplar
			readAll(&p, &e, line.format, seed, body, hints)
			b.ReportAllocs()
			for b.Loop() {
				readAll(&p, &e, line.format, seed, body, hints)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/line")
		})
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	for name, body := range corpus(t) {
		f := formatOf(name)
		seed := maphash.MakeSeed()
		keys := hintsOf(t, f, seed, body)
		for _, created := range []bool{false, f == OpenMetrics100} {
			var e Exemplar
			p := Parser{Options: Options{Created: created}}
			for _, hints := range [][]Hint{nil, keys} {
				readAll(&p, &e, f, seed, body, hints)
				if n := testing.AllocsPerRun(10, func() { readAll(&p, &e, f, seed, body, hints) }); n != 0 {
					t.Errorf("reading %s with %d hints, starts %v, allocates %v times, want 0", name, len(hints), created, n)
				}
			}
		}
	}
}

// repeat puts a body n times into one, with one end.
func repeat(body []byte, n int) []byte {
	end := []byte("# EOF\n")
	if !bytes.HasSuffix(body, end) {
		return bytes.Repeat(body, n)
	}
	return append(bytes.Repeat(bytes.TrimSuffix(body, end), n), end...)
}

func hintsOf(t testing.TB, f Format, seed maphash.Seed, body []byte) (all []Hint) {
	t.Helper()
	var p Parser
	p.Reset(f, seed)
	p.Feed(body, true)
	for {
		kind, err := p.Next(Hint{})
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind == KindSample {
			all = append(all, Hint{Hash: p.Hash(), Len: len(p.Key())})
		}
	}
}

// readAll reads body to its end, exemplars included; it must be valid.
func readAll(p *Parser, e *Exemplar, f Format, seed maphash.Seed, body []byte, hints []Hint) {
	p.Reset(f, seed)
	p.Feed(body, true)
	var hint Hint
	n := 0
	if len(hints) > 0 {
		hint = hints[0]
	}
	for {
		kind, err := p.Next(hint)
		if err == io.EOF { //nolint:errorlint // The hot path as callers write it.
			return
		}
		if err != nil {
			panic(err)
		}
		if kind == KindSample {
			if n++; n < len(hints) {
				hint = hints[n]
			}
			if f == OpenMetrics100 {
				for p.Exemplar(e) {
				}
			}
		}
	}
}

// readTheirs does the same with Prometheus' parser.
func readTheirs(f Format, body []byte) {
	var p textparse.Parser
	if f == OpenMetrics100 {
		p = textparse.NewOpenMetricsParser(body, labels.NewSymbolTable())
	} else {
		p = textparse.NewPromParser(body, nil, false)
	}
	var e exemplar.Exemplar
	for {
		kind, err := p.Next()
		if err != nil {
			return
		}
		if kind == textparse.EntrySeries && f == OpenMetrics100 {
			p.Exemplar(&e)
		}
	}
}
