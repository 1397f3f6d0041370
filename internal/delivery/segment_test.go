package delivery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// image builds the file of a segment with n blocks and returns where its records end.
func image(base uint64, n, size int, trailer bool) (file []byte, ends []int64) {
	file = segmentHeader(base, time.UnixMilli(1_700_000_000_000))
	var c contents
	for i := range n {
		at := int64(len(file))
		b := block(i, size+i)
		b.Time = time.UnixMilli(1_700_000_000_000 + int64(i))
		file = appendRecord(file, base, at, base+uint64(i), b)
		r, ok := parseRecord(file[at:], base, at, int64(len(file)))
		if !ok {
			panic("a record that was just written is not one")
		}
		c.add(r)
		ends = append(ends, r.end())
	}
	if trailer {
		file = appendTrailer(file, base, c)
	}
	return file, ends
}

// readAll returns the ids of all intact blocks and the number of damaged bodies.
func readAll(t *testing.T, file []byte, base uint64) (ids []int, damaged int) {
	t.Helper()
	f := bytes.NewReader(file)
	for at := int64(segmentHeaderSize); ; {
		r, ok, err := nextRecord(f, base, at, int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return ids, damaged
		}
		body, intact, err := readBody(f, r)
		if err != nil {
			t.Fatal(err)
		}
		at = r.end()
		if !intact {
			damaged++
			continue
		}
		id, ok := idOf(body)
		if !ok || r.items != int64(id%7+1) || len(body) != int(r.length) {
			t.Fatalf("a block came back that was never written: %+v %.40q", r, body)
		}
		ids = append(ids, id)
	}
}

func TestSegmentGivesBackWhatWasWritten(t *testing.T) {
	for _, trailer := range []bool{false, true} {
		file, ends := image(42, 9, 100, trailer)
		if ids, damaged := readAll(t, file, 42); len(ids) != 9 || damaged != 0 {
			t.Errorf("read %v and %d damaged, want 9 blocks", ids, damaged)
		}
		c, err := inspect(bytes.NewReader(file), 42, int64(len(file)), 0)
		want := contents{amount: Amount{Blocks: 9, Items: 1 + 2 + 3 + 4 + 5 + 6 + 7 + 1 + 2, Bytes: 9*100 + 36}, last: 50, oldest: 1_700_000_000_000, newest: 1_700_000_000_008, end: ends[8]}
		if err != nil || c != want {
			t.Errorf("inspect = %+v, %v, want %+v", c, err, want)
		}
		c, err = inspect(bytes.NewReader(file), 42, int64(len(file)), ends[6])
		if err != nil || c.amount.Blocks != 2 || c.amount.Items != 3 || c.last != 50 || c.end != ends[8] {
			t.Errorf("inspect from record 7 = %+v, %v, want the last two", c, err)
		}
	}
}

// R36.
func TestCutTailLosesOnlyTheTornRecord(t *testing.T) {
	for _, trailer := range []bool{false, true} {
		file, ends := image(7, 4, 50, trailer)
		for cut := range len(file) + 1 {
			whole := 0
			for _, end := range ends {
				if int64(cut) >= end {
					whole++
				}
			}
			ids, damaged := readAll(t, file[:cut], 7)
			if len(ids) != whole || damaged != 0 {
				t.Fatalf("cut to %d bytes: read %v and %d damaged, want the first %d", cut, ids, damaged, whole)
			}
			c, err := inspect(bytes.NewReader(file[:cut]), 7, int64(cut), 0)
			if whole == 0 {
				want := errEmpty
				switch {
				case cut == 0:
					want = errCut
				case cut < segmentHeaderSize:
					want = errForeign
				}
				if !errors.Is(err, want) {
					t.Fatalf("cut to %d bytes: inspect = %v, want %v", cut, err, want)
				}
				continue
			}
			boundary := int64(cut) == ends[whole-1] || whole == 4
			if err != nil || c.amount.Blocks != int64(whole) || c.torn == boundary {
				t.Fatalf("cut to %d bytes: inspect = %+v, %v, want %d blocks, torn %v", cut, c, err, whole, !boundary)
			}
		}
	}
}

// R37.
func TestFlippedBitLosesOnlyTheRecordItHits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, trailer := range []bool{false, true} {
		clean, ends := image(7, 12, 300, trailer)
		for range 2000 {
			file := bytes.Clone(clean)
			bit := rnd.IntN(len(file) * 8)
			file[bit/8] ^= 1 << (bit % 8)
			hit := -1
			if bit/8 >= segmentHeaderSize {
				for i, end := range ends {
					if int64(bit/8) < end {
						hit = i
						break
					}
				}
			}
			var want []int
			for i := range ends {
				if i != hit {
					want = append(want, i)
				}
			}
			ids, damaged := readAll(t, file, 7)
			if len(ids) != len(want) || damaged > 1 {
				t.Fatalf("bit %d of byte %d: read %v and %d damaged, want %v", bit%8, bit/8, ids, damaged, want)
			}
			for i := range want {
				if ids[i] != want[i] {
					t.Fatalf("bit %d of byte %d: read %v, want %v", bit%8, bit/8, ids, want)
				}
			}
			if _, err := inspect(bytes.NewReader(file), 7, int64(len(file)), 0); err != nil {
				t.Fatalf("bit %d of byte %d: inspect = %v", bit%8, bit/8, err)
			}
		}
	}
}

