package delivery

import (
	"encoding/binary"
	"io"
)

// cursor says up to where a queue on disk has been delivered: everything before offset off of
// the segment base, and every earlier segment. A base that no segment has means that all
// earlier ones are done.
type cursor struct {
	generation uint64 // counts the writes; the higher of two slots is the newer one
	base       uint64
	off        int64
}

// The cursor file has two slots, written in turn, so that a write that was cut off leaves the
// previous cursor. They are far enough apart to lie in different disk sectors. The name ends
// in the version of the format, so that versions do not overwrite each other's.
const (
	cursorName     = "cursor-1"
	cursorMagic    = "INGOTCUR"
	cursorSize     = 36
	cursorDistance = 4096
)

func (c cursor) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, cursorMagic...)
	dst = binary.LittleEndian.AppendUint64(dst, c.generation)
	dst = binary.LittleEndian.AppendUint64(dst, c.base)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.off))
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

func parseCursor(b []byte) (cursor, bool) {
	if len(b) != cursorSize || string(b[:8]) != cursorMagic ||
		checksum(b[:cursorSize-4]) != binary.LittleEndian.Uint32(b[cursorSize-4:]) {
		return cursor{}, false
	}
	c := cursor{
		generation: binary.LittleEndian.Uint64(b[8:]),
		base:       binary.LittleEndian.Uint64(b[16:]),
		off:        int64(binary.LittleEndian.Uint64(b[24:])),
	}
	return c, c.off >= 0
}

// readCursor returns the newer of the good slots. Without a good one ok is false: delivery
// then starts at the oldest block, since twice is better than never.
func readCursor(f io.ReaderAt) (newest cursor, ok bool, err error) {
	for slot := range int64(2) {
		b := make([]byte, cursorSize)
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
