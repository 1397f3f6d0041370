package expfmt

import (
	"bytes"
	"testing"
)

// FuzzParser compares with Prometheus' parser. Zero bytes are left out: its lexer skips them
// in the middle of keywords and behind closing quotes, which nothing relies on. The cases
// that matter are in TestVerdictsAreThoseOfPrometheus.
func FuzzParser(f *testing.F) {
	for _, l := range lines() {
		f.Add([]byte(l))
	}
	for _, body := range corpus(f) {
		f.Add(body[:min(len(body), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.IndexByte(b, 0) >= 0 {
			_, _ = ours(t, b)
			return
		}
		compare(t, b)
	})
}
