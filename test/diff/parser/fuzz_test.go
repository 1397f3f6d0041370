package parser_test

import (
	"bytes"
	"testing"
)

// Zero bytes are left out where Prometheus' lexers skip them in the middle of keywords and
// behind closing quotes, which nothing relies on. The cases that matter are in the tests.

func FuzzText(f *testing.F) {
	for _, l := range lines() {
		f.Add([]byte(l), false)
	}
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte, converted bool) {
		if bytes.IndexByte(b, 0) >= 0 {
			return
		}
		name := "text"
		if converted {
			name = "text converted"
		}
		compare(t, wayOf(t, name), b)
	})
}

func FuzzOpenMetrics(f *testing.F) {
	for _, l := range strictLines() {
		f.Add([]byte(l), false)
		f.Add([]byte(l+"# EOF\n"), true)
	}
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte, created bool) {
		if bytes.IndexByte(b, 0) >= 0 {
			return
		}
		name := "OpenMetrics"
		if created {
			name = "OpenMetrics with start"
		}
		compare(t, wayOf(t, name), b)
	})
}

func FuzzProtobuf(f *testing.F) {
	for _, body := range corpus(f) {
		f.Add(body, uint8(0))
	}
	var protobuf []way
	for _, w := range ways() {
		if w.content == "application/vnd.google.protobuf" {
			protobuf = append(protobuf, w)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) { compare(t, protobuf[int(n)%len(protobuf)], b) })
}

func seed(f *testing.F) {
	f.Helper()
	for _, body := range corpus(f) {
		f.Add(body[:min(len(body), 2000)], false)
		f.Add(body[:min(len(body), 2000)], true)
	}
}
