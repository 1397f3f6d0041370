package delivery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// A segment is a file of records. Numbers are little-endian, checksums are CRC-32C.
//
//	file header, 32 bytes: "INGOTSEG" | version u32 | base u64 | created ms i64 | crc u32
//	record header, 48:     "IGR\x02" | length, offset, items u32 | seq u64 | time ms i64 |
//	                       shard u32 | format u8, 3 zero bytes | body crc u32 |
//	                       header crc u32; the body follows
//	trailer, 64 bytes:     "ENDINGOT" | end of records, items, bytes, last seq u64 |
//	                       oldest, newest ms i64 | blocks u32 | crc u32
//
// base is the number of the segment, which its name has too. Segments and blocks are numbered
// together, so a segment's number is unique and higher than those of all that came before.
// Every version to come keeps the first 32 bytes, so that an older program can tell a newer file from a
// damaged one. The trailer exists in finished files only and spares reading them at a start.
//
// The header of a record carries its own offset, and base goes into its checksum: what looks
// like a record inside a body, in a copied file or behind damage is never taken for one. Body
// and header have checksums of their own, so that a flipped bit in a body costs exactly that
// record and its header still tells how many items are lost.
const (
	segmentVersion = 2
	segmentMagic   = "INGOTSEG"
	recordMagic    = "IGR\x02"
	trailerMagic   = "ENDINGOT"

	segmentHeaderSize = 32
	recordHeaderSize  = 48
	trailerSize       = 64
)

var (
	errNewer   = errors.New("the file was written by a newer version")
	errOlder   = errors.New("the file was written by an older version, before the first release")
	errForeign = errors.New("the file is not a queue segment")
	errCursor  = errors.New("the file is the cursor of another version")
	errEmpty   = errors.New("the segment has no records")
	errCut     = errors.New("the segment has no bytes left, what it held is lost")
	errMissing = errors.New("the segment is gone, what was left of it is lost")
)

func checksum(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // Made once, by the package.
	sum := uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// seed is what goes into every checksum of a segment before the bytes themselves.
func seed(base uint64) []byte { return binary.LittleEndian.AppendUint64(nil, base) }

func segmentHeader(base uint64, created time.Time) []byte {
	dst := append(make([]byte, 0, segmentHeaderSize), segmentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, segmentVersion)
	dst = binary.LittleEndian.AppendUint64(dst, base)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(created.UnixMilli()))
	return binary.LittleEndian.AppendUint32(dst, checksum(dst))
}

// checkSegmentHeader returns errNewer or errOlder for an intact header of another version and
// errForeign for anything that is not an intact header of this version and this base.
func checkSegmentHeader(b []byte, base uint64) error {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic ||
		checksum(b[:segmentHeaderSize-4]) != binary.LittleEndian.Uint32(b[segmentHeaderSize-4:]) {
		return errForeign
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > segmentVersion {
		return fmt.Errorf("%w: format %d, this program knows %d", errNewer, v, segmentVersion)
	} else if v < segmentVersion {
		return fmt.Errorf("%w: format %d, this program knows %d", errOlder, v, segmentVersion)
	}
	if binary.LittleEndian.Uint64(b[12:]) != base {
		return errForeign
	}
	return nil
}

// record is the header of one block in a segment.
type record struct {
	at     int64 // offset of the header in the file
	length int64 // of the body
	seq    uint64
	items  int64
	time   int64 // ms since the Unix epoch, when the block was finished
	shard  uint32
	format byte
	crc    uint32
}

func (r record) end() int64     { return r.at + recordHeaderSize + r.length }
func (r record) amount() Amount { return Amount{Blocks: 1, Items: r.items, Bytes: r.length} }

// appendRecord appends a block as a record that will stand at offset at.
func appendRecord(dst []byte, base uint64, at int64, seq uint64, b Block) []byte {
	start := len(dst)
	dst = append(dst, recordMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Body.Len()))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(at))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Items))
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.Time.UnixMilli()))
	dst = binary.LittleEndian.AppendUint32(dst, b.Shard)
	dst = append(dst, b.Format, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, checksum(b.Body.chunks...))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(seed(base), dst[start:]))
	return b.Body.AppendTo(dst)
}

