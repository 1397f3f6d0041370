package remotewrite

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

const (
	// pieceBytes is how much is compressed at a time. Matches do not reach over a piece, so what
	// a larger piece gains depends on how far apart repetitions are: those of cAdvisor, where
	// all containers stand between two families, are about 50 KiB. Over a mix as of a cluster a
	// sample comes to 52.5 bytes with 192 KiB, to 49 with this and to 46 with 768 KiB, but
	// every scrape under way holds a piece.
	pieceBytes = 352 << 10
	// pieceSlack is room for the sample that makes a piece full.
	pieceSlack = pieceBytes / 16
	// ownPiece is how much a transaction has to leave over at its end to be compressed alone, in
	// bytes. What is less waits in the shard to share a piece with others.
	ownPiece = 64 << 10
	// maxPieceEncoded is the most that snappy makes of a piece, known from its format.
	maxPieceEncoded = 32 + (pieceBytes + pieceSlack) + (pieceBytes+pieceSlack)/6
	// maxSent ends a request that has this size after compression: many gateways refuse more
	// than 1 MB, and one more piece may follow.
	maxSent = 700 << 10
	// maxZstdBytes ends a request before compression by zstd, which holds it as a whole.
	maxZstdBytes = 2 << 20
)

// A body in the block format of snappy is the length of the content followed by elements:
// literals, and copies of what came before. The elements of pieces that were compressed one by
// one may stand one behind the other, since copies never reach back over their own piece. So
// pieces are compressed as they become full, and the length is put in front at the end.

// appendElements compresses src, in pieces, and appends the elements without a length.
func appendElements(dst *chain, buf *buffers, src []byte) {
	for piece := range slices.Chunk(src, pieceBytes+pieceSlack) {
		scratch := buf.scratch.get()
		enc := s2.EncodeSnappy(scratch[:cap(scratch)], piece)
		_, n := binary.Uvarint(enc)
		dst.write(buf.chunks, enc[n:])
		buf.scratch.put(scratch[:0])
	}
}

// newBody makes a body of the elements, behind the length of the content. The body takes over
// the chunks of the chain, which is empty then, and returns them to their list when it is
// delivered. A queue may keep it for long, so a last chunk that is mostly empty is left out of
// that: its content moves to memory of its own size.
func newBody(size int, elements *chain, buf *buffers) *delivery.Body {
	chunks := make([][]byte, 0, 1+len(elements.chunks))
	chunks = append(chunks, binary.AppendUvarint(nil, uint64(size)))
	chunks = append(chunks, elements.chunks...)
	if last := chunks[len(chunks)-1]; len(last) < chunkSize/2 && cap(last) == chunkSize {
		chunks[len(chunks)-1] = slices.Clone(last)
		buf.chunks.put(last[:0])
	}
	clear(elements.chunks)
	elements.chunks, elements.size = elements.chunks[:0], 0
	return delivery.NewBody(buf.freeChunk, chunks...)
}

// encodeBody compresses a whole request.
func encodeBody(format byte, raw []byte) ([]byte, error) {
	if format == Format1Zstd {
		enc, err := newZstd()
		if err != nil {
			return nil, err
		}
		return enc.EncodeAll(raw, nil), nil
	}
	return s2.EncodeSnappy(nil, raw), nil
}

const (
	// maxDecoded bounds what a body may decompress to. No request of ours comes near.
	maxDecoded = 256 << 20
	// maxSnappyRatio is more than snappy can reach: 64 bytes by a copy of three.
	maxSnappyRatio = 22
)

// decodeBody decompresses a request.
func decodeBody(format byte, body []byte) ([]byte, error) {
	if format == Format1Zstd {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecoded), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer dec.Close()
		raw, err := dec.DecodeAll(body, nil)
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return raw, nil
	}
	n, err := s2.DecodedLen(body)
	if err != nil || n > maxDecoded || n > maxSnappyRatio*len(body) {
		return nil, fmt.Errorf("snappy: a content of %d bytes is announced: %w", n, s2.ErrCorrupt)
	}
	raw, err := s2.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	return raw, nil
}

// newZstd returns an encoder for whole requests. One frame with its size in front is what
// every reader takes.
func newZstd() (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return enc, nil
}

// transcoder makes zstd of bodies in snappy, the form in which requests grow.
type transcoder struct {
	zstd             *zstd.Encoder
	snappy, raw, out []byte // scratch
}

// transcode takes over the body.
func (t *transcoder) transcode(body *delivery.Body) (*delivery.Body, error) {
	t.snappy = body.AppendTo(t.snappy[:0])
	body.Release()
	if t.zstd == nil {
		var err error
		if t.zstd, err = newZstd(); err != nil {
			return nil, err
		}
	}
	raw, err := s2.Decode(t.raw[:cap(t.raw)], t.snappy)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if cap(raw) <= 2*maxZstdBytes {
		t.raw = raw
	}
	t.out = t.zstd.EncodeAll(raw, t.out[:0])
	return delivery.NewBody(nil, slices.Clone(t.out)), nil // Of its own size, since a queue may keep it for long.
}
