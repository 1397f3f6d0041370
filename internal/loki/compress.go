package loki

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

const (
	// pieceSize is how much is compressed at a time, which bounds the scratch. Matches do not
	// reach over a piece; with the whole MiB of a usual request bodies are 2 % smaller and
	// compressed a little slower.
	pieceSize = 352 << 10
	// chunkSize is the unit in which bodies are held.
	chunkSize = 32 << 10
	// freeChunks bounds the chunks that are kept for the next bodies, of usually 8 each.
	freeChunks = 32
)

// compressor makes bodies in snappy's block format of requests. The zero value is ready. One
// goroutine at a time calls it, whereas the memory comes back from any.
type compressor struct {
	scratch []byte

	mu   sync.Mutex
	free [][]byte
}

// body compresses a request, which it does not keep.
func (c *compressor) body(raw []byte) *delivery.Body {
	// A block is the length of the content and elements, literals and copies of what came
	// before. Copies stay within their piece, so the elements of pieces may follow each other.
	chunks := [][]byte{binary.AppendUvarint(nil, uint64(len(raw)))}
	var last []byte
	for piece := range slices.Chunk(raw, pieceSize) {
		if n := s2.MaxEncodedLen(len(piece)); cap(c.scratch) < n {
			c.scratch = make([]byte, n)
		}
		enc := s2.EncodeSnappy(c.scratch[:cap(c.scratch)], piece)
		_, n := binary.Uvarint(enc)
		for enc = enc[n:]; len(enc) > 0; {
			if len(last) == cap(last) {
				if last != nil {
					chunks = append(chunks, last)
				}
				last = c.chunk()
			}
			n := copy(last[len(last):cap(last)], enc)
			last, enc = last[:len(last)+n], enc[n:]
		}
	}
	if len(last) < chunkSize/2 { // A queue may keep it for long.
		own := slices.Clone(last)
		c.put(last)
		last = own
	}
	return delivery.NewBody(c.put, append(chunks, last)...)
}

func (c *compressor) chunk() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.free)
	if n == 0 {
		return make([]byte, 0, chunkSize)
	}
	b := c.free[n-1]
	c.free[n-1] = nil
	c.free = c.free[:n-1]
	return b
}

// put takes a chunk back. Others than those of chunk are left to the garbage collector.
func (c *compressor) put(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(b) == chunkSize && len(c.free) < freeChunks {
		c.free = append(c.free, b[:0])
	}
}
