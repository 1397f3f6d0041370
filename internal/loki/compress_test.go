package loki

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/klauspost/compress/s2"
)

func TestBodiesOfAnySizeAreOneBlockOfSnappy(t *testing.T) {
	var c compressor
	var raw []byte
	for i := range 60_000 {
		raw = fmt.Appendf(raw, "line %d of a log with numbers that differ %x\n", i, uint64(i)*0x9e3779b97f4a7c15)
	}
	for _, n := range []int{1, 100, chunkSize - 1, chunkSize, pieceSize - 1, pieceSize, pieceSize + 1, 1 << 20, len(raw)} {
		body := c.body(raw[:n])
		got, err := s2.Decode(nil, body.AppendTo(nil))
		if err != nil || !bytes.Equal(got, raw[:n]) {
			t.Errorf("%d bytes came back as %d: %v", n, len(got), err)
		}
		body.Release()
	}
	if n := len(c.free); n == 0 || n > freeChunks {
		t.Errorf("%d chunks are kept, want some and at most %d", n, freeChunks)
	}
}

func BenchmarkCompress(b *testing.B) {
	var raw []byte
	for i := 0; len(raw) < 1<<20; i++ {
		raw = fmt.Appendf(raw, `10.0.7.%d - - "GET /api/v1/items/%d?page=3 HTTP/1.1" 200 %d "-" "Mozilla/5.0 (X11; Linux x86_64)" trace=%016x`, i%250, i*7919%10007, i*31%5000, uint64(i)*0x9e3779b97f4a7c15)
	}
	var c compressor
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		body := c.body(raw)
		b.ReportMetric(float64(len(raw))/float64(body.Len()), "ratio")
		body.Release()
	}
}
