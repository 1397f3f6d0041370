package delivery

import (
	"encoding/binary"
	"io"
	"math"
)

// cursor says up to where a queue on disk has been delivered: everything before offset off of
// the segment base, and every earlier segment. A base that no segment has means that all
// earlier ones are done. Shards do not wait for each other, so blocks behind that place may be
// delivered as well, or a part of one whose body had to be divided.
type cursor struct {
	generation uint64 // counts the writes; the higher of two slots is the newer one
	base       uint64
	off        int64
	settled    []uint64  // sequence numbers of blocks behind off that are done with, ascending
	begun      []begun   // blocks of which a part is done with
	refused    []refusal // what the endpoint does not take
	skipped    []uint64  // earlier segments that could not be read, and are not done with
}

// begun is how much of a block is done with: its first items, in the order of its body.
type begun struct {
	seq          uint64
	items, bytes int64
}

// of returns the part of a record that is done with, which is never all of it.
func (b begun) of(r record) Amount {
	return Amount{Items: min(b.items, max(r.items-1, 0)), Bytes: min(b.bytes, r.length)}
}

// refusal is when the endpoint has last refused a format.
type refusal struct {
	format byte
	at     int64 // ms since the Unix epoch
}

// The cursor file has two slots, written in turn, so that a write that was cut off leaves the
// previous cursor. They lie in different disk sectors, and no more is written of one than it
// needs. The name ends in the version of the
// format, so that versions do not overwrite each other's. A slot is, in little-endian,
//
//	"INGOTCUR" | generation, base, off, origin u64 | settled, begun, refused, skipped u32 |
//	settled times: number u32 |
//	begun times:   number, items, bytes u32 |
//	refused times: format u32, at ms i64 |
//	skipped times: base u64 | crc u32
//
// where the numbers added to origin are the sequence numbers of blocks.
const (
	cursorName     = "cursor-3"
	cursorMagic    = "INGOTCUR"
	cursorHead     = 56
	cursorDistance = 5 * 4096
	// maxBegun and maxRefused are more than a queue has shards and an endpoint formats.
	maxBegun   = 24
	maxRefused = 4
	maxSkipped = 64
	// maxSettled is how many settled blocks fit in a slot. More than that are sent again after
	// a kill; maxAhead sees to it that there are not.
	maxSettled = (cursorDistance - cursorHead - 12*maxBegun - 12*maxRefused - 8*maxSkipped - 4) / 4
)

func (c cursor) append(dst []byte) []byte {
	origin := uint64(math.MaxUint64)
	if len(c.settled) > 0 {
		origin = c.settled[0]
	}
	for _, b := range c.begun {
		origin = min(origin, b.seq)
	}
	settled := c.settled[:min(len(c.settled), maxSettled)]
	for len(settled) > 0 && settled[len(settled)-1]-origin > math.MaxUint32 {
		settled = settled[:len(settled)-1]
	}
	parts := c.begun[:min(len(c.begun), maxBegun)]
	for len(parts) > 0 && parts[len(parts)-1].seq-origin > math.MaxUint32 {
		parts = parts[:len(parts)-1]
	}
	refused := c.refused[:min(len(c.refused), maxRefused)]
	skipped := c.skipped[:min(len(c.skipped), maxSkipped)]
	start := len(dst)
	dst = append(dst, cursorMagic...)
	for _, v := range [...]uint64{c.generation, c.base, uint64(c.off), origin} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	for _, n := range [...]int{len(settled), len(parts), len(refused), len(skipped)} {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	}
	for _, seq := range settled {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(seq-origin))
	}
	for _, b := range parts {
		for _, v := range [...]uint64{b.seq - origin, uint64(b.items), uint64(b.bytes)} {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
		}
	}
	for _, r := range refused {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(r.format))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.at))
	}
	for _, base := range skipped {
		dst = binary.LittleEndian.AppendUint64(dst, base)
	}
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

// parseCursor reads a slot; what follows the cursor in b does not matter.
func parseCursor(b []byte) (cursor, bool) {
	if len(b) < cursorHead+4 || string(b[:8]) != cursorMagic {
		return cursor{}, false
	}
	word := func(at int64) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	half := func(at int64) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }
	begunAt := cursorHead + 4*int64(half(40))
	refusedAt := begunAt + 12*int64(half(44))
	skippedAt := refusedAt + 12*int64(half(48))
	end := skippedAt + 8*int64(half(52))
	if end+4 > int64(len(b)) || uint64(checksum(b[:end])) != half(end) {
		return cursor{}, false
	}
	c := cursor{generation: word(8), base: word(16), off: int64(word(24))}
	origin := word(32)
	for at := int64(cursorHead); at < begunAt; at += 4 {
		c.settled = append(c.settled, origin+half(at))
	}
	for at := begunAt; at < refusedAt; at += 12 {
		c.begun = append(c.begun, begun{seq: origin + half(at), items: int64(half(at + 4)), bytes: int64(half(at + 8))})
	}
	for at := refusedAt; at < skippedAt; at += 12 {
		c.refused = append(c.refused, refusal{format: b[at], at: int64(word(at + 4))})
	}
	for at := skippedAt; at < end; at += 8 {
		c.skipped = append(c.skipped, word(at))
	}
	return c, c.off >= 0
}

// readCursor returns the newer of the good slots. Without a good one ok is false: delivery
// then starts at the oldest block, since twice is better than never.
func readCursor(f io.ReaderAt) (newest cursor, ok bool, err error) {
	b := make([]byte, cursorDistance)
	for slot := range int64(2) {
		n, err := readAt(f, b, slot*cursorDistance)
		if err != nil {
			return cursor{}, false, err
		}
		if c, good := parseCursor(b[:n]); good && (!ok || c.generation > newest.generation) {
			newest, ok = c, true
		}
	}
	return newest, ok, nil
}

// writeCursor writes c into the slot of its generation.
func writeCursor(f io.WriterAt, c cursor) error {
	_, err := f.WriteAt(c.append(nil), int64(c.generation%2)*cursorDistance)
	return err
}