// parseRecord reads the header of a record at offset at of a file whose records end at end.
func parseRecord(b []byte, base uint64, at, end int64) (record, bool) {
	if len(b) < recordHeaderSize || string(b[:4]) != recordMagic ||
		checksum(seed(base), b[:recordHeaderSize-4]) != binary.LittleEndian.Uint32(b[recordHeaderSize-4:]) {
		return record{}, false
	}
	r := record{
		at:     at,
		length: int64(binary.LittleEndian.Uint32(b[4:])),
		items:  int64(binary.LittleEndian.Uint32(b[12:])),
		seq:    binary.LittleEndian.Uint64(b[16:]),
		time:   int64(binary.LittleEndian.Uint64(b[24:])),
		shard:  binary.LittleEndian.Uint32(b[32:]),
		format: b[36],
		crc:    binary.LittleEndian.Uint32(b[40:]),
	}
	if uint32(at) != binary.LittleEndian.Uint32(b[8:]) || r.end() > end || b[37]|b[38]|b[39] != 0 {
		return record{}, false
	}
	return r, true
}

// nextRecord finds the first record that starts at or after from and ends by end. Where a
// header is damaged it looks for the next good one. ok is false when there is none left.
func nextRecord(f io.ReaderAt, base uint64, from, end int64) (r record, ok bool, err error) {
	var header [recordHeaderSize]byte
	if r, ok, err = recordAt(f, header[:], base, from, end); ok || err != nil {
		return r, ok, err
	}
	chunk := make([]byte, 64<<10)
	for from++; from+recordHeaderSize <= end; {
		n, err := readAt(f, chunk[:min(int64(len(chunk)), end-from)], from)
		if err != nil {
			return record{}, false, err
		}
		if n < recordHeaderSize {
			break
		}
		i := bytes.Index(chunk[:n], []byte(recordMagic))
		if i < 0 {
			from += int64(n - len(recordMagic) + 1)
			continue
		}
		from += int64(i)
		if r, ok, err = recordAt(f, header[:], base, from, end); ok || err != nil {
			return r, ok, err
		}
		from++
	}
	return record{}, false, nil
}

func recordAt(f io.ReaderAt, header []byte, base uint64, at, end int64) (record, bool, error) {
	if at+recordHeaderSize > end {
		return record{}, false, nil
	}
	n, err := readAt(f, header, at)
	if err != nil {
		return record{}, false, err
	}
	r, ok := parseRecord(header[:n], base, at, end)
	return r, ok, nil
}

// readBody reads the body of a record. It is intact if it is whole and its checksum matches.
func readBody(f io.ReaderAt, r record) (body []byte, intact bool, err error) {
	body = make([]byte, r.length)
	n, err := readAt(f, body, r.at+recordHeaderSize)
	if err != nil {
		return nil, false, err
	}
	return body, n == len(body) && checksum(body) == r.crc, nil
}