func TestRecordInsideABodyIsNotTakenForOne(t *testing.T) {
	inner, _ := image(7, 3, 10, false)
	file := segmentHeader(7, time.Now())
	at := int64(len(file))
	file = appendRecord(file, 7, at, 7, Block{Body: NewBody(nil, inner), Items: 1, Time: time.Now()})
	file = appendRecord(file, 7, int64(len(file)), 8, block(8, 10))
	file[at+5] ^= 0xff // The length of the outer record is unreadable.
	if ids, _ := readAll(t, file, 7); len(ids) != 1 || ids[0] != 8 {
		t.Errorf("read %v, want only block 8", ids)
	}
	if ids, _ := readAll(t, inner, 8); len(ids) != 0 {
		t.Errorf("a copy under another name gives %v, want nothing", ids)
	}
}

// R41.
func TestNewerSegmentIsToldFromDamage(t *testing.T) {
	file, _ := image(7, 1, 10, false)
	binary.LittleEndian.PutUint32(file[8:], segmentVersion+1)
	if err := checkSegmentHeader(file, 7); !errors.Is(err, errForeign) {
		t.Errorf("with a wrong checksum = %v, want errForeign", err)
	}
	binary.LittleEndian.PutUint32(file[segmentHeaderSize-4:], checksum(file[:segmentHeaderSize-4]))
	if err := checkSegmentHeader(file, 7); !errors.Is(err, errNewer) {
		t.Errorf("with the right checksum = %v, want errNewer", err)
	}
	if _, err := inspect(bytes.NewReader(file), 7, int64(len(file)), 0); !errors.Is(err, errNewer) {
		t.Errorf("inspect = %v, want errNewer", err)
	}
}

func TestCursorSurvivesTheLossOfOneSlot(t *testing.T) {
	path := filepath.Join(t.TempDir(), cursorName)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok, err := readCursor(f); ok || err != nil {
		t.Errorf("an empty file = %v, %v, want no cursor", ok, err)
	}
	for g := uint64(1); g <= 5; g++ {
		if err := writeCursor(f, cursor{generation: g, base: 10 * g, off: int64(g)}); err != nil {
			t.Fatal(err)
		}
		if c, ok, err := readCursor(f); !ok || err != nil || c.base != 10*g {
			t.Errorf("after write %d: %+v, %v, %v", g, c, ok, err)
		}
	}
	if _, err := f.WriteAt([]byte{0xff}, cursorDistance+20); err != nil {
		t.Fatal(err)
	}
	if c, ok, err := readCursor(f); !ok || err != nil || c.base != 40 {
		t.Errorf("with the newest slot damaged: %+v, %v, %v, want the one before", c, ok, err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 20); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := readCursor(f); ok || err != nil {
		t.Errorf("with both damaged: %v, %v, want none", ok, err)
	}
}

func FuzzSegmentReader(f *testing.F) {
	for _, trailer := range []bool{false, true} {
		file, _ := image(7, 3, 20, trailer)
		f.Add(file)
		f.Add(file[:len(file)-5])
		f.Add(append(bytes.Clone(file[:60]), file[40:]...))
	}
	f.Add([]byte{})
	f.Add([]byte(segmentMagic + recordMagic + recordMagic))
	f.Fuzz(func(t *testing.T, file []byte) {
		r := bytes.NewReader(file)
		for at, end := int64(0), int64(len(file)); ; {
			rec, ok, err := nextRecord(r, 7, at, end)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if rec.at < at || rec.end() > end || rec.length < 0 {
				t.Fatalf("record %+v lies outside %d to %d", rec, at, end)
			}
			body, intact, err := readBody(r, rec)
			if err != nil {
				t.Fatal(err)
			}
			if intact {
				again := appendRecord(nil, 7, rec.at, rec.seq, Block{Body: NewBody(nil, body), Items: int(rec.items), Time: time.UnixMilli(rec.time), Shard: rec.shard, Format: rec.format})
				if !bytes.Equal(again, file[rec.at:rec.end()]) {
					t.Fatalf("record %+v is not what would be written", rec)
				}
			}
			at = rec.end()
		}
		for _, from := range []int64{0, 33, int64(len(file))} {
			c, err := inspect(r, 7, int64(len(file)), from)
			if err == nil && c.end > int64(len(file)) {
				t.Fatalf("inspect = %+v ends outside %d bytes", c, len(file))
			}
		}
	})
}
