package expfmt

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/prometheus/prometheus/model/textparse"
)

// BenchmarkParser reads whole expositions. The two forms are the first scrape of a target,
// where no key is known, and every later one.
func BenchmarkParser(b *testing.B) {
	for name, body := range corpus(b) {
		body = bytes.Repeat(body, 20)
		keys := keysOf(b, body)
		for _, form := range []struct {
			name  string
			hints []string
		}{{"lexed", nil}, {"hinted", keys}} {
			b.Run(name+"/"+form.name, func(b *testing.B) {
				var p Parser
				readAll(&p, body, form.hints)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					readAll(&p, body, form.hints)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/sample")
			})
		}
		b.Run(name+"/prometheus", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				p := textparse.NewPromParser(body, nil, false)
				for {
					if _, err := p.Next(); err != nil {
						break
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(keys)), "ns/sample")
		})
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	for name, body := range corpus(t) {
		keys := keysOf(t, body)
		var p Parser
		for _, hints := range [][]string{nil, keys} {
			readAll(&p, body, hints)
			if n := testing.AllocsPerRun(10, func() { readAll(&p, body, hints) }); n != 0 {
				t.Errorf("reading %s with %d hints allocates %v times, want 0", name, len(hints), n)
			}
		}
	}
}

func keysOf(t testing.TB, body []byte) (keys []string) {
	t.Helper()
	var p Parser
	p.Reset(body)
	for {
		kind, err := p.Next("")
		if errors.Is(err, io.EOF) {
			return keys
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind == KindSample {
			keys = append(keys, string(p.Key()))
		}
	}
}

// readAll reads body to its end; it must be valid.
func readAll(p *Parser, body []byte, hints []string) {
	p.Reset(body)
	hint, n := "", 0
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
		}
	}
}