// readAt is ReadAt for which the end of the file is a short read and no error.
func readAt(f io.ReaderAt, b []byte, at int64) (int, error) {
	n, err := f.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// contents is what a segment, or the part of it from some offset on, holds.
type contents struct {
	amount         Amount
	last           uint64 // sequence number of the last record
	oldest, newest int64  // ms since the Unix epoch
	end            int64  // where the last record ends
	gaps           int64  // between records, where damaged ones must be that no amount tells of
	torn           bool   // something follows the last record that is no trailer
}

// damaged returns how many records at least are damaged and not part of the amount.
func (c *contents) damaged() int64 {
	if c.torn {
		return c.gaps + 1
	}
	return c.gaps
}

func (c *contents) add(r record) {
	if c.amount.Blocks == 0 || r.time < c.oldest {
		c.oldest = r.time
	}
	if c.amount.Blocks == 0 || r.time > c.newest {
		c.newest = r.time
	}
	c.amount.add(r.amount())
	c.last, c.end = r.seq, r.end()
}

// appendTrailer appends the trailer of a segment that holds c.
func appendTrailer(dst []byte, base uint64, c contents) []byte {
	start := len(dst)
	dst = append(dst, trailerMagic...)
	for _, v := range [...]uint64{uint64(c.end), uint64(c.amount.Items), uint64(c.amount.Bytes), c.last, uint64(c.oldest), uint64(c.newest)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.amount.Blocks))
	return binary.LittleEndian.AppendUint32(dst, checksum(seed(base), dst[start:]))
}

// parseTrailer reads the trailer in the last bytes of a file.
func parseTrailer(b []byte, base uint64, fileSize int64) (contents, bool) {
	if len(b) != trailerSize || string(b[:8]) != trailerMagic ||
		checksum(seed(base), b[:trailerSize-4]) != binary.LittleEndian.Uint32(b[trailerSize-4:]) {
		return contents{}, false
	}
	word := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[8+8*i:])) }
	c := contents{
		end:    word(0),
		amount: Amount{Items: word(1), Bytes: word(2), Blocks: int64(binary.LittleEndian.Uint32(b[56:]))},
		last:   uint64(word(3)),
		oldest: word(4),
		newest: word(5),
	}
	return c, c.end == fileSize-trailerSize
}

// inspect finds out what a segment file of the given size holds from an offset on (0 for all
// of it). A finished file costs two reads, one that was cut off by a crash, or that is read
// from the middle, one for each record. The error is errForeign, errNewer, errOlder, errEmpty, errCut
// or one of the disk.
func inspect(f io.ReaderAt, base uint64, size, from int64) (contents, error) {
	head := make([]byte, segmentHeaderSize)
	n, err := readAt(f, head, 0)
	if err != nil {
		return contents{}, err
	}
	headErr := checkSegmentHeader(head[:n], base)
	if errors.Is(headErr, errNewer) || errors.Is(headErr, errOlder) {
		return contents{}, headErr
	}
	end := size
	if tail := make([]byte, trailerSize); size >= segmentHeaderSize+trailerSize {
		if n, err = readAt(f, tail, size-trailerSize); err != nil {
			return contents{}, err
		}
		if c, ok := parseTrailer(tail[:n], base, size); ok {
			if from <= segmentHeaderSize {
				return c, nil
			}
			end = c.end
		}
	}
	c, err := walk(f, base, max(from, segmentHeaderSize), end)
	switch {
	case err != nil:
		return contents{}, err
	case c.amount.Blocks > 0:
		return c, nil
	case size == 0:
		return contents{}, errCut // The header is written as soon as the file is there.
	case headErr != nil:
		return contents{}, headErr // A damaged file of ours without one good record, or not ours.
	}
	return c, errEmpty
}

// walk reads the headers of all records between from and end.
func walk(f io.ReaderAt, base uint64, from, end int64) (contents, error) {
	c := contents{end: min(from, end)}
	for at := from; ; {
		r, ok, err := nextRecord(f, base, at, end)
		if err != nil {
			return contents{}, err
		}
		if !ok {
			break
		}
		if r.at != at {
			c.gaps++
		}
		c.add(r)
		at = r.end()
	}
	if c.end < end {
		rest := make([]byte, min(end-c.end, int64(len(trailerMagic))))
		n, err := readAt(f, rest, c.end)
		if err != nil {
			return contents{}, err
		}
		// A trailer that was cut or damaged is not a lost record.
		c.torn = end-c.end > trailerSize || !bytes.HasPrefix([]byte(trailerMagic), rest[:n])
	}
	return c, nil
}
