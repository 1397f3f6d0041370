package delivery

import (
	"encoding/binary"
	"io"
)

// cursor says up to where a queue on disk has been delivered: everything before offset off of
// the segment base, and every earlier segment. A base that no segment has means that all
// earlier ones are done. Shards do not wait for each other, so blocks behind that place may be
// delivered as well.
type cursor struct {
	generation uint64 // counts the writes; the higher of two slots is the newer one
	base       uint64
	off        int64
	settled    []uint64 // sequence numbers of blocks behind off that are done with, ascending
}

// The cursor file has two slots, written in turn, so that a write that was cut off leaves the
// previous cursor. They lie in different disk sectors. The name ends in the version of the
// format, so that versions do not overwrite each other's. A slot is, in little-endian,
//
//	"INGOTCUR" | generation, base, off, origin u64 | count u32 | count times u32 | crc u32
//
// where the numbers added to origin are the sequence numbers of settled blocks.
const (
	cursorName     = "cursor-2"
	cursorMagic    = "INGOTCUR"
	cursorHead     = 44
	cursorDistance = 4096
	// maxSettled is how many settled blocks fit in a slot. More than that are sent again after
	// a kill; maxAhead sees to it that there are not.
	maxSettled = (cursorDistance - cursorHead - 4) / 4
)

func (c cursor) append(dst []byte) []byte {
	var origin uint64
	if len(c.settled) > 0 {
		origin = c.settled[0]
	}
	kept := c.settled[:min(len(c.settled), maxSettled)]
	for len(kept) > 0 && kept[len(kept)-1]-origin > 1<<32-1 {
		kept = kept[:len(kept)-1]
	}
	start := len(dst)
	dst = append(dst, cursorMagic...)
	for _, v := range [...]uint64{c.generation, c.base, uint64(c.off), origin} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(kept)))
	for _, seq := range kept {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(seq-origin))
	}
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

// parseCursor reads a slot; what follows the cursor in b does not matter.
func parseCursor(b []byte) (cursor, bool) {
	if len(b) < cursorHead+4 || string(b[:8]) != cursorMagic {
		return cursor{}, false
	}
	count := int64(binary.LittleEndian.Uint32(b[40:]))
	end := cursorHead + 4*count
	if end+4 > int64(len(b)) || checksum(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return cursor{}, false
	}
	c := cursor{
		generation: binary.LittleEndian.Uint64(b[8:]),
		base:       binary.LittleEndian.Uint64(b[16:]),
		off:        int64(binary.LittleEndian.Uint64(b[24:])),
	}
	origin := binary.LittleEndian.Uint64(b[32:])
	for at := int64(cursorHead); at < end; at += 4 {
		c.settled = append(c.settled, origin+uint64(binary.LittleEndian.Uint32(b[at:])))
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
